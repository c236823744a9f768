"""Tokens of an issuer of the test's own, which serves its keys over HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from gateway_samples import Rungs, gateway_settings, jpeg, served
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from processes import closed_port, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from foundation.errors import AccessError, ConfigurationError, Forbidden, Unavailable
from inference_graph.gateway import jwks as jwks_module
from inference_graph.gateway.access import Role, TokenAccess, add_token
from inference_graph.gateway.oidc import OidcAccess
from inference_graph.gateway.oidc_config import OidcConfig


@dataclass
class Issuer:
    """Signs with joserfc, so that another library than the gateway's has made the tokens."""

    url: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    silent: bool = False
    drip: float = 0.0
    coding: str = ""

    def publish(self, *names: str, **extra: Any) -> None:
        keys = [self.keys[name].as_dict(private=False) | {"kid": name} | extra for name in names]
        self.documents["/keys"] = {"keys": keys}

    def token(self, kid: str = "one", alg: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        reported = {
            "iss": self.url,
            "aud": "gearshift",
            "sub": "anna",
            "exp": now + 600,
            "iat": now,
            "roles": ["stream", "unheard-of"],
        } | claims
        reported = {name: value for name, value in reported.items() if value is not None}
        key = self.keys[kid]
        return jwt.encode({"alg": alg, "kid": kid}, reported, key, algorithms=[alg])


@pytest.fixture(scope="module")
def made_keys() -> dict[str, Any]:
    def of(private: Any, kind: Any) -> Any:
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return kind.import_key(pem)

    return {
        "one": of(rsa.generate_private_key(65537, 2048), RSAKey),
        "two": of(rsa.generate_private_key(65537, 2048), RSAKey),
        "curve": of(ec.generate_private_key(ec.SECP256R1()), ECKey),
    }


@pytest.fixture
def issuer(made_keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    monkeypatch.setattr(jwks_module, "_PAUSE", 0.0)
    one = Issuer(keys=dict(made_keys))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one.asked.append(self.path)
            document = one.documents.get(self.path)
            if one.silent or document is None:
                self.send_error(503 if one.silent else 404)
                return
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(200)
            if one.coding:
                self.send_header("content-encoding", one.coding)
            self.end_headers()
            with contextlib.suppress(OSError):  # who asks has gone
                for place in range(0, len(body), 1 if one.drip else len(body) or 1):
                    self.wfile.write(body[place : place + (1 if one.drip else len(body))])
                    time.sleep(one.drip)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one.url = f"http://127.0.0.1:{server.server_port}"
        one.documents["/.well-known/openid-configuration"] = {
            "issuer": one.url,
            "jwks_uri": f"{one.url}/keys",
        }
        one.publish("one")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield one
        server.shutdown()
        thread.join()


def config(issuer: Issuer, **options: Any) -> OidcConfig:
    given = {"oidc_issuer": issuer.url, "oidc_audience": "gearshift", "oidc_leeway_seconds": 0.0}
    return OidcConfig(**(given | options))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def segments(token: str) -> list[dict[str, Any]]:
    return [
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        for part in token.split(".")[:2]
    ]


def unsigned(head: dict[str, Any], claims: dict[str, Any], value: str = "") -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (head, claims)
    ]
    return ".".join([*parts, value])


def test_who_has_a_token_of_the_issuer_comes_in(issuer: Issuer) -> None:
    access = OidcAccess(config(issuer))
    client = access.check(bearer(issuer.token()), Role.STREAM)
    assert (client.name, client.roles) == ("anna", {Role.STREAM})
    with pytest.raises(Forbidden, match="anna has the role stream; this needs the role operate"):
        access.check(bearer(issuer.token()), Role.OPERATE)
    assert access.check(bearer(issuer.token(aud=["other", "gearshift"])), Role.STREAM)
    # Discovery and keys once, however many tokens come.
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1_000_000_000}, "has expired"),
        ({"exp": None}, "exp"),
        ({"aud": "other"}, "[Aa]udience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://other.example"}, "[Ii]ssuer"),
        ({"iss": None}, "iss"),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"sub": None}, "no sub"),
        ({"sub": 7}, "does not count"),
    ],
)
def test_claims_that_do_not_count(issuer: Issuer, claims: dict[str, Any], message: str) -> None:
    with pytest.raises(AccessError, match=message):
        OidcAccess(config(issuer)).check(bearer(issuer.token(**claims)), Role.STREAM)


