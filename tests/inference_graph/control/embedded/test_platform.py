"""The whole platform on real sockets: every process that the manifests name, for one policy."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from processes import until
from tiny_models import MakePolicy, drawn

from feature_transformer.observation import OBSERVATION_SIZE
from foundation.errors import AccessError, ConfigurationError, InvalidInput, Unavailable
from foundation.storage import sha256_file
from inference_graph.clients.gateway import StreamClient, StreamOptions, encode
from inference_graph.contract import LADDER
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.platform import Platform
from inference_graph.control.embedded.supervisor import READY
from inference_graph.gateway.access import add_token
from inference_graph.prediction_log.reader import read_log

pytestmark = pytest.mark.timeout(600)

FRAMES = [drawn(240, 320, seed) for seed in range(6)]
DARK = np.zeros_like(FRAMES[0])
ISSUER = "https://issuer.example"


@pytest.fixture
def token(tmp_path: Path) -> str:
    return add_token(tmp_path / "tokens.jsonl", "robot", ["stream"])


@pytest.fixture
def visitor(tmp_path: Path) -> str:
    """A token of an issuer whose key lies in a file."""
    key = ECKey.generate_key("P-256")
    (tmp_path / "keys.json").write_text(json.dumps(KeySet([key]).as_dict(private=False)))
    claims = {
        "iss": ISSUER,
        "aud": "gearshift",
        "sub": "anna",
        "roles": ["stream"],
        "exp": int(time.time()) + 3600,
    }
    return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key, algorithms=["ES256"])


@pytest.fixture
def config(
    make_policy: MakePolicy, sample_ladder: Path, tmp_path: Path, token: str, visitor: str
) -> UpConfig:
    """A policy that asks large for a dark first pixel and small for a bright one."""
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[:1024, 1] = 1.0
    policy = make_policy(weights, bias=(-9.0, 0.0, 5.0))
    return UpConfig(
        policy=policy,
        ladder=sample_ladder,
        state=tmp_path / "up",
        port=0,
        graph_port=0,
        tokens=tmp_path / "tokens.jsonl",
        deadline_ms=30000.0,
        shadow_share=0.0,
        image_share=1.0,
        oidc_issuer=ISSUER,
        oidc_audience="gearshift",
        oidc_jwks=str(tmp_path / "keys.json"),
    )


@pytest.fixture
def platform(config: UpConfig) -> Iterator[Platform]:
    with Platform(config) as running:
        running.start()
        yield running


async def stream(platform: Platform, token: str, frames: list[Any]) -> list[dict[str, Any]]:
    async with StreamClient(platform.gateway, token, StreamOptions()) as client:
        return [dict(message) async for message in client.stream(frames)]


def ask_graph(platform: Platform, frame: Any) -> httpx.Response:
    body = {"instances": [{"image": {"b64": base64.b64encode(encode(frame)).decode()}}]}
    return httpx.post(platform.graph, json=body, timeout=60, trust_env=False)


def of_graph(platform: Platform, count: int) -> list[dict[str, Any]]:
    """Rows of graph requests, which the detectors post after they have answered."""

    def found() -> list[dict[str, Any]]:
        rows = [row for row in read_log(platform.log_url).to_pylist() if row["source"] == "graph"]
        return rows if len(rows) >= count else []

    return until(found)


def test_frames_and_requests_go_through_every_service(
    platform: Platform, config: UpConfig, sample_ladder: Path, token: str, visitor: str
) -> None:
    """One start for all of it, for a start takes long."""
    states = {state.name: state for state in platform.states()}
    assert set(states) == {
        *LADDER,
        "router-predictor",
        "router-transformer",
        "graph",
        "gateway",
    }
    assert {state.state for state in states.values()} == {READY}

    answers = asyncio.run(stream(platform, token, [*FRAMES[:3], DARK]))
    assert [answer["frame"] for answer in answers] == [0, 1, 2, 3]
    reported = [(one["rung"], one["answered_by"], one["fallback"]) for one in answers]
    assert reported == [("small", "small", "")] * 3 + [("large", "large", "")]
    (answer,) = asyncio.run(stream(platform, visitor, FRAMES[:1]))
    assert answer["answered_by"] == "small"
    with pytest.raises(AccessError):
        asyncio.run(stream(platform, f"{visitor[:-8]}AAAAAAAA", FRAMES[:1]))

    for frame, rung in ((FRAMES[0], "small"), (DARK, "large")):
        answer = ask_graph(platform, frame)
        assert answer.status_code == 200
        (prediction,) = answer.json()["primary"]["predictions"]
        assert prediction["variant"] == rung
        assert prediction["revision"] == sha256_file(sample_ladder / f"{rung}.onnx")[:12]
    graph_rows = of_graph(platform, 2)
    assert {row["rung"]: row["answered_by"] for row in graph_rows} == {
        "small": "small",
        "large": "large",
    }
    assert all(len(row["probabilities"]) == 3 and row["width"] == 320 for row in graph_rows)

    # A rung that is killed is stood in for, started again, and used again.
    pid = states["small"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    answers = asyncio.run(stream(platform, token, FRAMES))
    assert len(answers) == len(FRAMES)
    assert {answer["type"] for answer in answers} == {"detections"}
    assert {answer["rung"] for answer in answers} == {"small"}
    assert {answer["answered_by"] for answer in answers} <= {"nano", "large"}
    assert all(answer["fallback"] for answer in answers)

    def small_answers() -> bool:
        platform.states()
        (answer,) = asyncio.run(stream(platform, token, FRAMES[:1]))
        return bool(answer["answered_by"] == "small")

    until(small_answers)
    assert {state.name: state.restarts for state in platform.states()}["small"] == 1

    until(lambda: read_log(platform.log_url).num_rows >= 4 + len(FRAMES) + 1)
    rows = read_log(platform.log_url)
    assert len(set(rows.column("event_id").to_pylist())) == rows.num_rows
    assert rows.column("source").to_pylist().count("graph") == 2
    for row in rows.to_pylist():
        assert row["image_kept"] == (row["source"] == "stream")


def test_all_of_it_ends(config: UpConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether a service is ready by then is otherwise a matter of the machine's load.
    monkeypatch.setattr("inference_graph.control.embedded.supervisor._answers", lambda url: False)
    with Platform(replace(config, ready_seconds=0.3)) as running:
        with pytest.raises(Unavailable, match=r"not ready after 0 s: .*gateway"):
            running.start()
        pids = [state.pid for state in running.states()]
    assert len(pids) == 7
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": Path("no.onnx")}, "there is no policy at no.onnx; run `gearshift demo`"),
        ({"ladder": Path("nowhere")}, "lacks nano, small, large.onnx"),
        ({"overlay": "moon"}, "moon is no overlay; .* cpu, cpu-shadow, edge, gke"),
    ],
)
def test_what_cannot_start_is_reported_before_anything_does(
    config: UpConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigurationError, InvalidInput), match=message):
        Platform(replace(config, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tokens": None, "oidc_issuer": None, "oidc_audience": None, "oidc_jwks": None},
            "give either a tokens file or open_access",
        ),
        ({"shadow_share": 1.5}, "shadow_share is 1.5; give 0 to 1"),
        ({"image_share": -0.1}, "image_share is -0.1; give 0 to 1"),
        ({"always": "huge"}, "always 'huge' is none of the rungs"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    config: UpConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(config, **change)
