"""Evaluation: the released policy against every honest alternative at equal mean latency.

All figures come from held-out clips, routed in closed loop, with the router's own milliseconds on
the policy's bill. ``report.json`` holds them, ``report.html`` draws them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.data.dataset import load_dataset
from components.evaluation.alternatives import (
    Bench,
    Routing,
    at_latency,
    families,
    fixed_rungs,
    oracle,
    random_mixes,
    tuned,
)
from components.evaluation.breakdown import (
    against_labels,
    annotated,
    by_condition,
    by_scene_type,
    of_groups,
)
from components.evaluation.example_frames import example_frames
from components.evaluation.frontier import Frontier, average_gap_recovered, gap_share
from components.evaluation.report import without_nan, write_report
from components.parallel import Progress, no_progress
from components.policy.closed_loop import Decide, route
from components.policy.files import CLONE_POLICY_FILE, POLICY_FILE, SUMMARY_FILE
from components.policy.fleet import Traffic, compare_fleets
from components.profiling.detections import load_profiles
from components.profiling.replay import Replay, load_replay, observations_of
from components.profiling.timing import Timings, load_timings
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path, sha256_file
from inference_graph.contract import LADDER
from inference_graph.router import Policy

REPORT_FILE = "report.json"
REPORT_PAGE = "report.html"

_CONFIDENCE = (2.5, 97.5)


@dataclass(frozen=True)
class EvaluateConfig:
    """How the policy is judged.

    Attributes:
        points: operating points on the curve.
        lowest_latency_weight: the curve goes from here to the next, evenly in the logarithm.
        highest_latency_weight: see above.
        bootstrap: resamples of seeds and clips for the confidence intervals.
        fleet_sizes: cameras sharing one set of rungs in the comparison under load.
        frame_interval_ms: milliseconds between two frames of a camera there.
        deadline_ms: a frame that would wait longer is dropped there.
        seed: entropy of mixes and resamples.
    """

    points: int = 14
    lowest_latency_weight: float = 0.005
    highest_latency_weight: float = 1.0
    bootstrap: int = 200
    fleet_sizes: tuple[int, ...] = (1, 4, 8)
    frame_interval_ms: float = 100.0
    deadline_ms: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if self.points < 2 or self.bootstrap < 10:
            raise ConfigurationError("points must be at least 2, bootstrap at least 10")
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

    ``retained`` and ``gap_share`` are None where they do not exist.
    """

    retained: float | None
    latency_ratio: float
    gap_share: float | None
    router_ms: float
    clips: int
    frames: int


@dataclass(frozen=True, eq=False)
class _Yardsticks:
    """What every figure is measured against."""

    bench: Bench
    large_map: float
    large_ms: float
    mixes: Sequence[Routing]
    oracle: Sequence[Routing]
    baseline: Frontier
    best: Frontier

    @classmethod
    def of(cls, bench: Bench, config: EvaluateConfig) -> _Yardsticks:
        fixed = fixed_rungs(bench)
        mixes = [*fixed.values(), *random_mixes(bench, config.seed)]
        # The oracle's curve must span all latencies that a policy can have.
        weights = np.geomspace(1e-3, 20.0, 24).tolist()
        perfect = oracle(bench, weights)
        large = fixed[f"always-{LADDER[-1]}"]
        return cls(
            bench, bench.accuracy(large), large.mean_ms, mixes, perfect,
            _frontier(mixes, bench), _frontier(perfect, bench),
        )  # fmt: skip

    def retained(self, accuracy: float) -> float:
        """Accuracy over large's; NaN where large finds nothing, so that nothing can be kept."""
        return accuracy / self.large_map if self.large_map > 0 else float("nan")

    def figures(self, routing: Routing) -> dict[str, float]:
        accuracy = self.bench.accuracy(routing)
        return {
            "retained": self.retained(accuracy),
            "latency_ratio": routing.mean_ms / self.large_ms,
            "gap_share": gap_share(routing.mean_ms, accuracy, self.baseline, self.best),
        }


def _frontier(routings: Sequence[Routing], bench: Bench) -> Frontier:
    return Frontier.of((routing.mean_ms, bench.accuracy(routing)) for routing in routings)


