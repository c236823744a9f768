from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_samples import Rungs, Served, asked, gateway_settings, jpeg, received, served, talk
from tiny_models import MakePolicy

from feature_transformer.observation import FRAME_FEATURES, LOOK_NAMES, OBSERVATION_SIZE
from foundation.audit_log import read_entries
from foundation.errors import (
    AccessError,
    ConfigurationError,
    Forbidden,
    GateRefused,
    ModelError,
    SchemaMismatch,
    Unavailable,
)
from inference_graph.clients.policy import Swapped, policy_in_use, swap_policy
from inference_graph.gateway.access import add_token
from inference_graph.prediction_log.reader import read_log

_COUNT = FRAME_FEATURES + LOOK_NAMES.index("count_25")


def always(rung: int) -> tuple[float, ...]:
    return tuple(9.0 * (index == rung) for index in range(3))


@pytest.fixture
def nano(make_policy: MakePolicy) -> Path:
    return make_policy(bias=always(0), name="nano-policy.onnx")


@pytest.fixture
def small(make_policy: MakePolicy) -> Path:
    notes = {"gearshift.latency_weight": "0.25", "gearshift.card": json.dumps({"for": "night"})}
    return make_policy(bias=always(1), name="small-policy.onnx", notes=notes)


@pytest.fixture
def running(rungs: Rungs, nano: Path, tmp_path: Path) -> Iterator[Served]:
    settings = gateway_settings(policy=nano, log_url=str(tmp_path / "log"))
    with served(settings, rungs) as gateway:
        yield gateway


