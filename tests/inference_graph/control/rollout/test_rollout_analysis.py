from __future__ import annotations

import dataclasses
import math

import pytest
from rollout_samples import ARMS, NEW, OLD, OTHER, row, table

from components.bench.rollout.simulate import IDENTICAL, simulate, simulated
from components.bench.rollout.traffic_model import CameraFleet, rows
from foundation.errors import ConfigurationError
from inference_graph.control.rollout.analysis import StepAnalysis
from inference_graph.control.rollout.plan import RolloutPlan, shadow_shares
from inference_graph.control.rollout.rows import Arms, Segments, frames_of


def test_shadow_shares_are_even_and_add_up() -> None:
    canary, stable = shadow_shares("small", 5, 0.1)
    assert (canary, stable) == pytest.approx((1.0, 0.05 / 0.95))
    assert 0.05 * canary + 0.95 * stable == pytest.approx(0.1)
    assert shadow_shares("nano", 25, 0.1) == pytest.approx((0.2, 0.05 / 0.75))
    assert shadow_shares("large", 25, 0.1) == pytest.approx((0.4, 0.0))
    assert shadow_shares("policy", 25, 0.1) == (0.1, 0.1)
    assert Arms("small", OLD, NEW, 5, (1.0, 0.05 / 0.95)).chance_of_looked_at == pytest.approx(0.5)
    assert Arms("large", OLD, NEW, 25, (0.4, 0.0)).chance_of_looked_at == pytest.approx(0.1 / 0.85)


def test_the_error_rates_are_divided_among_metrics_and_steps() -> None:
    assert RolloutPlan().alpha == pytest.approx(0.05 / 12)
    for steps in ((), (5, 25), (25, 5, 100), (0, 100)):
        with pytest.raises(ConfigurationError, match="steps is"):
            RolloutPlan(steps=steps)


def test_a_frame_is_the_arms_that_was_asked_whoever_answered() -> None:
    fell = {"asked": NEW, "revision": OLD, "fallback": "failed"}
    found = list(
        frames_of(
            table(
                row(1),
                row(2, asked=NEW, revision=NEW, shadow=True, agreement=0.75),
                row(3, **fell, shadow=True, agreement=0.5),
                row(4, asked=NEW, error="no rung answered", answered_by="", revision=""),
                row(5, rung="nano", asked=OTHER),
                row(6, asked=OTHER),
            ),
            ARMS,
        )
    )
    assert [one.canary for one in found] == [False, True, True, True]
    assert dict(found[0].values) == {"errors": 0.0, "latency": math.log(10)}
    assert dict(found[1].values) == {
        "errors": 0.0,
        "latency": math.log(10),
        "retained": 0.75,
        "agreement": 0.75,
    }
    assert dict(found[2].values) == {"errors": 1.0, "retained": 0.5}
    assert dict(found[3].values) == {"errors": 1.0}


def test_rows_of_the_graph_are_known_by_revision_or_service() -> None:
    arms = dataclasses.replace(ARMS, service="small-canary", weight=25)
    lost = {"answered_by": "", "revision": "", "error": "the logger sent no answer"}
    graph = {"source": "graph", "asked": None, "session": "", "frame_id": None}
    found = list(
        frames_of(
            table(
                row(1, **graph, tags={"service": "small"}),
                row(2, **graph | {"revision": NEW}, tags={"service": "small-canary"}),
                row(3, **graph | lost, tags={"service": "small-canary"}),
                row(4, **graph | lost, tags={"service": "small"}),
            ),
            arms,
        )
    )
    assert [(one.canary, one.values["errors"]) for one in found] == [
        (False, 0.0),
        (True, 0.0),
        (True, 1.0),
        (False, 1.0),
    ]
    assert {one.chances["retained"] for one in found} == {0.25}


def test_the_reference_is_measured_against_itself() -> None:
    arms = Arms("large", OLD, NEW, 25, (0.4, 0.0))
    large = {"rung": "large", "answered_by": "large"}
    found = list(
        frames_of(
            table(
                row(1, **large),
                row(2, **large, asked=NEW, revision=NEW),
                row(3, **large, asked=NEW, revision=NEW, shadow=True, agreement=0.9),
            ),
            arms,
        )
    )
    assert [one.values.get("agreement") for one in found] == [1.0, None, pytest.approx(0.9)]