def test_forged_tokens(issuer: Issuer, made_keys: dict[str, Any]) -> None:
    access = OidcAccess(config(issuer, oidc_algorithms="RS256,ES256"))
    good = issuer.token()
    head, claims = segments(good)
    first, second, value = good.split(".")
    issuer.keys["one"], sound = made_keys["two"], issuer.keys["one"]
    strangers = issuer.token()  # another key under the known id
    issuer.keys["one"] = sound
    # The public key taken for a shared secret, the classic confusion of algorithms.
    unmarked = unsigned({"alg": "HS256", "kid": "one"}, claims)[:-1]
    mark = hmac.digest(sound.as_pem(private=False), unmarked.encode(), "sha256")
    confused = f"{unmarked}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"
    raised = claims | {"roles": ["operate"]}
    forged = [
        strangers,
        confused,
        unsigned(head | {"alg": "none"}, claims),
        unsigned(head | {"alg": "None"}, claims),
        unsigned(head, claims),
        unsigned(head, raised, value),  # other claims under a true signature
        unsigned(head | {"alg": "ES256"}, claims, value),
        unsigned(head | {"alg": ["RS256"]}, claims, value),
        unsigned({"kid": "one"}, claims, value),
        unsigned(head | {"kid": "../../one"}, claims, value),
        unsigned(head | {"kid": 1}, claims, value),
        unsigned(head | {"crit": ["x"], "x": 1}, claims, value),
        f"{first}.{second}.{value[:-6]}",
        f"{first}.{second[:-4]}.{value}",
        f"x.{second}.{value}",
        issuer.token(alg="RS512"),  # truly signed, but not with an algorithm of the list
        "a.b.c",
        "..",
    ]
    for token in forged:
        with pytest.raises(AccessError) as refused:
            access.check(bearer(token), Role.STREAM)
        assert refused.value.http_status == 401, token
    assert access.check(bearer(good), Role.STREAM).name == "anna"


def test_roles_and_names_come_from_the_claims_that_are_named(issuer: Issuer) -> None:
    def roles(value: Any, claim: str = "roles", **options: Any) -> set[str]:
        access = OidcAccess(config(issuer, oidc_roles_claim=claim, **options))
        return set(access._client(issuer.token(**{"roles": None} | value)).roles)

    assert roles({"roles": "stream operate"}) == {"stream", "operate"}
    nested = {"realm_access": {"roles": ["feedback"]}}
    assert roles(nested, "realm_access.roles") == {"feedback"}
    assert roles({"https://x.example/roles": ["sync"]}, "https://x.example/roles") == {"sync"}
    prefixed = {"roles": ["gs:stream", "operate", 7]}
    assert roles(prefixed, oidc_role_prefix="gs:") == {"stream"}
    for nothing in ({}, {"roles": None}, {"roles": {"stream": True}}, {"roles": 3}):
        assert roles(nothing) == set()
    named = OidcAccess(config(issuer, oidc_name_claim="email"))
    token = issuer.token(email="anna@example.org")
    assert named.check(bearer(token), Role.STREAM).name == "anna@example.org"
    odd = OidcAccess(config(issuer)).check(bearer(issuer.token(sub="auth0|x/../y")), Role.STREAM)
    assert len(odd.name) == 32 and odd.name.isalnum()


def test_keys_are_rotated(issuer: Issuer) -> None:
    access = OidcAccess(config(issuer))
    old = issuer.token("one")
    assert access.check(bearer(old), Role.STREAM)
    issuer.publish("one", "two")
    assert access.check(bearer(issuer.token("two")), Role.STREAM)  # unknown, so asked for
    assert access.check(bearer(old), Role.STREAM)
    issuer.publish("two", "curve")
    assert access.check(bearer(issuer.token("curve", "ES256")), Role.STREAM)
    with pytest.raises(AccessError, match="no such key"):  # not even what was verified before
        access.check(bearer(old), Role.STREAM)


