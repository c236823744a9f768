"""The controller over a real log; the traffic is a list of what was asked of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollout_samples import OLD

from foundation.errors import (
    ConfigurationError,
    Forbidden,
    GateRefused,
    InvalidInput,
    ModelError,
    StorageError,
    Unavailable,
)
from foundation.signing.keys import new_key, read_private_key
from foundation.signing.signature import sign_file
from foundation.signing.trust import trust_key
from inference_graph.control.rollout import controller as room
from inference_graph.control.rollout.audit import history
from inference_graph.control.rollout.controller import Controller, start
from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.state import (
    RolloutState,
    controlling,
    give_order,
    read_state,
    write_state,
)
from inference_graph.control.rollout.traffic import AlreadyPromoted, Pending, Prepared
from inference_graph.detector import DetectorConfig
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog
from inference_graph.tasks.rung import files_digest, open_rung_file

QUICK = RolloutPlan(
    without_accuracy=True, min_seconds=0.0, settle_seconds=0.0, error_limit=0.1, latency_limit=1.5
)


class RecordedTraffic:
    """Records what a controller asks for; fails when configured to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.failing: Exception | None = None
        self.pending: dict[Any, int] = {}
        self.flowing = True

    def _note(self, what: Any) -> None:
        if self.failing is not None:
            raise self.failing
        if self.pending.get(what, 0):
            self.pending[what] -= 1
            raise Pending(f"{what} is under way")
        self.asked.append(what)

    def prepare(self, rollout: RolloutState) -> Prepared:
        self._note("prepare")
        return Prepared(OLD, rollout.sha256[:12], "small-canary")

    def shift(self, rollout: RolloutState, weight: int) -> None:
        self._note(weight)

    def promote(self, rollout: RolloutState) -> None:
        self._note("promote")

    def withdraw(self, rollout: RolloutState) -> None:
        self._note("withdraw")

    def flows(self, rollout: RolloutState) -> bool:
        return self.flowing


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(b"new weights")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    opened = PredictionLog(LogConfig(str(tmp_path / "log")))
    yield opened
    opened.close()


@pytest.fixture
def controlled(
    tmp_path: Path, weights: Path, log: PredictionLog
) -> tuple[Controller, RecordedTraffic, Path]:
    traffic = RecordedTraffic()
    folder = tmp_path / "rollout"
    start(folder, "small", str(weights), QUICK, "anna")
    return Controller(folder, str(tmp_path / "log"), traffic), traffic, folder


def answers(
    log: PredictionLog, state: RolloutState, slower: float = 1.0, count: int = 1500
) -> None:
    """Answers after the step began, as the draws of its weight have them."""
    assert state.since is not None
    rng = np.random.default_rng(state.step)
    new = rng.random(count) < state.weight / 100
    spent = 10 * np.exp(rng.normal(0, 0.1, count)) * np.where(new, slower, 1.0)
    for number in range(count):
        revision = state.canary if new[number] else OLD
        log.append(
            PredictionRow(
                event_id=f"{state.rollout}-{state.step}-{number}",
                time=state.since + timedelta(microseconds=number),
                source="stream",
                session="s",
                frame_id=number,
                rung="small",
                answered_by="small",
                revision=revision,
                asked=revision,
                detect_ms=float(spent[number]),
            )
        )
    log.flush()


def phase(state: RolloutState | None) -> tuple[str, int]:
    assert state is not None
    return state.phase, state.weight


def test_an_equal_revision_is_promoted_step_by_step(
    controlled: tuple[Controller, RecordedTraffic, Path], log: PredictionLog
) -> None:
    controller, traffic, folder = controlled
    seen = [phase(state := controller.tick())]
    while state is not None and not state.ended:
        answers(log, state)
        seen.append(phase(state := controller.tick()))
        assert len(seen) < 10
    assert seen == [("step", 5), ("step", 25), ("step", 50), ("promoted", 100)]
    assert traffic.asked == ["prepare", 5, 25, 50, "promote"]
    assert controller.tick() is None
    written = history(folder)
    assert [(one["who"], one["action"]) for one in written] == [
        ("anna", "start"),
        *[("controller", "shift")] * 3,
        ("controller", "promoted"),
    ]
    assert "no limit is exceeded" in written[2]["detail"]
    assert all(datetime.fromisoformat(one["time"]).tzinfo for one in written)