def test_a_policy_is_judged_by_segments() -> None:
    arms = Arms("policy", OLD, NEW, 50, (0.1, 0.1), segment_frames=3)
    segments = Segments(arms)

    def one(frame: int, revision: str = NEW, **fields: object) -> dict[str, object]:
        return row(frame, policy_revision=revision, **{"total_ms": math.e, **fields})

    early = [one(1), one(2)]  # of a segment that may have begun before the step
    whole = [
        one(3, shadow=True, agreement=0.5),
        one(4, answered_by="large"),
        one(5, fallback="late", total_ms=4 * math.e),
    ]
    moved = [one(6, OLD), one(7, NEW)]  # the traffic was moved within it
    assert segments.add(table(*early, *whole)) == []
    (found,) = segments.add(table(*moved, one(9)))
    assert found.canary and found.group == "s"
    assert dict(found.values) == pytest.approx(
        {
            "errors": 1 / 3,
            "latency": 1 + math.log(2),
            "agreement": 0.5,
            "retained": 1 / 3 + 2 / 3 * 0.5,
        }
    )
    assert segments.add(table(one(12))) and segments.add(table(one(15)))  # 6..8 held nothing new
    single = segments.add(table(row(1, session="", frame_id=None, policy_revision=OLD)))
    assert [unit.canary for unit in single] == [False]


def test_rows_read_twice_count_once() -> None:
    analysis = StepAnalysis(RolloutPlan(), ARMS)
    for _ in range(3):
        analysis.add(table(row(1), row(2, asked=NEW, revision=NEW)))
    assert analysis.look().units == (1, 1)
    assert analysis.look().verdict == "open"


def test_a_traffic_that_is_not_split_is_not_judged() -> None:
    arms = dataclasses.replace(ARMS, weight=5)
    analysis = StepAnalysis(RolloutPlan(), arms)
    analysis.add(table(*map(row, range(100))))
    assert analysis.look().verdict == "open"
    analysis.add(table(*map(row, range(100, 400))))  # none of 400 was the canary's
    found = analysis.look()
    assert found.verdict == "breached"
    assert "the canary has 0 of 400 in the log, 5 % were due" in found.sentence


def test_a_breach_states_why_with_numbers() -> None:
    plan, fleet = RolloutPlan(), CameraFleet()
    analysis = None
    for arms, drawn in rows(fleet, 25, plan, "latency", seed=1):
        analysis = analysis or StepAnalysis(plan, arms)
        analysis.add(drawn)
        if analysis.look().verdict != "open":
            break
    found = analysis.look() if analysis else None
    assert found is not None and found.verdict == "breached"
    assert "latency" in found.sentence and "at most +15% is tolerated" in found.sentence
    (latency,) = [one for one in found.findings if one.metric == "latency"]
    assert math.exp(latency.canary - latency.stable) == pytest.approx(1.3, rel=0.08)
    assert latency.worse <= plan.alpha and latency.frames[1] > 100


_QUICK = RolloutPlan(steps=(25, 50, 100), shadow_share=0.4)


@pytest.mark.parametrize(("model", "plan"), [("small", RolloutPlan()), ("policy", _QUICK)])
def test_faults_are_rolled_back_early_and_the_identical_is_promoted(
    model: str, plan: RolloutPlan
) -> None:
    reported = list[int]()
    found = simulate(
        plan, CameraFleet(model=model), 2, 7, lambda done, total: reported.append(done)
    )
    assert reported == list(range(1, 9))
    assert found.rolled_back == {"latency": 1.0, "errors": 1.0, "accuracy": 1.0}
    assert found.promoted_identical == 1.0
    assert set(found.frames[IDENTICAL]) == {str(weight) for weight in plan.steps[:-1]}


def test_what_cannot_be_decided_ends() -> None:
    plan = RolloutPlan(shadow_share=0.0, max_hours=0.005)
    ending = simulated(plan, CameraFleet(), IDENTICAL, 1)
    assert (ending.outcome, ending.weight) == ("undecided", 5)
    ending = simulated(
        dataclasses.replace(plan, without_accuracy=True, max_hours=24.0),
        CameraFleet(),
        IDENTICAL,
        1,
    )
    assert ending.outcome == "promoted"


def test_a_policy_is_slower_by_choosing_large_more_often() -> None:
    """The fault adds 30 % to the mean time, as declared."""
    plan, spent = RolloutPlan(), {True: list[float](), False: list[float]()}
    drawn = rows(CameraFleet(model="policy"), 50, plan, "latency", seed=3, portion=200_000)
    arms, table_ = next(drawn)
    for revision, ms in zip(
        table_["policy_revision"].to_pylist(), table_["total_ms"].to_pylist(), strict=True
    ):
        spent[revision == arms.canary].append(ms)
    mean = {arm: sum(all_of) / len(all_of) for arm, all_of in spent.items()}
    assert mean[True] / mean[False] == pytest.approx(1.3, rel=0.02)