def revision(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def send(gateway: Served, data: bytes, **options: str) -> httpx.Response:
    kind = options.pop("kind", "application/octet-stream")
    return gateway.http.post(
        "/v1/policy", content=data, headers={"content-type": kind}, params=options
    )


def test_a_stream_goes_on_under_the_new_policy(
    running: Served, nano: Path, small: Path, tmp_path: Path
) -> None:
    sent = small.read_bytes()

    async def session(stream: Any) -> list[dict[str, Any]]:
        first = await asked(stream, *map(jpeg, range(3)))
        answer = await asyncio.to_thread(send, running, sent)
        assert answer.json() == {
            "revision": revision(small),
            "sha256": hashlib.sha256(sent).hexdigest(),
            "latency_weight": 0.25,
            "card": {"for": "night"},
            "replaced": revision(nano),
        }
        return first + await asked(stream, *map(jpeg, range(3, 6)))

    answers = talk(running.stream, session)
    assert [answer["frame"] for answer in answers] == list(range(6))
    assert [answer["rung"] for answer in answers] == ["nano"] * 3 + ["small"] * 3
    running.runtime.log.flush()
    rows = read_log(str(tmp_path / "log"), columns=["frame_id", "policy_revision", "rung"])
    found = {row["frame_id"]: row["policy_revision"] for row in rows.to_pylist()}
    assert found == {
        **dict.fromkeys(range(3), revision(nano)),
        **dict.fromkeys(range(3, 6), revision(small)),
    }


def test_the_frame_at_work_is_finished_by_the_policy_before(
    running: Served, rungs: Rungs, nano: Path, small: Path, tmp_path: Path
) -> None:
    rungs["nano"].hanging = True

    async def session(stream: Any) -> list[dict[str, Any]]:
        await stream.send(jpeg())
        while rungs["nano"].asked == 0:
            await asyncio.sleep(0.01)
        answer = await asyncio.to_thread(send, running, small.read_bytes())
        assert answer.status_code == 200
        await stream.send(jpeg(1))
        rungs["nano"].hanging = False
        return [await received(stream), await received(stream)]

    answers = talk(running.stream, session)
    assert [answer["rung"] for answer in answers] == ["nano", "small"]
    running.runtime.log.flush()
    rows = read_log(str(tmp_path / "log"), columns=["frame_id", "policy_revision"]).to_pylist()
    reported = [row["policy_revision"] for row in sorted(rows, key=lambda row: row["frame_id"])]
    assert reported == [revision(nano), revision(small)]


def test_the_memory_of_a_stream_survives(rungs: Rungs, nano: Path, make_policy: MakePolicy) -> None:
    # Small answers where the frame before had an object; a stream that forgot would begin at nano.
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[_COUNT, 1] = 100.0
    remembering = make_policy(weights, (0.5, 0.0, 0.0), name="remembering.onnx")
    with served(gateway_settings(policy=nano), rungs) as gateway:

        async def session(stream: Any) -> list[dict[str, Any]]:
            first = await asked(stream, jpeg())
            await asyncio.to_thread(send, gateway, remembering.read_bytes())
            return first + await asked(stream, jpeg(1))

        answers = talk(gateway.stream, session)
        fresh = talk(gateway.stream, lambda stream: asked(stream, jpeg()))
    assert [answer["rung"] for answer in answers + fresh] == ["nano", "small", "nano"]


def test_the_operating_point_is_the_new_policys_unless_given(
    rungs: Rungs, nano: Path, small: Path, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    with served(gateway_settings(policy=nano, log_url=log), rungs) as gateway:

        async def session(stream: Any) -> None:
            async def other() -> None:
                url = f"{gateway.stream}?latency_weight=0.5"
                await asyncio.to_thread(lambda: talk(url, lambda two: asked(two, jpeg())))

            await asked(stream, jpeg())
            await other()
            await asyncio.to_thread(send, gateway, small.read_bytes())
            await asked(stream, jpeg(1))
            await other()

        talk(gateway.stream, session)
        gateway.runtime.log.flush()
        rows = read_log(log, columns=["latency_weight"]).to_pylist()
        reported = gateway.http.get("/metrics").text
    assert [row["latency_weight"] for row in rows] == [0.1, 0.5, 0.25, 0.5]
    assert reported.count("gearshift_policy_info{") == 1
    assert f'latency_weight="0.25",revision="{revision(small)}"' in reported or (
        f'revision="{revision(small)}",latency_weight="0.25"' in reported
    )


@pytest.mark.parametrize(
    ("notes", "status", "reported"),
    [
        ({"gearshift.schema_hash": "0" * 64}, 409, "observation schema"),
        ({"gearshift.ladder": json.dumps(["nano", "large"])}, 409, "ladder"),
        ({"gearshift.latency_weight": "-1"}, 422, "latency_weight"),
        ({"gearshift.schema_hash": None}, 422, "schema"),
    ],
)
def test_a_policy_that_a_start_would_refuse_is_refused(
    running: Served, nano: Path, make_policy: MakePolicy, notes: Any, status: int, reported: str
) -> None:
    bad = make_policy(bias=always(2), name="bad.onnx", notes=notes)
    answer = send(running, bad.read_bytes())
    assert answer.status_code == status
    detail = answer.json()["detail"]
    assert reported in detail and detail.startswith("the policy sent")
    assert running.http.get("/v1/policy").json()["revision"] == revision(nano)
    frame = talk(running.stream, lambda stream: asked(stream, jpeg()))[0]
    assert frame["rung"] == "nano"


def test_what_is_no_policy_is_refused(running: Served, rungs: Rungs, nano: Path) -> None:
    detector = rungs["nano"].rung._detector.config.weights
    cases = [
        (b"", {}, 422, "no ONNX"),
        (b"\x00" * 100, {}, 422, "no ONNX"),
        (detector.read_bytes(), {}, 422, "no policy"),
        (nano.read_bytes(), {"kind": "text/plain"}, 415, "application/octet-stream"),
        (nano.read_bytes(), {"sha256": "0" * 64}, 422, "SHA-256"),
        (nano.read_bytes(), {"sha256": "short"}, 422, "sha256"),
        (nano.read_bytes(), {"replaces": "0123456789ab"}, 409, revision(nano)),
        (bytes(16 * 1024 * 1024 + 1), {}, 413, "16777216"),
    ]
    for data, options, status, reported in cases:
        answer = send(running, data, **options)
        assert (answer.status_code, reported in answer.json()["detail"]) == (status, True), reported
    assert running.http.get("/v1/policy").json()["revision"] == revision(nano)


def test_a_swap_of_what_is_in_use_as_it_was_seen(running: Served, nano: Path, small: Path) -> None:
    digest = hashlib.sha256(small.read_bytes()).hexdigest()
    options = {"sha256": digest.upper(), "replaces": revision(nano)}
    assert send(running, small.read_bytes(), **options).status_code == 200
    again = send(running, nano.read_bytes(), replaces=revision(nano))  # it is small's turn by now
    assert again.status_code == 409
    assert running.http.get("/v1/policy").json()["sha256"] == digest


def test_only_operators_swap(rungs: Rungs, nano: Path, small: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    streamer = add_token(tokens, "robot", ["stream", "feedback"])
    operator = add_token(tokens, "release", ["operate"])
    audit = tmp_path / "audit.jsonl"
    with served(gateway_settings(policy=nano, tokens=tokens, audit=audit), rungs) as gateway:
        for token, status in (("", 401), (streamer, 403), (operator, 200)):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            kind = {"content-type": "application/octet-stream"}
            swapped = gateway.http.post(
                "/v1/policy", content=small.read_bytes(), headers=headers | kind
            )
            assert swapped.status_code == status
            assert gateway.http.get("/v1/policy", headers=headers).status_code == status
        (swap,) = read_entries(audit)
        assert (swap.who, swap.what, swap.about) == ("release", "policy.swap", revision(small))
        assert swap.figures["replaces"] == revision(nano)
        # What cannot be recorded does not happen.
        audit.write_text("not an entry\n")
        headers = {
            "authorization": f"Bearer {operator}",
            "content-type": "application/octet-stream",
        }
        refused = gateway.http.post("/v1/policy", content=nano.read_bytes(), headers=headers)
        assert refused.status_code == 400 and "audit" in refused.json()["detail"]
        assert gateway.http.get("/v1/policy", headers=headers).json()["revision"] == revision(small)


def test_a_fixed_rung_has_no_policy_to_swap(rungs: Rungs, small: Path) -> None:
    with served(gateway_settings(always="large"), rungs) as gateway:
        answer = send(gateway, small.read_bytes())
        assert (answer.status_code, "always" in answer.json()["detail"]) == (400, True)
        assert gateway.http.get("/v1/policy").status_code == 404


def test_the_client_swaps_and_states_why_not(
    running: Served, nano: Path, small: Path, make_policy: MakePolicy, tmp_path: Path
) -> None:
    swapped = swap_policy(running.url, small, replaces=revision(nano))
    assert swapped == Swapped(running.url, revision(small), revision(nano), 0.25)
    assert policy_in_use(running.url)["revision"] == revision(small)
    with pytest.raises(GateRefused, match=f"policy {revision(small)} is in use"):
        swap_policy(running.url, small, replaces=revision(nano))
    other = make_policy(name="other.onnx", notes={"gearshift.schema_hash": "0" * 64})
    with pytest.raises(SchemaMismatch):  # seen before anything is sent
        swap_policy(running.url, other)
    with pytest.raises(ModelError, match="cannot read"):
        swap_policy(running.url, tmp_path / "missing.onnx")
    with pytest.raises(ConfigurationError, match="no gateway"):
        swap_policy("nowhere", small)
    with pytest.raises(Unavailable, match="check that it runs"):
        swap_policy("http://127.0.0.1:9", small)


def test_the_client_shows_its_token(rungs: Rungs, nano: Path, small: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    operator, robot = (
        add_token(tokens, name, [role]) for name, role in (("a", "operate"), ("b", "stream"))
    )
    with served(gateway_settings(policy=nano, tokens=tokens), rungs) as gateway:
        assert swap_policy(gateway.url, small, operator).replaced == revision(nano)
        with pytest.raises(Forbidden):
            swap_policy(gateway.url, small, robot)
        with pytest.raises(AccessError):
            swap_policy(gateway.url, small)
