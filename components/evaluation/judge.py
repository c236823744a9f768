"""A policy judged on the stored test clips: no detector runs, and nothing was chosen on them.

Rules are tuned on the tune clips. Latencies are those that were measured when the clips were
stored; router and tracker are billed at fixed milliseconds, so that the same policy gets the same
figures on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.evaluation.alternatives import (
    Bench,
    Routing,
    Tuned,
    at_latency,
    families,
    fixed_rungs,
    size_switching,
    tuned,
)
from components.evaluation.average_precision import match_detections
from components.evaluation.figures import Yardsticks, best_rule
from components.evaluation.own_answers import own_answers
from components.evaluation.report_schema import Estimate, Lift
from components.evaluation.resamples import certified_floor, estimate
from components.evaluation.tracked import tracked, with_reuse
from components.parallel import Progress, no_progress
from components.policy.closed_loop import Decide, route
from components.policy.label import look_blocks
from components.profiling.replay import Replay
from components.profiling.stored_clips import RESIZED, StoredClips, load_clips
from components.profiling.timing import TimingConfig, Timings
from feature_transformer.observation import DEFAULT_LATENCY_WEIGHT, FRAME_FEATURES
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.router import Policy


@configuration
class JudgeConfig:
    """How a policy is judged on stored clips.

    Attributes:
        points: operating points of its curve.
        lowest_latency_weight: the curve goes from here to the next, evenly in the logarithm.
        highest_latency_weight: see above.
        bootstrap: resamples of the clips.
        latency_ratios: latencies over large's at which the share of the gap is measured.
        confidence: of the accuracy retained that is certified.
        router_ms: milliseconds of observation and decision that every frame pays.
        tracker_ms: milliseconds of the tracker that every tracked frame pays.
        seed: entropy of mixes and resamples.
    """

    points: Annotated[int, Field(ge=2)] = 14
    lowest_latency_weight: Annotated[float, Field(gt=0)] = 0.005
    highest_latency_weight: Annotated[float, Field(gt=0)] = 1.0
    bootstrap: Annotated[int, Field(ge=10)] = 200
    latency_ratios: tuple[float, ...] = (0.10, 0.15, 0.20, 0.30, 0.50)
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    router_ms: Annotated[float, Field(ge=0)] = 0.2
    tracker_ms: Annotated[float, Field(ge=0)] = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where there is no curve."""
        if not self.lowest_latency_weight < self.highest_latency_weight:
            raise ConfigurationError("the lowest latency weight must be below the highest")


@dataclass(frozen=True)
class Judged:
    """One way to use the policy on the test clips.

    Attributes:
        latency_ratio: mean latency over large's, with all that runs.
        retained: mAP50-95 over that of untracked large.
        certified: the accuracy retained that is certified.
        over_hull: lift over fixed rungs and their mixes; over the tracked ones where it is tracked.
        shares: share of the frames by rung; the rest reuses tracks.
    """

    latency_ratio: float
    retained: Estimate
    certified: float | None
    over_hull: Estimate
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """A way to route that is no policy: fixed, or a rule as it does best at the policy's latency.

    Attributes:
        setting: of the rule.
        latency_ratio: mean latency over large's, with all that runs.
        retained: mAP50-95 over that of untracked large.
        tracked: the same with a tracker, whose milliseconds are on top.
        lead: accuracy retained by the policy above it: at the policy's latency for a rule with a
            knob, as it stands for a fixed one.
    """

    setting: str
    latency_ratio: float
    retained: Estimate
    tracked: Estimate
    lead: Estimate


@dataclass(frozen=True)
class Judgement:
    """What a policy comes to on clips of which nothing was learned or chosen.

    Attributes:
        policy: revision of the policy.
        clips: test clips.
        frames: their frames.
        released: the policy at its own operating point.
        tracked: the same with a tracker.
        reuse: the same where frames may reuse the tracks, as the policy says.
        lift: of the policy over the hull, and over the rule that is best on the tune clips.
        gap_shares: share of the gap between hull and oracle, by latency over large's.
        mean_gap_share: their mean.
        own_answers_gap_share: the same mean where each frame is routed by what all rungs saw of it,
            as `components.evaluation.own_answers` does; no policy can know that.
        of_own_answers: the policy's mean over that one.
        baselines: every fixed rung, the middle network at the other rungs' input sizes, and every
            rule, by name.
    """

    policy: str
    clips: int
    frames: int
    released: Judged
    tracked: Judged
    reuse: Judged
    lift: Lift
    gap_shares: Mapping[str, Estimate]
    mean_gap_share: Estimate
    own_answers_gap_share: Estimate
    of_own_answers: Estimate
    baselines: Mapping[str, Baseline]