def evaluate(
    dataset: Path, detections: Mapping[str, Path], timings: Path, replay: Path, policies: Path,
    out: Path, config: EvaluateConfig,
    progress: Progress = no_progress,
) -> EvaluateSummary:  # fmt: skip
    """Judge the released policy and write the report.

    Args:
        dataset: canonical data set folder.
        detections: raw detections of each rung.
        timings: latencies and the price per hour.
        replay: folder of the label stage.
        policies: folder of the refine stage.
        out: folder to write: ``report.json`` and ``report.html``.
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
    progress(1, 6)
    yard = _Yardsticks.of(judge, config)
    refinement = _refinement(policies / SUMMARY_FILE)
    released = Policy(policies / POLICY_FILE)
    observe_ms, decide_ms = float(whole.observe_ms[0]), _decide_ms(released, judge.replay)
    router_ms = observe_ms + decide_ms
    weight = released.latency_weight
    chosen = _routing(judge, released, weight, router_ms)
    progress(2, 6)

    curves: dict[str, list[Routing]] = {"random-mix": list(yard.mixes)}
    for name, family in families(learn, observe_ms).items():
        curves[name] = tuned(family, learn, judge)
    clone = Policy(policies / f"seed-{refinement['released']}" / CLONE_POLICY_FILE)
    curves["bc"] = [_routing(judge, clone, w, router_ms) for w in config.latency_weights]
    swept = [_routing(judge, released, w, router_ms) for w in config.latency_weights]
    progress(3, 6)

    compared = dict(reversed(fixed_rungs(judge).items()))
    compared |= {
        name: at_latency(routings, chosen.mean_ms, judge, config.seed)
        for name, routings in curves.items()
    }
    compared |= {"gearshift": chosen, "oracle": at_latency(yard.oracle, chosen.mean_ms, judge)}
    curves |= {"gearshift": swept, "oracle": list(yard.oracle)}
    seeds = [
        _routing(judge, policy, policy.latency_weight, router_ms)
        for policy in (Policy(policies / f"seed-{k}" / POLICY_FILE) for k in refinement["seeds"])
    ]
    intervals = _intervals(yard, seeds, compared, config)
    progress(4, 6)
    curve = [
        {"latency_weight": w, **yard.figures(routing)}
        for w, routing in zip(config.latency_weights, swept, strict=True)
    ]
    fleets = compare_fleets(
        judge.replay, {"bc": _decide(clone), "gearshift": _decide(released)}, config.fleet_sizes,
        weight, Traffic(config.frame_interval_ms, config.deadline_ms), config.seed,
    )  # fmt: skip
    progress(5, 6)
    headline = yard.figures(chosen)
    report: dict[str, Any] = {
        "rows": [
            _row(name, routing, yard, times, intervals["retained"][name])
            for name, routing in compared.items()
        ],
        "gap_share": headline["gap_share"],
        "gap_share_interval": intervals["gap_share"],
        "curve": curve,
        "retained": headline["retained"],
        "latency_ratio": headline["latency_ratio"],
        "latency_weight": weight,
        "router_ms": {"observe": observe_ms, "decide": decide_ms},
        "seeds": [yard.figures(routing) for routing in seeds],
        "apgr": _apgr(yard, curves),
        "at_equal_latency": _at_equal_latency(yard, curves, chosen),
        "scene_types": of_groups(judge, chosen, by_scene_type(judge.replay)),
        "conditions": of_groups(judge, chosen, by_condition(judge.replay, data)),
        "labels": against_labels(judge.replay, chosen, weight),
        "fleets": fleets,
        "points": {
            name: [
                {"name": r.name, "retained": yard.retained(judge.accuracy(r)),
                 "latency_ratio": r.mean_ms / yard.large_ms}
                for r in routings
            ]
            for name, routings in curves.items()
        },
        "hull": _lines(yard, yard.baseline),
        "oracle_hull": _lines(yard, yard.best),
        "refinement": refinement,
        "policy": {"sha256": sha256_file(policies / POLICY_FILE), "revision": released.revision},
        "measurement": {"price_per_hour_usd": times.price_per_hour_usd, **dict(times.facts)},
        "data": {
            "frames": {"learn": len(learn.replay), "judge": len(judge.replay)},
            "clips": {
                "learn": len(learn.replay.clip_bounds), "judge": len(judge.replay.clip_bounds),
            },
            "objects_judged": int(judge.matched.truths.sum()),
        },
        "config": asdict(config),
    }  # fmt: skip
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        text = json.dumps(without_nan(report), indent=1, allow_nan=False)
        (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
        examples = example_frames(judge.replay, data, found, chosen.choice, weight)
        write_report(report, folder / REPORT_PAGE, examples)
    progress(6, 6)
    return EvaluateSummary(
        without_nan(headline["retained"]), headline["latency_ratio"],
        without_nan(headline["gap_share"]), router_ms,
        len(judge.replay.clip_bounds), len(judge.replay),
    )  # fmt: skip


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


def _decide_ms(policy: Policy, replay: Replay, repeats: int = 200) -> float:
    """Median milliseconds of one decision, after a warm-up."""
    observation = observations_of(replay.frames[:1], replay.looks[:1, 0], -1.0)
    runs = []
    for _ in range(repeats):
        started = time.perf_counter()
        policy.decide(observation)
        runs.append((time.perf_counter() - started) * 1e3)
    return float(np.median(runs[repeats // 10 :]))


def _row(
    name: str, routing: Routing, yard: _Yardsticks, times: Timings, interval: Sequence[float]
) -> dict[str, Any]:
    accuracy, mean_ms = yard.bench.accuracy(routing), routing.mean_ms
    p50, p95, p99 = np.percentile(routing.latency_ms, (50, 95, 99)).tolist()
    return {
        "name": name,
        "map": accuracy,
        "retained": yard.retained(accuracy),
        "retained_interval": list(interval),
        "mean_ms": mean_ms,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "latency_ratio": mean_ms / yard.large_ms,
        "fps": 1e3 / mean_ms,
        "usd_per_million": times.usd_per_million(mean_ms),
        "setting": routing.name,
        "shares": {
            rung: float(np.mean(routing.choice == index)) for index, rung in enumerate(LADDER)
        },
    }


def _intervals(
    yard: _Yardsticks, seeds: Sequence[Routing], compared: Mapping[str, Routing],
    config: EvaluateConfig,
) -> dict[str, Any]:  # fmt: skip
    """95 % intervals over clips (all rows) and over seeds and clips (the policy).

    Frames of a clip resemble each other, so whole clips are drawn with replacement; for the
    policy each resample also draws one of the seeds.
    """
    rng = np.random.default_rng(config.seed)
    bench = yard.bench
    bounds = bench.replay.clip_bounds
    lengths = bounds[:, 1] - bounds[:, 0]
    around = [
        (
            seed,
            at_latency(yard.mixes, seed.mean_ms, bench),
            at_latency(yard.oracle, seed.mean_ms, bench),
        )
        for seed in seeds
    ]
    large = np.full(len(bench.replay), len(LADDER) - 1)
    retained: dict[str, list[float]] = {name: [] for name in compared}
    shares = []
    for _ in range(config.bootstrap):
        drawn = np.bincount(rng.integers(0, len(bounds), len(bounds)), minlength=len(bounds))
        weights = np.repeat(drawn, lengths).astype(np.float64)
        top = bench.matched.mean_average_precision(large, weights)
        if not top > 0:
            continue
        ours, base, perfect = around[int(rng.integers(len(around)))]
        for name, routing in compared.items():
            judged = ours if name == "gearshift" else routing
            retained[name].append(bench.accuracy(judged, weights) / top)
        low, high = bench.accuracy(base, weights) / top, bench.accuracy(perfect, weights) / top
        if high - low > 1e-3:
            shares.append((retained["gearshift"][-1] - low) / (high - low))
    return {
        "retained": {name: _interval(values) for name, values in retained.items()},
        "gap_share": _interval(shares),
    }


def _interval(values: Sequence[float]) -> list[float]:
    return np.percentile(values, _CONFIDENCE).tolist() if values else [float("nan")] * 2


def _apgr(yard: _Yardsticks, curves: Mapping[str, Sequence[Routing]]) -> dict[str, float]:
    fixed = list(fixed_rungs(yard.bench).values())
    weak, strong = ((r.mean_ms, yard.bench.accuracy(r)) for r in (fixed[0], fixed[-1]))
    if strong[1] <= weak[1]:
        return {}
    return {
        name: average_gap_recovered(_frontier(routings, yard.bench), weak, strong)
        for name, routings in curves.items()
    }


def _at_equal_latency(
    yard: _Yardsticks, curves: Mapping[str, Sequence[Routing]], chosen: Routing
) -> dict[str, float]:
    """Accuracy retained by the frontier of every alternative at the policy's mean latency."""
    return {
        name: yard.retained(_frontier(routings, yard.bench).at(chosen.mean_ms))
        for name, routings in curves.items()
        if name != "gearshift"
    }


def _lines(yard: _Yardsticks, frontier: Frontier) -> list[dict[str, float]]:
    return [
        {"latency_ratio": x / yard.large_ms, "retained": yard.retained(y)}
        for x, y in zip(frontier.latency.tolist(), frontier.accuracy.tolist(), strict=True)
    ]