def test_made_up_keys_do_not_flood_the_issuer(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_module, "_PAUSE", 3600.0)
    access = OidcAccess(config(issuer))
    before = len(issuer.asked)
    head, claims = segments(issuer.token())
    for number in range(50):
        with pytest.raises(AccessError):
            token = unsigned(head | {"kid": str(number)}, claims, "AAAA")
            access.check(bearer(token), Role.STREAM)
    assert len(issuer.asked) == before


def test_an_event_loop_never_waits_for_the_issuer(issuer: Issuer) -> None:
    access = OidcAccess(config(issuer))
    issuer.publish("two")
    token = issuer.token("two")

    async def asked() -> None:
        with pytest.raises(AccessError, match="no such key"):
            access.check(bearer(token), Role.STREAM)

    asyncio.run(asked())
    until(lambda: access._jwks.generation == 2)  # a thread has fetched them meanwhile
    assert access.check(bearer(token), Role.STREAM)


def test_an_issuer_that_is_silent(issuer: Issuer) -> None:
    issuer.silent = True
    access = OidcAccess(config(issuer))
    with pytest.raises(Unavailable, match="answers 503"):
        access.check(bearer(issuer.token()), Role.STREAM)
    issuer.silent = False
    assert access.check(bearer(issuer.token()), Role.STREAM)
    issuer.silent = True
    assert access.check(bearer(issuer.token(sub="bert")), Role.STREAM)  # its keys still count
    access._jwks._fetched -= 2 * 86_400
    with pytest.raises(Unavailable):
        access.check(bearer(issuer.token(sub="carl")), Role.STREAM)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b"[" * 20_000,
        b'{"keys": [1]}',
        b'{"keys": [{"kty": "oct", "k": "AA"}]}',
    ],
)
def test_documents_that_hold_no_key(issuer: Issuer, document: bytes) -> None:
    issuer.documents["/keys"] = document
    with pytest.raises(Unavailable):
        OidcAccess(config(issuer)).check(bearer(issuer.token()), Role.STREAM)


@pytest.mark.parametrize(
    "beside",
    [
        {"kid": ["one"]},
        {"kid": {}},
        {"kid": 1},
        {"alg": ["RS256"]},
        {"alg": 5},
        {"kty": 5},
        {"kty": ["RSA"]},
        {"n": 5},
        {"n": "\ud800"},
        {"e": None},
        {"kty": "EC", "crv": ["P-256"]},
        {"kty": "OKP", "crv": "Ed25519", "x": 5},
        {"use": ["sig"]},
        {"key_ops": ["encrypt"]},
    ],
)
def test_an_odd_key_costs_the_others_nothing(issuer: Issuer, beside: dict[str, Any]) -> None:
    issuer.publish("one")
    keys = issuer.documents["/keys"]["keys"]
    keys += [keys[0] | {"kid": "odd"} | beside, None, "one", []]
    access = OidcAccess(config(issuer))
    assert access.check(bearer(issuer.token()), Role.STREAM).name == "anna"
    with pytest.raises(AccessError):
        access.check(bearer(issuer.token(kid="two")), Role.STREAM)


@pytest.mark.parametrize("order", [("one", "curve"), ("curve", "one")])
def test_keys_of_two_kinds_may_share_an_id(issuer: Issuer, order: tuple[str, str]) -> None:
    issuer.publish(*order)
    for key in issuer.documents["/keys"]["keys"]:
        key["kid"] = "shared"
    access = OidcAccess(config(issuer))
    for name, algorithm in (("one", "RS256"), ("curve", "ES256")):
        issuer.keys["shared"] = issuer.keys[name]
        token = issuer.token(kid="shared", alg=algorithm)
        assert access.check(bearer(token), Role.STREAM).name == "anna"


@pytest.mark.filterwarnings("ignore:Key size")
def test_a_key_that_is_no_signature_key_or_too_short_does_not_count(issuer: Issuer) -> None:
    issuer.keys["short"] = RSAKey.generate_key(1024, auto_kid=False)
    issuer.publish("one", "short")
    access = OidcAccess(config(issuer))
    assert access.check(bearer(issuer.token()), Role.STREAM)
    with pytest.raises(AccessError, match="no such key"):
        access.check(bearer(issuer.token(kid="short")), Role.STREAM)
    for operations, counts in ((["encrypt"], False), (["sign"], False), (["verify"], True)):
        issuer.publish("one", key_ops=operations)
        with contextlib.nullcontext() if counts else pytest.raises(Unavailable):
            OidcAccess(config(issuer)).check(bearer(issuer.token()), Role.STREAM)