def judge_policy(
    policy: Path,
    clips: Path,
    config: JudgeConfig | None = None,
    progress: Progress = no_progress,
    ladder: Mapping[str, Path] | None = None,
) -> Judgement:
    """Judge a policy on stored clips.

    Args:
        policy: its ONNX file.
        clips: folder of `store_clips`.
        config: how.
        progress: called with steps done and in all.
        ladder: weights that the detections must be of; not checked without them.

    Raises:
        InvalidInput: the clips are missing, broken, or of other weights.
        ModelError: the policy cannot be used.
        ConfigurationError: the policy reads the frame's pixels, which stored clips do not have.
    """
    config = config or JudgeConfig()
    released = Policy(policy)
    if released.uses_frame:
        raise ConfigurationError(
            f"{policy} reads the frame's own pixels, which stored clips do not have; judge it by "
            "the report of its training run"
        )
    stored = load_clips(clips, "test", ladder)
    learned, tuning = load_clips(clips, "learn"), load_clips(clips, "tune")
    tune, test = bench_of(tuning), bench_of(stored)
    test.refuse_without_objects(clips)
    progress(1, 5)
    yard = Yardsticks.of(test, _timings(stored), config.bootstrap, config.seed)
    decide: Decide = partial(_actions, released)
    weight = released.latency_weight

    def routing(latency_weight: float) -> Routing:
        choice = route(test.replay, decide, latency_weight)
        return test.rung(f"lambda {latency_weight:.4f}", choice, config.router_ms)

    weights = np.geomspace(
        config.lowest_latency_weight, config.highest_latency_weight, config.points
    ).tolist()
    chosen = routing(weight)
    curve = [*(routing(value) for value in weights), chosen]
    progress(2, 5)
    rules = {
        name: tuned(family, tune, test)
        for name, family in families(tune, 0.0).items()
        if name != "edge-density"  # needs pixels
    }
    benches = dict.fromkeys(rules, test)
    sizes = _sizes(tuning, stored)
    if sizes is not None:
        rules["adascale"], benches["adascale"] = sizes.rule, sizes.bench
    rule = best_rule(rules, chosen.mean_ms)
    progress(3, 5)
    bounds = (yard.mixes, yard.oracle, config.latency_ratios)
    shares, mean = yard.resamples.gap_share_values(curve, *bounds)
    ceiling = own_answers(bench_of(learned), test, weights, config.seed)
    _, own = yard.resamples.gap_share_values(ceiling, *bounds)
    progress(4, 5)
    reusing = with_reuse(test, decide, weight, config.router_ms, config.tracker_ms, released.reuse)
    hull = yard.tracked_hull(config.tracker_ms)

    scoring = _Scoring(test, yard, chosen, config)
    fixed = [(name, test, routing) for name, routing in yard.fixed.items()]
    fixed += sizes.fixed if sizes is not None else []
    baselines = {name: scoring.baseline(bench, routing) for name, bench, routing in fixed}
    for name, found in rules.items():
        bench = benches[name]
        at = at_latency(found.routings, chosen.mean_ms, bench, config.seed)
        baselines[name] = scoring.baseline(bench, at, found.routings)
    judgement = Judgement(
        policy=released.revision,
        clips=len(test.replay.clip_bounds),
        frames=len(test.replay),
        released=scoring.judged(chosen, list(yard.mixes)),
        tracked=scoring.judged(tracked(test, chosen, config.tracker_ms), hull),
        reuse=scoring.judged(reusing, hull),
        lift=Lift(
            over_hull=yard.resamples.lift(chosen, yard.mixes),
            over_rule=baselines[rule].lead,
            rule=rule,
        ),
        gap_shares={
            f"{ratio:.2f}": estimate(share)
            for ratio, share in zip(config.latency_ratios, shares, strict=True)
        },
        mean_gap_share=estimate(mean),
        own_answers_gap_share=estimate(own),
        of_own_answers=estimate(np.divide(mean, own, out=np.full(len(own), np.nan), where=own > 0)),
        baselines=baselines,
    )
    progress(5, 5)
    return judgement


