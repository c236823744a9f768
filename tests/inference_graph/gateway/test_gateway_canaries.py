from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import (
    ROWS,
    SIZE,
    Rungs,
    Served,
    asked,
    gateway_settings,
    jpeg,
    served,
    talk,
)
from processes import until
from tiny_models import MakeDetector, MakePolicy

from foundation.errors import AccessError, InvalidInput, ModelError, Unavailable
from inference_graph.clients.canaries import CanaryClient
from inference_graph.contract import LADDER
from inference_graph.gateway.access import add_token
from inference_graph.gateway.policy_canary import PolicyCanary
from inference_graph.prediction_log.reader import read_log
from inference_graph.router import Policy

LOOKS = (1.0, 0.0)
IN_PROCESS = dict.fromkeys(LADDER, "in process.onnx")


def revision(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@pytest.fixture
def new(make_detector: MakeDetector) -> Path:
    """A nano that sees all three objects."""
    return make_detector(ROWS, size=SIZE, name="new-nano.onnx")


@pytest.fixture
def running(rungs: Rungs, tmp_path: Path) -> Iterator[Served]:
    settings = gateway_settings(always="nano", log_url=str(tmp_path / "log"), rungs=IN_PROCESS)
    with served(settings, rungs) as gateway:
        until(lambda: gateway.runtime.backends["large"].breaker.usable)
        yield gateway


def seen(gateway: Served, count: int = 40) -> Counter[int]:
    """How many objects the answers of a stream have, by how often."""
    pictures = [jpeg(number) for number in range(count)]
    answers = talk(gateway.stream, lambda stream: asked(stream, *pictures))
    assert [answer["frame"] for answer in answers] == list(range(count))
    return Counter(len(answer["detections"]) for answer in answers)


def test_frames_are_split_and_distinguished(running: Served, new: Path, tmp_path: Path) -> None:
    canaries = CanaryClient(running.url)
    before = canaries.revisions()["nano"]["stable"]
    reported = canaries.add("nano", str(new))
    assert reported == {"model": "nano", "stable": before, "revision": revision(new), "weight": 0}
    assert canaries.add("nano", str(new)) == reported  # again is no change
    assert seen(running, 10) == {1: 10}
    canaries.shift("nano", 50, LOOKS, "r1", 100)
    split = seen(running, 60)
    assert set(split) == {1, 3} and 10 <= split[3] <= 50  # 30 and five standard deviations
    canaries.shift("nano", 100, LOOKS, "r1", 100)
    assert seen(running, 10) == {3: 10}
    canaries.remove("nano")
    canaries.remove("nano")
    assert seen(running, 10) == {1: 10}
    running.runtime.log.flush()
    rows = until(lambda: _rows(tmp_path, 90))
    assert all(row["asked"] == row["revision"] for row in rows)
    assert Counter(row["revision"] for row in rows)[revision(new)] == split[3] + 10


def _rows(tmp_path: Path, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_log(str(tmp_path / "log")).to_pylist()
    return rows if len(rows) >= count else []


def test_the_stable_revision_answers_what_the_canary_fails_at(
    running: Served, new: Path, tmp_path: Path
) -> None:
    canaries = CanaryClient(running.url)
    canaries.add("nano", str(new))
    backend = running.runtime.canaries.all["nano"].backend

    async def broken(*_: object) -> Any:
        raise Unavailable("the new weights crash")

    backend.rung.detect = broken
    canaries.shift("nano", 100, (0.0, 0.0), "r1", 100)
    assert seen(running, 8) == {1: 8}
    running.runtime.log.flush()
    rows = until(lambda: _rows(tmp_path, 8))
    assert {(row["answered_by"], row["asked"]) for row in rows} == {("nano", revision(new))}
    assert [row["fallback"] for row in rows] == ["failed"] * 3 + ["open"] * 5
    assert {row["revision"] for row in rows} == {canaries.revisions()["nano"]["stable"]}
    assert running.runtime.backends["nano"].breaker.usable


def test_a_promoted_canary_is_the_rung(running: Served, new: Path) -> None:
    canaries = CanaryClient(running.url)
    canaries.add("nano", str(new))
    canaries.promote("nano", revision(new))
    canaries.promote("nano", revision(new))  # again is no error
    assert canaries.revisions()["nano"] == {
        "model": "nano",
        "stable": revision(new),
        "revision": "",
        "weight": 0,
    }
    assert seen(running, 5) == {3: 5}


def test_no_frame_is_lost_when_traffic_moves(running: Served, new: Path, rungs: Rungs) -> None:
    canaries = CanaryClient(running.url)
    rungs["nano"].delay = 0.02  # frames are at work when it moves
    canaries.add("nano", str(new))

    async def session(stream: Any) -> list[Any]:
        found = []
        for number in range(60):
            if number % 10 == 0:
                moving = asyncio.create_task(asyncio.to_thread(move, number // 10))
            found += await asked(stream, jpeg(number))
        await moving
        return found

    def move(step: int) -> None:
        if step < 4:
            canaries.shift("nano", (5, 25, 50, 100)[step], LOOKS, "r1", 100)
        else:
            canaries.promote("nano", revision(new))

    answers = talk(running.stream, session)
    assert [answer["frame"] for answer in answers] == list(range(60))
    assert {answer["type"] for answer in answers} == {"detections"}
    assert {answer["fallback"] for answer in answers} == {""}
    assert len(answers[-1]["detections"]) == 3


def test_looks_are_the_rollouts_while_it_lasts(running: Served, new: Path, tmp_path: Path) -> None:
    canaries = CanaryClient(running.url)
    canaries.add("nano", str(new))
    canaries.shift("nano", 50, LOOKS, "r1", 100)
    running.runtime._shadow._concurrency = 100
    seen(running, 30)
    rows = until(lambda: _rows(tmp_path, 30))
    assert {(row["revision"] == revision(new), row["shadow"]) for row in rows} == {
        (True, True),
        (False, False),
    }
    assert {row["agreement"] for row in rows if row["shadow"]} == {1.0}


def test_what_cannot_take_the_place_is_refused(
    running: Served, new: Path, make_detector: MakeDetector, rungs: Rungs, tmp_path: Path
) -> None:
    canaries = CanaryClient(running.url)
    other = make_detector(ROWS, ("person", "tram"), size=SIZE, name="tram.onnx")
    own = rungs["nano"].rung._detector.config.weights
    for target, kind, reported in (
        (str(other), InvalidInput, "other classes"),
        (str(own), InvalidInput, "in use already"),
        ("127.0.0.1:9", Unavailable, "does not answer"),
        ("nowhere", InvalidInput, "give HOST:PORT"),
        (str(tmp_path / "none.onnx"), ModelError, "none.onnx"),
    ):
        with pytest.raises(kind, match=reported):
            canaries.add("nano", target)
    with pytest.raises(InvalidInput, match="no canary"):
        canaries.shift("nano", 5, LOOKS, "r", 1)
    with pytest.raises(InvalidInput, match="no canary"):
        canaries.promote("nano", revision(new))
    canaries.add("nano", str(new))
    with pytest.raises(InvalidInput, match="remove it first"):
        canaries.add("nano", str(other))
    with pytest.raises(Unavailable, match="no gateway answers"):
        CanaryClient("http://127.0.0.1:9").revisions()


def test_a_file_is_read_only_where_files_are_served(rungs: Rungs, new: Path) -> None:
    with (
        served(gateway_settings(), rungs) as gateway,
        pytest.raises(InvalidInput, match="give its HOST:PORT"),
    ):
        CanaryClient(gateway.url).add("nano", str(new))


def test_a_new_policy_decides_for_whole_segments(
    rungs: Rungs, make_policy: MakePolicy, tmp_path: Path
) -> None:
    old = make_policy(bias=(9.0, 0, 0), name="old.onnx")
    new = make_policy(bias=(0, 9.0, 0), name="new.onnx")
    log = str(tmp_path / "log")
    with served(gateway_settings(policy=old, log_url=log), rungs) as gateway:
        canaries = CanaryClient(gateway.url)
        reported = canaries.add_policy(new, hashlib.sha256(new.read_bytes()).hexdigest())
        assert (reported["stable"], reported["revision"]) == (revision(old), revision(new))
        with pytest.raises(ModelError, match="SHA-256"):
            canaries.add_policy(new, "0" * 64)
        with pytest.raises(InvalidInput, match="in use already"):
            canaries.add_policy(old, "")
        canaries.shift("policy", 50, (0.0, 0.0), "r1", 5)
        refused = gateway.http.post(
            "/v1/policy",
            content=old.read_bytes(),
            headers={"content-type": "application/octet-stream"},
        )
        assert refused.status_code == 409 and "rolled out" in refused.json()["detail"]

        pictures = [jpeg(number) for number in range(60)]
        answers = talk(f"{gateway.stream}?session=cam", lambda one: asked(one, *pictures))
        chosen = [answer["rung"] for answer in answers]
        wanted = PolicyCanary(Policy(new), 50, "r1", 5)
        assert chosen == [
            "small" if wanted.decides("cam", number) else "nano" for number in range(60)
        ]
        assert set(chosen) == {"small", "nano"}
        canaries.promote("policy", revision(new))
        answers = talk(gateway.stream, lambda one: asked(one, *pictures[:3]))
        assert {answer["rung"] for answer in answers} == {"small"}
        gateway.runtime.log.flush()
    rows = read_log(log, columns=["rung", "policy_revision"]).to_pylist()
    assert {(row["rung"], row["policy_revision"]) for row in rows} == {
        ("nano", revision(old)),
        ("small", revision(new)),
    }


def test_a_segments_draw_stays_when_the_weight_rises(make_policy: MakePolicy) -> None:
    policy = Policy(make_policy())
    before: set[int] = set()
    for weight in (0, 5, 25, 50, 100):
        canary = PolicyCanary(policy, weight, "r", 10)
        mine = {number for number in range(4000) if canary.decides("s", 10 * number)}
        assert before <= mine
        assert len(mine) == pytest.approx(40 * weight, abs=160)  # five standard deviations
        before = mine


def test_only_operators_touch_canaries(rungs: Rungs, new: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    robot, operator = (
        add_token(tokens, name, [role]) for name, role in (("a", "stream"), ("b", "operate"))
    )
    with served(gateway_settings(tokens=tokens, rungs=IN_PROCESS), rungs) as gateway:
        for token in (None, robot):
            with pytest.raises(AccessError):
                CanaryClient(gateway.url, token).add("nano", str(new))
        assert CanaryClient(gateway.url, operator).add("nano", str(new))["weight"] == 0