def test_an_issuer_that_withdraws_all_its_keys(issuer: Issuer) -> None:
    access = OidcAccess(config(issuer))
    token = issuer.token()
    assert access.check(bearer(token), Role.STREAM)
    issuer.publish()
    access._jwks._fetched -= 2 * access._config.oidc_refresh_seconds
    with contextlib.suppress(AccessError, Unavailable):
        access.check(bearer(token), Role.STREAM)  # starts the fetch
    until(lambda: not access._jwks._keys)
    for one in (token, issuer.token(sub="bert")):
        with pytest.raises(Unavailable, match="holds no public key"):
            access.check(bearer(one), Role.STREAM)
    issuer.publish("two")
    access._jwks._fetched -= 2 * access._config.oidc_refresh_seconds
    assert access.check(bearer(issuer.token(kid="two")), Role.STREAM)


@pytest.mark.parametrize("claims", [{"exp": 10**400}, {"sub": 5}, {"roles": [["stream"]]}])
def test_claims_of_odd_values_are_refused(issuer: Issuer, claims: dict[str, Any]) -> None:
    access = OidcAccess(config(issuer))
    with pytest.raises(AccessError):
        access.check(bearer(issuer.token(**claims)), Role.STREAM)


def test_a_name_of_half_a_character_is_a_name(issuer: Issuer) -> None:
    token = issuer.token(sub="half")
    head = {"alg": "RS256", "kid": "one"}
    text = json.dumps(segments(token)[1]).replace('"half"', '"\\ud800"')
    token = jws.serialize_compact(head, text, issuer.keys["one"])
    client = OidcAccess(config(issuer)).check(bearer(token), Role.STREAM)
    assert re.fullmatch("[0-9a-f]{32}", client.name)


def test_a_compressed_document_is_refused(issuer: Issuer) -> None:
    with pytest.raises(Unavailable, match="compressed"):
        issuer.coding = "gzip"
        OidcAccess(config(issuer)).check(bearer(issuer.token()), Role.STREAM)


def test_keys_for_something_else_and_discovery_of_somebody_else(issuer: Issuer) -> None:
    token = issuer.token()
    for extra in ({"use": "enc"}, {"alg": "RS512"}):
        issuer.publish("one", **extra)
        with pytest.raises((AccessError, Unavailable)):
            OidcAccess(config(issuer)).check(bearer(token), Role.STREAM)
    issuer.publish("one", use="sig", alg="RS256")
    assert OidcAccess(config(issuer)).check(bearer(token), Role.STREAM)
    discovery = issuer.documents["/.well-known/openid-configuration"]
    for change in ({"issuer": "https://other.example"}, {"jwks_uri": "http://192.0.2.1/keys"}):
        issuer.documents["/.well-known/openid-configuration"] = discovery | change
        with pytest.raises(Unavailable):
            OidcAccess(config(issuer)).check(bearer(token), Role.STREAM)


def test_keys_from_a_file(issuer: Issuer, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ConfigurationError, match="oidc_jwks"):
        OidcAccess(config(issuer, oidc_jwks=str(path)))
    one = issuer.keys["one"]
    path.write_text(json.dumps(KeySet([one]).as_dict(private=False)))
    access = OidcAccess(config(issuer, oidc_jwks=str(path)))
    now = int(time.time())
    claims = {"iss": issuer.url, "aud": "gearshift", "sub": "anna", "exp": now + 60}
    anonymous = jwt.encode({"alg": "RS256"}, claims, one, algorithms=["RS256"])
    # A single key needs no id.
    with pytest.raises(Forbidden, match="has the roles none"):
        access.check(bearer(anonymous), Role.STREAM)
    assert issuer.asked == []