def test_a_slower_revision_is_rolled_back_and_states_why(
    controlled: tuple[Controller, RecordedTraffic, Path], log: PredictionLog
) -> None:
    controller, traffic, folder = controlled
    state = controller.tick()
    assert state is not None
    answers(log, state, slower=4.0)
    state = controller.tick()
    assert phase(state) == ("rolled back", 0)
    assert traffic.asked == ["prepare", 5, "withdraw"]
    assert state is not None and "at 5 %: latency " in state.sentence
    numbers = state.findings["latency"]
    assert numbers["breached"] and numbers["frames"][1] > 50
    actions = {one["action"]: one for one in history(folder)}
    assert actions["roll back"]["figures"]["findings"]["latency"]["worse"] <= QUICK.alpha
    assert read_state(folder) == state


def test_people_move_it_on_or_end_it(controlled: tuple[Controller, RecordedTraffic, Path]) -> None:
    controller, traffic, folder = controlled
    controller.tick()
    give_order(folder, "promote", "ben", "looks well")
    assert phase(controller.tick()) == ("step", 25)
    give_order(folder, "abort", "ben", "boxes drift")
    state = controller.tick()
    assert phase(state) == ("rolled back", 0)
    assert state is not None and state.sentence == "ben ended it: boxes drift"
    assert [one["who"] for one in history(folder) if one["action"] in ("abort", "promote")] == [
        "ben",
        "ben",
    ]
    with pytest.raises(GateRefused, match="no rollout is under way"):
        give_order(folder, "abort", "ben", "")


def test_all_at_once_on_request(controlled: tuple[Controller, RecordedTraffic, Path]) -> None:
    controller, traffic, folder = controlled
    controller.tick()
    give_order(folder, "promote-all", "ben", "")
    assert phase(controller.tick()) == ("promoted", 100)
    assert traffic.asked == ["prepare", 5, "promote"]


def test_what_takes_its_time_is_asked_for_until_it_is_done(
    controlled: tuple[Controller, RecordedTraffic, Path], log: PredictionLog
) -> None:
    """No answer counts for a step before its share is in force."""
    controller, traffic, folder = controlled
    traffic.pending = {"prepare": 2, 5: 3, 25: 1, "promote": 2, "withdraw": 1}
    waited, seen = [], []
    for _ in range(40):
        state = controller.tick()
        assert state is not None
        waited.append(state.waiting)
        seen.append(phase(state))
        if state.ended:
            break
        if not state.waiting:
            assert state.since is not None and state.target is None
            answers(log, state)
        else:
            assert state == read_state(folder)
    assert list(dict.fromkeys(seen)) == [
        ("starting", 0),
        ("step", 0),
        ("step", 5),
        ("step", 25),
        ("step", 50),
        ("promoting", 50),
        ("promoted", 100),
    ]
    assert waited.count("prepare is under way") == 2
    assert waited.count("5 is under way") == 3
    assert waited.count("25 is under way") == 1
    assert waited.count("promote is under way") == 2
    assert traffic.asked == ["prepare", 5, 25, 50, "promote"]


@pytest.mark.parametrize("stuck", ["prepare", 5, 25, "promote"])
def test_it_is_ended_in_every_phase(
    stuck: Any, controlled: tuple[Controller, RecordedTraffic, Path], log: PredictionLog
) -> None:
    controller, traffic, folder = controlled
    traffic.pending = {stuck: 1000, "withdraw": 1}
    for _ in range(10):
        state = controller.tick()
        assert state is not None
        if state.waiting:
            break
        answers(log, state)
    assert state.waiting == f"{stuck} is under way"
    give_order(folder, "abort", "ben", "boxes drift")
    before = state.weight if state.phase != "promoting" else 100
    state = controller.tick()
    assert state is not None and phase(state) == ("rolling back", before)
    assert state.goal == 0
    state = controller.tick()
    assert phase(state) == ("rolled back", 0)
    assert state is not None and state.sentence == "ben ended it: boxes drift"
    assert traffic.asked[-1] == "withdraw"


@pytest.mark.parametrize("stuck", ["prepare", 5, "promote"])
def test_what_makes_no_progress_is_rolled_back(
    stuck: Any, controlled: tuple[Controller, RecordedTraffic, Path]
) -> None:
    controller, traffic, folder = controlled
    traffic.pending = {stuck: 1000}
    controller.tick()
    if stuck == "promote":
        give_order(folder, "promote-all", "ben", "")
        controller.tick()
    state = controller.tick()
    assert state is not None and state.waiting == f"{stuck} is under way"
    since = datetime.now(UTC) - timedelta(seconds=QUICK.ready_seconds + 1)
    write_state(folder, dataclasses.replace(state, waiting_since=since))
    state = controller.tick()
    assert state is not None and state.phase == "rolling back"
    assert state.sentence == f"nothing came of it within 600 s: {stuck} is under way"
    assert phase(controller.tick()) == ("rolled back", 0)


