"""Evaluation: the released policy against every honest alternative at equal mean latency.

All figures come from held-out clips, routed in closed loop, with the router's own milliseconds on
the policy's bill. ``report.json`` holds them, ``report.html`` draws them,
``frames.json`` names the frames.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.data.dataset import load_dataset
from components.evaluation.alternatives import (
    Bench,
    Routing,
    at_latency,
    families,
    tuned,
)
from components.evaluation.breakdown import (
    against_labels,
    annotated,
    by_condition,
    by_scene_type,
    gears,
    of_groups,
)
from components.evaluation.example_frames import example_frames
from components.evaluation.figures import Yardsticks, best_rule
from components.evaluation.learned_frames import write_frames
from components.evaluation.report import write_report
from components.evaluation.report_schema import (
    REPORT_FILE,
    REPORT_PAGE,
    GapShare,
    Lift,
    Load,
    Report,
    RouterTime,
    without_nan,
)
from components.evaluation.resamples import certified_floor, estimate, guarantee
from components.evaluation.tracked import measure_tracker, with_reuse
from components.parallel import Progress, no_progress
from components.policy.closed_loop import Decide, route
from components.policy.files import CLONE_POLICY_FILE, POLICY_FILE, SUMMARY_FILE
from components.policy.fleet import (
    Traffic,
    compare_fleets,
    resampled_mean,
    run_fleet,
    tuned_price,
    with_price,
)
from components.profiling.detections import load_profiles
from components.profiling.replay import load_replay, observations_of
from components.profiling.timing import load_timings
from feature_transformer.observation import Look, context_features
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path, sha256_file
from inference_graph.router import Policy


@configuration
class EvaluateConfig:
    """How the policy is judged.

    Attributes:
        points: operating points on the curve.
        lowest_latency_weight: the curve goes from here to the next, evenly in the logarithm.
        highest_latency_weight: see above.
        bootstrap: resamples of the clips for the confidence intervals.
        latency_ratios: latencies over large's at which the share of the gap is measured.
        confidence: of the accuracy retained that the report certifies.
        asked: accuracy retained whose cheapest certified operating point is looked for.
        fleet_sizes: cameras sharing one set of rungs in the comparison under load.
        frame_interval_ms: milliseconds between two frames of a camera there.
        deadline_ms: a frame that would wait longer is dropped there.
        shared_processor: whether the rungs take turns on one processor there.
        seed: entropy of mixes and resamples.
    """

    points: Annotated[int, Field(ge=2)] = 14
    lowest_latency_weight: float = 0.005
    highest_latency_weight: float = 1.0
    bootstrap: Annotated[int, Field(ge=10)] = 200
    latency_ratios: tuple[float, ...] = (0.10, 0.15, 0.20, 0.30, 0.50)
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    asked: Share = 0.95
    fleet_sizes: tuple[int, ...] = (1, 4, 8)
    frame_interval_ms: float = 100.0
    deadline_ms: float = 300.0
    shared_processor: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if not self.latency_ratios or not all(0 < ratio <= 1 for ratio in self.latency_ratios):
            raise ConfigurationError("latency_ratios must hold numbers above 0 and up to 1")
        if not 0 < self.lowest_latency_weight < self.highest_latency_weight:
            raise ConfigurationError(
                "latency weights must be above zero and the lowest below the highest"
            )

    @property
    def latency_weights(self) -> list[float]:
        """The operating points of the curve, cheapest latency last."""
        low, high = self.lowest_latency_weight, self.highest_latency_weight
        return np.geomspace(low, high, self.points).tolist()


@dataclass(frozen=True)
class EvaluateSummary:
    """The headline: what the released policy keeps and costs on held-out clips.

    ``lift`` is over the hull, ``gap_share`` the mean over the fixed latencies. What does not exist
    is None.
    """

    retained: float | None
    latency_ratio: float
    lift: float | None
    lift_low: float | None
    gap_share: float | None
    router_ms: float
    clips: int
    frames: int


def evaluate(
    dataset: Path,
    detections: Mapping[str, Path],
    timings: Path,
    replay: Path,
    policies: Path,
    out: Path,
    config: EvaluateConfig,
    progress: Progress = no_progress,
) -> EvaluateSummary:
    """Judge the released policy and write the report.

    Args:
        dataset: canonical data set folder.
        detections: raw detections of each rung.
        timings: latencies and the price per hour.
        replay: folder of the label stage.
        policies: folder of the refine stage.
        out: folder to write: ``report.json``, ``report.html`` and ``frames.json``.
        config: how to judge.
        progress: called with steps done and in all.

    Returns:
        The headline.

    Raises:
        InvalidInput: an artifact is missing or of another data set, or no object counts.
    """
    data, whole, times = load_dataset(dataset), load_replay(replay), load_timings(timings)
    found = list(load_profiles(detections).values())
    learn = Bench.build(whole.part("train", "validation"), data, found)
    judge = Bench.build(annotated(whole.part("test"), data), data, found)
    judge.refuse_without_objects(dataset)
    task = judge.task
    progress(1, 7)
    yard = Yardsticks.of(judge, times, config.bootstrap, config.seed)
    refinement = _refinement(policies / SUMMARY_FILE)
    released = Policy(policies / POLICY_FILE, task=task.name)
    router = _router_time(released, judge)
    observe_ms = float(whole.observe_ms[0])
    if released.uses_frame:
        router = router.model_copy(update={"observe": router.observe + observe_ms})
    router_ms = router.observe + router.decide
    weight = released.latency_weight
    chosen = _routing(judge, released, weight, router_ms)
    progress(2, 7)

    rules = {
        name: tuned(family, learn, judge) for name, family in families(learn, observe_ms).items()
    }
    clone = Policy(policies / f"seed-{refinement['released']}" / CLONE_POLICY_FILE, task=task.name)
    curves = {
        "random-mix": list(yard.mixes),
        **{name: list(rule.routings) for name, rule in rules.items()},
        "bc": [_routing(judge, clone, w, router_ms) for w in config.latency_weights],
    }
    swept = [_routing(judge, released, w, router_ms) for w in config.latency_weights]
    progress(3, 7)

    compared = dict(reversed(list(yard.fixed.items())))
    compared |= {
        name: at_latency(routings, chosen.mean_ms, judge, config.seed)
        for name, routings in curves.items()
    }
    compared |= {"gearshift": chosen, "oracle": at_latency(yard.oracle, chosen.mean_ms, judge)}
    curves |= {"gearshift": [*swept, chosen], "oracle": list(yard.oracle)}
    rows = tuple(yard.row(name, routing) for name, routing in compared.items())
    progress(4, 7)
    rule = best_rule(rules, chosen.mean_ms)
    lift = Lift(
        over_hull=yard.resamples.lift(chosen, yard.mixes),
        over_rule=yard.resamples.lift(chosen, curves[rule]),
        rule=rule,
    )
    shares, mean_share = yard.resamples.gap_shares(
        curves["gearshift"], yard.mixes, yard.oracle, config.latency_ratios
    )
    followed = None
    if task.tracks:
        tracker_ms, decide = measure_tracker(judge), _decide(released)
        reusing = with_reuse(judge, decide, weight, router_ms, tracker_ms, released.reuse)
        followed = yard.tracked(compared, chosen, reusing, released.reuse, tracker_ms)
    progress(5, 7)
    fleets, load = _under_load(learn, judge, _decide(clone), _decide(released), weight, config)
    progress(6, 7)
    curve = tuple(
        yard.curve_point(routing, w, config.confidence)
        for w, routing in zip(config.latency_weights, swept, strict=True)
    )
    own_share = yard.gap_share_interval(chosen)
    content: dict[str, Any] = {
        "task": task.name,
        "measure": task.measure,
        "rows": rows,
        **yard.figures(chosen).model_dump(),
        "gap_share_interval": (own_share.low, own_share.high),
        "lift": lift,
        "gap_shares": tuple(
            GapShare(latency_ratio=ratio, share=share)
            for ratio, share in zip(config.latency_ratios, shares, strict=True)
        ),
        "mean_gap_share": mean_share,
        "certified": certified_floor(yard.resamples.retained(chosen), config.confidence),
        "tracked": followed,
        "gears": gears(judge.replay, chosen, weight),
        "classes": yard.classes(chosen),
        "guarantee": guarantee(curve, config.asked, config.confidence),
        "curve": curve,
        "latency_weight": weight,
        "router_ms": router,
        "seeds": tuple(
            yard.figures(_routing(judge, policy, policy.latency_weight, router_ms))
            for policy in (
                Policy(policies / f"seed-{seed}" / POLICY_FILE, task=task.name)
                for seed in refinement["seeds"]
            )
        ),
        "apgr": yard.apgr(curves),
        "at_equal_latency": yard.at_equal_latency(curves, chosen),
        "scene_types": of_groups(judge, chosen, by_scene_type(judge.replay)),
        "conditions": of_groups(judge, chosen, by_condition(judge.replay, data)),
        "labels": against_labels(judge.replay, chosen, weight),
        "fleets": fleets,
        "load": load,
        "points": {name: yard.points(routings) for name, routings in curves.items()},
        "hull": yard.line(yard.hull),
        "oracle_hull": yard.line(yard.best),
        "refinement": refinement,
        "policy": {"sha256": sha256_file(policies / POLICY_FILE), "revision": released.revision},
        "measurement": {"price_per_hour_usd": times.price_per_hour_usd, **dict(times.facts)},
        "data": {
            "frames": {"learn": len(learn.replay), "judge": len(judge.replay)},
            "clips": {
                "learn": len(learn.replay.clip_bounds),
                "judge": len(judge.replay.clip_bounds),
            },
            "objects_judged": int(judge.matched.truths[:, : len(judge.classes.names)].sum()),
            "sha256": str(data.info.get("source_sha256") or ""),
            "version": data.version,
        },
        "config": asdict(config),
    }
    report = Report.model_validate(content)
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        (folder / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
        write_frames(data, whole, folder)
        examples = example_frames(judge.replay, data, found, chosen.choice, weight)
        write_report(report.model_dump(), folder / REPORT_PAGE, examples)
    progress(7, 7)
    return EvaluateSummary(
        retained=without_nan(report.retained),
        latency_ratio=report.latency_ratio,
        lift=lift.over_hull.value,
        lift_low=lift.over_hull.low,
        gap_share=mean_share.value,
        router_ms=router_ms,
        clips=len(judge.replay.clip_bounds),
        frames=len(judge.replay),
    )


def _under_load(
    learn: Bench,
    judge: Bench,
    clone: Decide,
    released: Decide,
    weight: float,
    config: EvaluateConfig,
) -> tuple[list[dict[str, Any]], Load]:
    """Fleets of every size, and PPO against the tuned congestion price in the largest."""
    traffic = Traffic(config.frame_interval_ms, config.deadline_ms, config.shared_processor)
    cameras = max(config.fleet_sizes)
    price = tuned_price(learn.replay, clone, cameras, weight, traffic, config.seed)
    priced = with_price(clone, price)
    rows = compare_fleets(
        judge.replay,
        {"bc": clone, "price": priced, "gearshift": released},
        config.fleet_sizes,
        weight,
        traffic,
        config.seed,
    )
    ours, theirs = (
        run_fleet(judge.replay, decide, cameras, weight, traffic, config.seed).rewards
        for decide in (released, priced)
    )
    over_price = estimate(resampled_mean(ours - theirs, config.bootstrap, config.seed))
    return rows, Load(cameras=cameras, price=price, over_price=over_price)


def _refinement(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is missing or broken; run the refine stage again") from error


def _decide(policy: Policy) -> Decide:
    return lambda observations: policy.decide(observations)[0]


def _routing(bench: Bench, policy: Policy, latency_weight: float, router_ms: float) -> Routing:
    choice = route(bench.replay, _decide(policy), latency_weight)
    return bench.rung(f"lambda {latency_weight:.4f}", choice, router_ms)


def _router_time(policy: Policy, bench: Bench, repeats: int = 200) -> RouterTime:
    """Median milliseconds of the context and of one decision, after a warm-up."""
    image, seen = bench.data.images[0], bench.found[-1].of(0)
    look = Look(0, seen.boxes, seen.scores, seen.labels, image.width, image.height)
    observation = observations_of(bench.replay.frames[:1], bench.replay.looks[:1, 0], -1.0)
    runs = []
    for _ in range(repeats):
        started = time.perf_counter()
        context_features(look)
        observed = time.perf_counter()
        policy.decide(observation)
        runs.append((observed - started, time.perf_counter() - observed))
    observe, decide = (np.median(runs[repeats // 10 :], axis=0) * 1e3).tolist()
    return RouterTime(observe=observe, decide=decide)
