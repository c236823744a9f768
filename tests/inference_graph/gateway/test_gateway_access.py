from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_samples import Served, gateway_settings, jpeg, served, troubled_rungs
from processes import until
from tiny_models import MakeDetector
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from foundation.audit_log import AuditLog, read_entries
from foundation.errors import AccessError, ConfigurationError, Forbidden
from inference_graph.gateway.access import (
    OpenAccess,
    Role,
    TokenAccess,
    add_token,
    digest_of,
    remove_tokens,
)

ROLES = tuple(Role)


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    path = tmp_path / "tokens.jsonl"
    return path, {role: add_token(path, f"a-{role}", [role]) for role in ROLES}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_the_logger_of_this_machine_needs_no_line_in_the_file(
    tokens: tuple[Path, dict[str, str]],
) -> None:
    access = TokenAccess(tokens[0], "handed over at the start")
    basic = base64.b64encode(b"logger:handed over at the start").decode()
    client = access.check({"authorization": f"Basic {basic}"}, Role.OPERATE)
    assert (client.name, client.roles) == ("logger", {Role.OPERATE})
    for role in (Role.STREAM, Role.FEEDBACK):
        with pytest.raises(Forbidden, match="the token logger has the role operate"):
            access.check(bearer("handed over at the start"), role)
    with pytest.raises(AccessError):
        TokenAccess(tokens[0]).check(bearer("handed over at the start"), Role.OPERATE)


def test_a_token_is_kept_as_its_digest_only(tokens: tuple[Path, dict[str, str]]) -> None:
    path, made = tokens
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert not any(token in text for token in made.values())
    entries = [json.loads(line) for line in text.splitlines()]
    assert [entry["sha256"] for entry in entries] == [digest_of(made[role]) for role in ROLES]
    # The digest of "abc" as in FIPS 180.
    assert digest_of("abc").startswith("ba7816bf8f01cfea")
    access = TokenAccess(path)
    for role in ROLES:
        client = access.check(bearer(made[role]), Role(role))
        assert (client.name, client.roles) == (f"a-{role}", {role})


def test_tokens_are_taken_away_and_both_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEARSHIFT_WHO", "anna")
    path, audit = tmp_path / "tokens.jsonl", AuditLog(tmp_path / "audit.jsonl")
    made = [add_token(path, name, ["stream"], audit) for name in ("a", "b", "a")]
    access = TokenAccess(path)
    assert remove_tokens(path, "a", audit) == 2
    assert path.stat().st_mode & 0o077 == 0
    assert TokenAccess(path).check(bearer(made[1]), Role.STREAM).name == "b"
    with pytest.raises(AccessError):
        TokenAccess(path).check(bearer(made[0]), Role.STREAM)
    assert access.check(bearer(made[1]), Role.STREAM).name == "b"
    with pytest.raises(ConfigurationError, match="holds no token of 'a'"):
        remove_tokens(path, "a", audit)
    with pytest.raises(ConfigurationError, match="add another first"):
        remove_tokens(path, "b", audit)
    entries = read_entries(audit.path)
    assert [(one.who, one.what, one.about) for one in entries] == [
        ("anna", "token.add", "a"),
        ("anna", "token.add", "b"),
        ("anna", "token.add", "a"),
        ("anna", "token.remove", "a"),
    ]
    # The first digits of the digest tell which one it was, and nothing of the token itself.
    assert entries[1].figures["sha256"] == digest_of(made[1])[:12]
    assert made[0] not in audit.path.read_text()


def test_unknown_tokens_and_wrong_roles(tokens: tuple[Path, dict[str, str]]) -> None:
    path, made = tokens
    access = TokenAccess(path)
    digest = json.loads(path.read_text().splitlines()[0])["sha256"]
    for header in ("", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", f"Bearer {digest}"):
        with pytest.raises(AccessError):
            access.check({"authorization": header}, Role.STREAM)
    for strange in ("é", "\ud800", "x" * 100_000):
        with pytest.raises(AccessError):
            access.check(bearer(strange), Role.STREAM)
    with pytest.raises(AccessError, match="no token given"):
        access.check({}, Role.STREAM)
    with pytest.raises(
        Forbidden, match="a-feedback has the role feedback; this needs the role stream"
    ):
        access.check(bearer(made["feedback"]), Role.STREAM)


def test_a_token_as_the_password_of_basic_credentials(tokens: tuple[Path, dict[str, str]]) -> None:
    # KServe's logger can send no header of its own, but credentials of its url.
    path, made = tokens
    access = TokenAccess(path)

    def basic(text: str) -> dict[str, str]:
        return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}

    assert access.check(basic(f"any:{made['operate']}"), Role.OPERATE).name == "a-operate"
    for text in (made["operate"], f"{made['operate']}:", "a:guess", ":", ""):
        with pytest.raises(AccessError):
            access.check(basic(text), Role.OPERATE)
    for header in ("Basic", "Basic ???", "Basic " + "A" * 5000, "Basic /w=="):
        with pytest.raises(AccessError):
            access.check({"authorization": header}, Role.OPERATE)