@dataclass(frozen=True, eq=False)
class _Scoring:
    """Figures of routings over the test clips, and by how much the policy is ahead of them."""

    test: Bench
    yard: Yardsticks
    chosen: Routing
    config: JudgeConfig

    def judged(self, one: Routing, hull: list[Routing]) -> Judged:
        retained = self.yard.resamples.retained(one)
        return Judged(
            latency_ratio=one.mean_ms / self.yard.unit_ms,
            retained=estimate(retained),
            certified=certified_floor(retained, self.config.confidence),
            over_hull=self.yard.resamples.lift(one, hull),
            shares=one.shares(),
        )

    def baseline(self, bench: Bench, routing: Routing, curve: Sequence[Routing] = ()) -> Baseline:
        resamples, routing = self.yard.resamples, self._answered(bench, routing)
        retained = resamples.retained(routing)
        followed = tracked(bench, routing, self.config.tracker_ms)
        lead = (
            resamples.lift(self.chosen, [self._answered(bench, one) for one in curve])
            if curve
            else estimate(resamples.retained(self.chosen) - retained)
        )
        return Baseline(
            setting=routing.name,
            latency_ratio=routing.mean_ms / self.yard.unit_ms,
            retained=estimate(retained),
            tracked=estimate(resamples.retained(followed)),
            lead=lead,
        )

    def _answered(self, bench: Bench, routing: Routing) -> Routing:
        """A routing of other sources has its answers with it."""
        if bench is self.test:
            return routing
        return replace(routing, answers=bench.answers(routing))


@dataclass(frozen=True, eq=False)
class _Sizes:
    """The middle network at several input sizes, on frames whose "rungs" are these sizes."""

    bench: Bench
    rule: Tuned
    fixed: list[tuple[str, Bench, Routing]]


def _sizes(tune: StoredClips, test: StoredClips) -> _Sizes | None:
    if tune.sized is None or test.sized is None:
        return None
    learn, bench = (
        bench_of(replace(clips, found=clips.sized.found, latency_ms=clips.sized.latency_ms))
        for clips in (tune, test)
        if clips.sized is not None
    )
    fixed = zip(test.sized.names, fixed_rungs(bench).values(), strict=True)
    return _Sizes(
        bench,
        tuned(size_switching(learn), learn, bench),
        [
            (name, bench, replace(routing, name=name))
            for name, routing in fixed
            if name != test.sized.names[LADDER.index(RESIZED)]
        ],
    )


def bench_of(clips: StoredClips) -> Bench:
    """Stored clips as routings are judged on them."""
    return Bench.build(replay_of(clips), clips.dataset, clips.found)


def replay_of(clips: StoredClips) -> Replay:
    """Stored clips as a replay; the frame's part of the observation is zero."""
    data, found = clips.dataset, clips.found
    order = np.concatenate([clip.indexes for clip in data.clips])
    numbers = np.repeat(np.arange(len(data.clips)), [len(clip.indexes) for clip in data.clips])
    count = len(order)
    matched = match_detections(data, found, found[0].classes)
    latency = np.tile(np.array(clips.latency_ms, np.float32), (count, 1))
    times = _timings(clips)
    return Replay(
        image_ids=data.image_ids[order],
        clips=numbers,
        parts=np.zeros(count, np.int64),
        scene_types=np.zeros(count, np.int64),
        frames=np.zeros((count, FRAME_FEATURES), np.float32),
        looks=look_blocks(data, found, order),
        quality=matched.contributions()[order].astype(np.float32),
        latency_ms=latency,
        cost_usd=(latency * np.float32(times.usd_per_million(1.0))).astype(np.float32),
        observe_ms=np.zeros(1),
        objective=np.array([1.0, DEFAULT_LATENCY_WEIGHT, 0.0]),
    )


def _timings(clips: StoredClips) -> Timings:
    return Timings(
        rungs=LADDER,
        sample_ids=clips.dataset.image_ids[:1],
        sample_ms=np.array([clips.latency_ms], np.float32),
        sample_observe_ms=np.zeros(1, np.float32),
        dataset_ids=clips.dataset.image_ids,
        price_per_hour_usd=TimingConfig.price_per_hour_usd,
        facts={},
    )


def _actions(policy: Policy, observations: np.ndarray) -> np.ndarray:
    return policy.decide(observations)[0]