@pytest.mark.parametrize(
    "options",
    [
        {"oidc_audience": "a"},
        {"oidc_issuer": "https://x.example"},
        {"oidc_issuer": "http://x.example", "oidc_audience": "a"},
        {"oidc_issuer": "x", "oidc_audience": "a"},
        {"oidc_issuer": "https://x", "oidc_audience": "a", "oidc_jwks": "http://x/keys"},
        {"oidc_issuer": "https://x", "oidc_audience": "a", "oidc_algorithms": "HS256"},
        {"oidc_issuer": "https://x", "oidc_audience": "a", "oidc_algorithms": "none"},
        {"oidc_issuer": "https://x", "oidc_audience": "a", "oidc_algorithms": ""},
        {"oidc_issuer": "https://x", "oidc_audience": "a", "oidc_leeway_seconds": 3600.0},
    ],
)
def test_what_could_not_be_checked_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        OidcConfig(**options)


def test_a_gateway_takes_both_kinds_of_tokens(issuer: Issuer, rungs: Rungs, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    plain = add_token(tokens, "robot-7", ["stream"])
    image, kind = jpeg(), {"content-type": "image/jpeg"}
    settings = gateway_settings(tokens=tokens, oidc=config(issuer))
    with served(settings, rungs) as gateway:

        def status(token: str) -> int:
            headers = kind | (bearer(token) if token else {})
            answer = gateway.http.post("/v1/detect", content=image, headers=headers)
            if answer.status_code != 200:
                assert set(answer.json()) == {"detail"}  # the same form for all
            return answer.status_code

        assert (status(plain), status(issuer.token())) == (200, 200)
        assert status(issuer.token(roles=["operate"])) == 403
        for wrong in ("", "guess", "a.b.c", issuer.token(aud="x"), issuer.token(exp=1)):
            assert status(wrong) == 401
        issuer.publish("one", "two")
        with connect(gateway.stream, additional_headers=bearer(issuer.token("two"))) as stream:
            stream.send(image)
            assert json.loads(stream.recv())["type"] == "detections"
        with (
            pytest.raises(InvalidStatus),
            connect(gateway.stream, additional_headers=bearer(issuer.token(exp=1))),
        ):
            pass


def test_a_dripping_issuer_holds_up_no_one_else(
    issuer: Issuer, rungs: Rungs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its documents have a time for all of them; only who needs its keys waits that long."""
    tokens = tmp_path / "tokens.jsonl"
    plain = add_token(tokens, "robot-7", ["watch"])
    settings = gateway_settings(tokens=tokens, oidc=config(issuer), refusals_per_minute=1e6)
    monkeypatch.setattr(jwks_module, "_TIMEOUT", 2.0)
    with served(settings, rungs) as gateway:

        def status(token: str) -> int:
            url = f"{gateway.url}/metrics"
            return httpx.get(url, headers=bearer(token), timeout=60, trust_env=False).status_code

        known = issuer.token(roles=["watch"])
        until(lambda: status(known) == 200)  # the gateway has the keys
        issuer.drip = 0.1  # a byte; the whole would take minutes
        strange = issuer.token("two", roles=["watch"])
        before = len(issuer.asked)

        with ThreadPoolExecutor(50) as pool:
            waiting = [pool.submit(status, strange) for _ in range(40)]
            until(lambda: len(issuer.asked) > before)
            for token in (plain, known) * 5:
                assert status(token) == 200
            assert {one.result() for one in waiting} == {401}
        assert len(issuer.asked) <= before + 10  # one fetch for many
        issuer.drip = 0.0
        issuer.publish("one", "two")
        until(lambda: status(strange) == 200)


def test_a_withdrawn_key_stops_counting(issuer: Issuer, rungs: Rungs) -> None:
    """Also for a token that was verified before: old keys are fetched again, whoever asks."""
    settings = gateway_settings(oidc=config(issuer, oidc_refresh_seconds=60.0), open_access=False)
    with served(settings, rungs) as gateway:
        token = issuer.token(roles=["stream", "watch"])

        def status() -> int:
            return gateway.http.get("/metrics", headers=bearer(token)).status_code

        keys = gateway.runtime.access._access._jwks
        assert status() == 200
        with connect(gateway.stream, additional_headers=bearer(token)) as stream:
            stream.send(jpeg())
            assert json.loads(stream.recv())["type"] == "detections"
            issuer.publish("two")
            assert status() == 200
            keys._fetched -= 60 + jwks_module._LATE
            assert status() == 401
            with pytest.raises(ConnectionClosed) as closed:
                stream.recv(30)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        issuer.publish("one")
        keys._fetched -= 60 + jwks_module._LATE
        assert status() == 200
        issuer.silent = True  # its keys count on while it fails, and no request waits for it
        keys._fetched -= 60 + jwks_module._LATE
        assert (status(), status()) == (200, 200)


@pytest.mark.parametrize("source", ["discovery", "file"])
def test_keys_rotated_under_open_streams_end_those_of_the_withdrawn_key_alone(
    issuer: Issuer, rungs: Rungs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """By the clock: 15 s are stated for a refresh of less than five; the rest is for a busy CPU."""
    monkeypatch.setattr(jwks_module, "_PAUSE", 5.0)
    file = tmp_path / "keys.json"

    def publish(*names: str) -> None:
        issuer.publish(*names)
        file.write_text(json.dumps(issuer.documents["/keys"]))

    publish("one", "two")
    options = {"oidc_jwks": str(file)} if source == "file" else {}
    oidc = config(issuer, oidc_refresh_seconds=1.0, **options)
    with (
        served(gateway_settings(oidc=oidc, open_access=False), rungs) as gateway,
        contextlib.ExitStack() as stack,
    ):
        streams = [
            stack.enter_context(
                connect(gateway.stream, additional_headers=bearer(issuer.token(key, sub=name)))
            )
            for key, name in (("one", "silent"), ("one", "busy"), ("two", "kept"))
        ]
        silent, busy, kept = streams

        def answered(stream: Any) -> str:
            stream.send(jpeg())
            return str(json.loads(stream.recv(30))["type"])

        assert {answered(stream) for stream in streams} == {"detections"}
        publish("two")
        with pytest.raises(ConnectionClosed) as ended:
            until(lambda: answered(busy) != "detections")
        with pytest.raises(ConnectionClosed) as unheard:
            silent.recv(30)
        for closed in (ended, unheard):
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        with pytest.raises(InvalidStatus):
            connect(gateway.stream, additional_headers=bearer(issuer.token("one")))
        assert answered(kept) == "detections"


def test_known_tokens_end_with_keys_too_old_to_count(issuer: Issuer, rungs: Rungs) -> None:
    """An issuer that is silent for longer than a day: also for a token that was verified before."""
    with served(gateway_settings(oidc=config(issuer), open_access=False), rungs) as gateway:
        headers = bearer(issuer.token(roles=["stream", "watch"]))
        with connect(gateway.stream, additional_headers=headers) as stream:
            stream.send(jpeg())
            assert json.loads(stream.recv(30))["type"] == "detections"
            issuer.silent = True
            gateway.runtime.access._access._jwks._fetched -= 2 * 86_400
            assert gateway.http.get("/metrics", headers=headers).status_code == 503
            with pytest.raises(ConnectionClosed) as closed:
                stream.recv(30)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013


def test_a_gateway_with_an_issuer_needs_no_file(issuer: Issuer, rungs: Rungs) -> None:
    settings = gateway_settings(oidc=config(issuer), open_access=False)
    with served(settings, rungs) as gateway:
        headers = bearer(issuer.token(roles=["operate"]))
        assert gateway.http.get("/metrics", headers=headers).status_code == 200
        assert gateway.http.get("/metrics", headers=bearer("guess")).status_code == 401
        assert gateway.http.get("/metrics").status_code == 401
    with pytest.raises(ConfigurationError, match="not settled"):
        gateway_settings(oidc=config(issuer), open_access=True)


def test_other_tokens_are_left_to_the_file(issuer: Issuer, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    plain = add_token(tokens, "robot-7", ["stream"])
    quiet = OidcConfig(oidc_issuer=f"http://127.0.0.1:{closed_port()}", oidc_audience="a")
    access = OidcAccess(quiet, TokenAccess(tokens))
    assert access.check(bearer(plain), Role.STREAM).name == "robot-7"
    with pytest.raises(Unavailable):
        access.check(bearer(issuer.token()), Role.STREAM)