def test_a_changed_file_is_read_again(
    tokens: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tokens
    access = TokenAccess(path)
    clock = [1e9]
    monkeypatch.setattr("inference_graph.gateway.access.time.monotonic", lambda: clock[0])
    kept = path.read_text().splitlines()[1:]
    path.write_text("\n".join(kept))
    clock[0] += 60
    with pytest.raises(AccessError):
        access.check(bearer(made["stream"]), Role.STREAM)
    access.check(bearer(made["operate"]), Role.OPERATE)
    path.write_text("an editor's slip")
    os.utime(path, (1, 1))
    clock[0] += 60
    access.check(bearer(made["operate"]), Role.OPERATE)  # no client is locked out by it
    path.unlink()
    clock[0] += 60
    access.check(bearer(made["operate"]), Role.OPERATE)


GOOD = {"name": "cam", "roles": ["stream"], "sha256": "0" * 64}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        '"text"',
        json.dumps(GOOD | {"name": ""}),
        json.dumps(GOOD | {"name": "a b"}),
        json.dumps(GOOD | {"roles": []}),
        json.dumps(GOOD | {"roles": ["admin"]}),
        json.dumps(GOOD | {"roles": None}),
        json.dumps(GOOD | {"roles": {"stream": 1}}),
        json.dumps(GOOD | {"sha256": "the token itself"}),
        json.dumps(GOOD | {"sha256": None}),
        "\ufeff\x00",
    ],
)
def test_a_tokens_file_that_cannot_be_used(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="tokens"):
        TokenAccess(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        TokenAccess(tmp_path / "missing")


def test_one_role_may_stand_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    entry = {"name": "cam", "role": "stream", "sha256": digest_of("t")}
    path.write_text(json.dumps(entry) + "\n\n")
    assert TokenAccess(path).check(bearer("t"), Role.STREAM).name == "cam"
    with pytest.raises(ConfigurationError, match="roles are king; give some of stream, "):
        add_token(path, "cam", ["king"])
    assert len(path.read_text().splitlines()) == 2


def test_open_access_is_for_this_machine() -> None:
    access = OpenAccess()
    for headers in (
        {},
        {"host": "127.0.0.1:8600"},
        {"host": "localhost:1", "origin": "http://localhost:3000"},
        {"host": "[::1]:8600", "origin": "http://[::1]:8600"},
    ):
        assert access.check(headers, Role.OPERATE).name == "local"
    # A page from elsewhere in this machine's browser, by its script or by a rebound name.
    for headers in (
        {"host": "127.0.0.1", "origin": "https://evil.example"},
        {"host": "127.0.0.1", "origin": "null"},
        {"host": "127.0.0.1", "origin": "http://127.0.0.1.evil.example"},
        {"host": "evil.example:8600"},
        {"host": "[::1"},
    ):
        with pytest.raises(Forbidden):
            access.check(headers, Role.STREAM)


@pytest.fixture
def guarded(
    make_detector: MakeDetector, tokens: tuple[Path, dict[str, str]], tmp_path: Path
) -> Iterator[Served]:
    settings = gateway_settings(tokens=tokens[0], log_url=str(tmp_path / "log"))
    with served(settings, troubled_rungs(make_detector)) as running:
        yield running


def stream_status(gateway: Served, headers: dict[str, str]) -> int:
    async def run() -> int:
        try:
            async with connect(gateway.stream, additional_headers=headers) as stream:
                await stream.send(jpeg())
                return 200 if json.loads(await stream.recv())["type"] == "detections" else 0
        except InvalidStatus as refused:
            assert json.loads(refused.response.body)["detail"]
            return refused.response.status_code

    return asyncio.run(run())


def test_a_token_that_is_taken_away_ends_its_streams(
    guarded: Served, tokens: tuple[Path, dict[str, str]]
) -> None:
    path, made = tokens
    spare = add_token(path, "spare", ["stream"])
    until(lambda: stream_status(guarded, bearer(spare)) == 200)  # the file is read again

    async def run() -> tuple[int, str]:
        async with (
            connect(guarded.stream, additional_headers=bearer(made["stream"])) as ended,
            connect(guarded.stream, additional_headers=bearer(spare)) as goes_on,
        ):
            for stream in (ended, goes_on):
                await stream.send(jpeg())
                assert json.loads(await stream.recv())["type"] == "detections"
            path.write_text("\n".join(path.read_text().splitlines()[1:]))
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(ended.recv(), 60)
            await goes_on.send(jpeg())
            assert json.loads(await goes_on.recv())["type"] == "detections"
        received = closed.value.rcvd
        return (received.code, received.reason) if received else (0, "")

    assert asyncio.run(run()) == (1008, "the token is not known; ask the operator for one")


NEEDED: dict[tuple[str, str], Role | None] = {
    ("post", "/v1/detect"): Role.STREAM,
    ("post", "/v1/tickets"): Role.STREAM,
    ("post", "/v1/feedback"): Role.FEEDBACK,
    ("post", "/v1/triggers"): Role.OPERATE,
    ("post", "/v1/triggers/alertmanager"): Role.OPERATE,
    ("post", "/v1/triggers/api/v2/alerts"): Role.OPERATE,
    ("get", "/v1/policy"): Role.OPERATE,
    ("post", "/v1/policy"): Role.OPERATE,
    ("get", "/v1/canaries"): Role.OPERATE,
    ("put", "/v1/canaries/policy"): Role.OPERATE,
    ("put", "/v1/canaries/{model}"): Role.OPERATE,
    ("delete", "/v1/canaries/{model}"): Role.OPERATE,
    ("post", "/v1/canaries/{model}/weight"): Role.OPERATE,
    ("post", "/v1/canaries/{model}/promote"): Role.OPERATE,
    ("put", "/v1/log/predictions/{name}"): Role.SYNC,
    ("put", "/v1/log/sessions/{name}"): Role.SYNC,
    ("post", "/v1/events"): Role.EVENTS,
    ("get", "/metrics"): Role.WATCH,
    ("get", "/healthz"): None,
    ("get", "/readyz"): None,
}
"""What docs/security.md states of each role, endpoint by endpoint."""


def test_every_role_at_every_endpoint(guarded: Served, tokens: tuple[Path, dict[str, str]]) -> None:
    paths = guarded.app.openapi()["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == set(NEEDED)
    wider = {Role.OPERATE: {Role.OPERATE, Role.WATCH, Role.EVENTS}}
    for (method, path), needed in NEEDED.items():
        url = path.replace("{model}", "nano").replace("{name}", "x")
        for method_asked in (method, "head") if method == "get" else (method,):
            bare = guarded.http.request(method_asked, url)
            assert (bare.status_code == 401) == (needed is not None), (method_asked, path)
            for role in ROLES:
                answer = guarded.http.request(method_asked, url, headers=bearer(tokens[1][role]))
                may = needed is None or needed in wider.get(role, {role})
                assert (answer.status_code == 403) != may, (method_asked, path, role)
                assert answer.status_code not in (401, 500), (method_asked, path, role)
    for role in ROLES:
        status = stream_status(guarded, bearer(tokens[1][role]))
        assert status == (200 if role == Role.STREAM else 403), role


def test_who_may_do_what(guarded: Served, tokens: tuple[Path, dict[str, str]]) -> None:
    made = tokens[1]
    feedback = {"event_id": "unknown", "kind": "confirm"}
    http = guarded.http

    def statuses(headers: dict[str, str]) -> tuple[int, ...]:
        image = {"content-type": "image/jpeg"} | headers
        answers = [
            http.post("/v1/detect", content=jpeg(), headers=image),
            http.post("/v1/feedback", json=feedback, headers=headers),
            http.get("/metrics", headers=headers),
            http.post("/v1/events", content=b"{}", headers=headers),
            *(http.get(path, headers=headers) for path in ("/healthz", "/readyz", "/docs")),
        ]
        for answer in answers[:4]:
            if answer.status_code >= 400:
                assert set(answer.json()) == {"detail"}
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
        return (stream_status(guarded, headers), *(answer.status_code for answer in answers))

    # stream, detect, feedback (404: no such answer), metrics, events (400: no event), the open ones
    assert statuses({}) == (401, 401, 401, 401, 401, 200, 200, 200)
    assert statuses(bearer("guess")) == (401, 401, 401, 401, 401, 200, 200, 200)
    assert statuses(bearer(made["stream"])) == (200, 200, 403, 403, 403, 200, 200, 200)
    assert statuses(bearer(made["feedback"])) == (403, 403, 404, 403, 403, 200, 200, 200)
    assert statuses(bearer(made["operate"])) == (403, 403, 403, 200, 400, 200, 200, 200)
    assert statuses(bearer(made["watch"])) == (403, 403, 403, 200, 403, 200, 200, 200)
    assert statuses(bearer(made["events"])) == (403, 403, 403, 403, 400, 200, 200, 200)