def test_people_move_on_what_is_being_moved(
    controlled: tuple[Controller, RecordedTraffic, Path],
) -> None:
    controller, traffic, folder = controlled
    traffic.pending = {5: 1000}
    controller.tick()
    give_order(folder, "promote", "ben", "")
    assert phase(controller.tick()) == ("step", 25)
    assert traffic.asked == ["prepare", 25]


def test_what_does_not_start_gets_no_traffic(
    controlled: tuple[Controller, RecordedTraffic, Path],
) -> None:
    controller, traffic, folder = controlled
    traffic.failing = Unavailable("small-1 ended while starting")
    with pytest.raises(Unavailable):  # neither can it be withdrawn now
        controller.tick()
    assert phase(read_state(folder)) == ("rolling back", 0)
    traffic.failing = None
    state = controller.tick()
    assert traffic.asked == ["withdraw"]
    assert state is not None and "ended while starting" in state.sentence


def test_after_a_crash_another_controller_goes_on(
    controlled: tuple[Controller, RecordedTraffic, Path], log: PredictionLog, tmp_path: Path
) -> None:
    controller, traffic, folder = controlled
    state = controller.tick()
    assert state is not None
    again = Controller(folder, str(tmp_path / "log"), traffic)
    answers(log, state)
    assert phase(again.tick()) == ("step", 25)  # the traffic flowed: its answers count
    assert traffic.asked == ["prepare", 5, 25]
    traffic.flowing = False
    third = Controller(folder, str(tmp_path / "log"), traffic)
    state = third.tick()
    assert phase(state) == ("step", 25)
    assert traffic.asked == ["prepare", 5, 25, "prepare", 25]
    for phase_before in ("promoting", "rolling back"):
        assert state is not None
        write_state(folder, dataclasses.replace(state, phase=phase_before))
        assert Controller(folder, str(tmp_path / "log"), traffic).tick() is not None
    assert traffic.asked[-2:] == ["promote", "withdraw"]


def test_a_step_that_cannot_be_decided_is_rolled_back(
    controlled: tuple[Controller, RecordedTraffic, Path],
) -> None:
    controller, _, folder = controlled
    state = controller.tick()
    assert state is not None and state.since is not None
    long_ago = datetime.now(UTC) - timedelta(hours=25)
    write_state(folder, dataclasses.replace(state, since=long_ago))
    state = controller.tick()
    assert phase(state) == ("rolled back", 0)
    assert state is not None and "at 5 % after 24 hours: not decided yet" in state.sentence


def test_an_engine_is_copied_with_its_grammar_and_named_by_its_models(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    given = tmp_path / "narrow.json"
    given.write_text('{"engine": "pocketsphinx", "grammar": "lamp.gram", "beam_width": -30}')
    grammar = given.with_name("lamp.gram")
    grammar.write_text("#JSGF V1.0;\ngrammar lamp;\npublic <lamp> = lamp on | lamp off;\n")
    private, public = new_key("release", tmp_path)
    for file in (given, grammar):
        sign_file(file, read_private_key(private))
    trust_key(tmp_path / "trust.json", public)
    begun = start(tmp_path / "rollout", "nano", str(given), QUICK, "anna")
    kept = Path(begun.source)
    assert sorted(one.name for one in kept.parent.iterdir()) == [
        "lamp.gram",
        "lamp.gram.sig",
        "nano.json",
        "nano.json.sig",
    ]
    # The canary's process is given what the manifests name, the digest, and the trust file.
    asked = DetectorConfig(
        kept.with_suffix(".onnx"), "nano", sha256=begun.sha256, trust=tmp_path / "trust.json"
    )
    assert open_rung_file(asked).revision == begun.sha256[:12]
    # Another grammar is another revision, and one that nobody signed.
    before = files_digest(given)
    for changed in (grammar, kept.with_name("lamp.gram")):
        changed.write_text(grammar.read_text().replace("on |", "on | lamp up |"))
    assert files_digest(given) != before
    with pytest.raises(ModelError, match=r"lamp\.gram has SHA-256"):
        open_rung_file(asked)
    with pytest.raises(ModelError, match="and its models have SHA-256"):
        open_rung_file(dataclasses.replace(asked, trust=None))


@pytest.mark.parametrize("failure", [Unavailable("no answer"), Forbidden("no right")])
def test_harm_is_seen_while_the_traffic_cannot_be_moved(
    failure: Exception,
    controlled: tuple[Controller, RecordedTraffic, Path],
    log: PredictionLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller, traffic, folder = controlled
    state = controller.tick()
    assert state is not None

    def away(rollout: RolloutState) -> bool:
        raise failure

    monkeypatch.setattr(traffic, "flows", away)
    with suppress(Unavailable):
        controller.tick()
    seen = read_state(folder)
    assert seen is not None and (seen.phase, seen.failure or seen.waiting) == ("step", str(failure))
    answers(log, state, slower=4.0)
    assert phase(controller.tick()) == ("rolled back", 0)
    seen = read_state(folder)
    assert seen is not None and seen.failure == ""


def test_a_log_that_stays_away_ends_a_step(
    controlled: tuple[Controller, RecordedTraffic, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, _, folder = controlled
    state = controller.tick()

    def away(*rest: object) -> None:
        raise StorageError("the bucket does not answer")

    monkeypatch.setattr(room, "read_log", away)
    with pytest.raises(StorageError):
        controller.tick()
    assert state is not None
    long_ago = datetime.now(UTC) - timedelta(hours=25)
    write_state(folder, dataclasses.replace(state, since=long_ago))
    state = controller.tick()
    assert phase(state) == ("rolled back", 0)
    assert state is not None and "at 5 % after 24 hours: the bucket" in state.sentence


def test_what_is_refused_for_long_is_rolled_back(
    controlled: tuple[Controller, RecordedTraffic, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that refuses the change, for example, or a right that is missing."""
    controller, traffic, folder = controlled
    controller.tick()

    def refused(rollout: RolloutState) -> None:
        raise Forbidden("the Kubernetes API answers 403")

    monkeypatch.setattr(traffic, "promote", refused)
    give_order(folder, "promote-all", "ben", "")
    state = controller.tick()
    assert state is not None and state.waiting == "the Kubernetes API answers 403"
    assert (state.phase, state.weight, state.goal) == ("promoting", 50, 100)
    since = datetime.now(UTC) - timedelta(seconds=QUICK.ready_seconds + 1)
    write_state(folder, dataclasses.replace(state, waiting_since=since))
    controller.tick()
    assert phase(controller.tick()) == ("rolled back", 0)


def test_an_abort_after_the_last_change_is_reported_as_too_late(
    controlled: tuple[Controller, RecordedTraffic, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, traffic, folder = controlled
    traffic.pending = {"promote": 1000}
    controller.tick()
    give_order(folder, "promote-all", "ben", "")
    controller.tick()

    def too_late(rollout: RolloutState) -> None:
        raise AlreadyPromoted

    monkeypatch.setattr(traffic, "withdraw", too_late)
    give_order(folder, "abort", "ben", "")
    state = controller.tick()
    assert phase(state) == ("promoted", 100)
    assert history(folder)[-1]["action"] == "promoted"


def test_what_cannot_begin_is_refused(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "rollout"
    with pytest.raises(ConfigurationError, match="give one of nano, small, large, policy"):
        start(folder, "huge", str(weights), QUICK, "anna")
    with pytest.raises(InvalidInput, match="there is no file"):
        start(folder, "small", str(tmp_path / "none.onnx"), QUICK, "anna")
    with pytest.raises(ConfigurationError, match="--sha256"):
        start(folder, "small", "s3://models/new", QUICK, "anna")
    engine = tmp_path / "small.json"
    engine.write_text('{"engine": "typewriter"}')
    with pytest.raises(ModelError, match="names the engine 'typewriter'"):
        start(folder, "small", str(engine), QUICK, "anna")
    with pytest.raises(ConfigurationError, match="is no policy; give an ONNX file"):
        start(folder, "policy", str(engine), QUICK, "anna")
    assert not list(folder.glob("files/*"))
    weights.with_name(f"{weights.name}.sig").write_bytes(b"who released it")
    begun = start(folder, "small", str(weights), QUICK, "anna")
    # Services with a trust file look for the signature beside what they load.
    assert Path(f"{begun.source}.sig").read_bytes() == b"who released it"
    assert begun.sha256 == hashlib.sha256(b"new weights").hexdigest()
    assert Path(begun.source).read_bytes() == b"new weights" and Path(begun.source) != weights
    with pytest.raises(GateRefused, match=f"rollout {begun.rollout} of small is under way"):
        start(folder, "nano", str(weights), QUICK, "ben")
    assert read_state(folder) == begun
    (folder / "state.json").write_text('{"phase": "later"}')
    with pytest.raises(InvalidInput, match="no state of a rollout"):
        read_state(folder)


def test_there_is_one_controller(tmp_path: Path) -> None:
    with controlling(tmp_path) as first, controlling(tmp_path) as second:
        assert (first, second) == (True, False)
    with controlling(tmp_path) as third:
        assert third
