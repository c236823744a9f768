"""Champion against challenger, on frames that neither learned from: the old ones and the new ones.

Accuracy retained is the task's measure over large's on the same frames. Both policies route the
same clips in closed loop, each at the operating point it was released for; the differences are
judged by a bootstrap over whole clips, paired: every resample counts the same clips for both. A
challenger is released if it is *not worse* on old data by more than a tolerance (the lower end of
the interval confirms it, so doubt counts against it) and *better* on new data (likewise).

A policy can also buy accuracy with latency. So the champion is shown at the challenger's latency
as well, swept along its own operating points: what is left then is better routing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.dataset import Dataset, load_dataset
from components.evaluation.alternatives import Bench, Routing, at_latency, fixed_rungs
from components.evaluation.gate import GateSummary, checked
from components.evaluation.report_schema import without_nan
from components.parallel import Progress, no_progress
from components.policy.closed_loop import route
from components.profiling.detections import RungDetections, load_profiles
from components.profiling.replay import PARTS, Replay, load_replay
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError
from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from inference_graph.router import Policy

CHALLENGE_FILE = "challenge.json"
CHAMPION, CHALLENGER = "champion", "challenger"
AT_EQUAL_LATENCY = "champion at the challenger's latency"
_POINTS = 14
_CLIPS = 4
"""With fewer clips a bootstrap over clips has no width worth the name."""


@configuration
class ChallengeConfig:
    """When a challenger takes over.

    Attributes:
        forgetting: accuracy retained that it may lose on old data: the lower end of the
            difference's interval must not be further below zero (0 to 1).
        gain: accuracy retained that it must win on new data: the lower end of that difference's
            interval must be above this (0 to 1).
        latency_ratio: most mean latency on new data over large's; as the gate has it.
        confidence: of the intervals (0.5 to 0.999).
        bootstrap: resamples of the clips.
        lowest_latency_weight: the champion's curve goes from here to the next.
        highest_latency_weight: see above.
        seed: entropy of the resamples.
    """

    forgetting: Share = 0.02
    gain: Share = 0.0
    latency_ratio: Annotated[float, Field(ge=0.01, le=100)] = 0.42
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.9
    bootstrap: Annotated[int, Field(ge=10, le=10**6)] = 400
    lowest_latency_weight: float = 0.005
    highest_latency_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value is out of range."""
        if not 0 < self.lowest_latency_weight < self.highest_latency_weight:
            raise ConfigurationError(
                "latency weights must be above zero and the lowest below the highest"
            )


@dataclass(frozen=True, eq=False)
class Side:
    """One set of held-out frames and what the policies make of it.

    Attributes:
        name: "old" or "new".
        frames: frames; 0 where nothing was held out.
        clips: clips they come from.
        rows: by way of routing: map, retained with interval, latency_ratio, shares.
        change: challenger less champion in accuracy retained; NaN where it cannot be measured.
        change_interval: of that, at the configured confidence.
        change_at_equal_latency: likewise, with the champion at the challenger's latency.
        change_at_equal_latency_interval: of that.
        agreement: share of the frames on which both choose the same rung.
    """

    name: str
    frames: int
    clips: int
    rows: Mapping[str, Mapping[str, Any]]
    change: float
    change_interval: tuple[float, float]
    change_at_equal_latency: float
    change_at_equal_latency_interval: tuple[float, float]
    agreement: float


@dataclass(frozen=True, eq=False)
class ChallengeSummary:
    """The verdict, the checks that led to it, and both sides."""

    verdict: GateSummary
    old: Side
    new: Side


def challenge(
    dataset: Path,
    detections: Mapping[str, Path],
    replay: Path,
    groups: Mapping[str, NDArray[np.int64]],
    champion: Policy,
    challenger: Policy,
    router_ms: float,
    out: Path,
    config: ChallengeConfig,
    progress: Progress = no_progress,
) -> ChallengeSummary:
    """Compare two policies on the held-out frames of a replay.

    Args:
        dataset: canonical data set folder.
        detections: raw detections of each rung.
        replay: folder of the label stage; its test part is held out.
        groups: image ids of "old" and of "new".
        champion: the policy in use.
        challenger: the one that would take over.
        router_ms: milliseconds to observe and decide, which both pay on every frame.
        out: file to write, JSON.
        config: when it takes over.
        progress: called with steps done and in all.

    Returns:
        The verdict. Refusing is a result, not an error.

    Raises:
        InvalidInput: an artifact is missing or of another data set.
    """
    data, whole = load_dataset(dataset), load_replay(replay)
    found = list(load_profiles(detections).values())
    sides = {}
    for number, (name, ids) in enumerate(groups.items(), 1):
        held_out = whole.take((whole.parts == PARTS.index("test")) & np.isin(whole.image_ids, ids))
        bench = _bench(held_out, data, found)
        sides[name] = _side(name, bench, champion, challenger, router_ms, config)
        progress(number, len(groups))
    old, new = sides["old"], sides["new"]
    checks = (
        checked("old_change_low", without_nan(old.change_interval[0]), ">=", -config.forgetting),
        checked("new_change_low", without_nan(new.change_interval[0]), ">", config.gain),
        checked("new_latency_ratio", _latency_ratio(new), "<=", config.latency_ratio),
    )
    verdict = GateSummary(all(check.passed for check in checks), checks)
    summary = ChallengeSummary(verdict, old, new)
    content = {
        "task": data.task,
        "verdict": asdict(verdict),
        "sides": [asdict(old), asdict(new)],
        "config": asdict(config),
        CHAMPION: {"revision": champion.revision, "latency_weight": champion.latency_weight},
        CHALLENGER: {"revision": challenger.revision, "latency_weight": challenger.latency_weight},
    }
    with atomic_path(out) as file:
        text = json.dumps(without_nan(content), indent=1, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8")
    return summary


def _bench(replay: Replay, data: Dataset, found: Sequence[RungDetections]) -> Bench | None:
    if not len(replay) or len(replay.clip_bounds) < _CLIPS:
        return None
    return Bench.build(replay, data, found, periods=())


def _side(
    name: str,
    bench: Bench | None,
    champion: Policy,
    challenger: Policy,
    router_ms: float,
    config: ChallengeConfig,
) -> Side:
    nan = float("nan")
    if bench is None:
        return Side(name, 0, 0, {}, nan, (nan, nan), nan, (nan, nan), nan)
    ours = _routing(bench, challenger, challenger.latency_weight, router_ms)
    theirs = _routing(bench, champion, champion.latency_weight, router_ms)
    weights = np.geomspace(config.lowest_latency_weight, config.highest_latency_weight, _POINTS)
    curve = [_routing(bench, champion, float(weight), router_ms) for weight in weights]
    routings = {
        CHAMPION: theirs,
        CHALLENGER: ours,
        AT_EQUAL_LATENCY: at_latency([*curve, theirs], ours.mean_ms, bench, config.seed),
        **fixed_rungs(bench),
    }
    drawn = _resamples(bench, routings, config)
    large = bench.accuracy(routings[f"always-{LADDER[-1]}"])
    kept = {
        each: bench.accuracy(routing) / large if large > 0 else nan
        for each, routing in routings.items()
    }
    large_ms = float(bench.replay.latency_ms[:, -1].mean())
    rows = {
        each: {
            "map": bench.accuracy(routing),
            "retained": kept[each],
            "retained_interval": _interval(drawn[each], config.confidence),
            "latency_ratio": routing.mean_ms / large_ms,
            "setting": routing.name,
            "shares": routing.shares(),
        }
        for each, routing in routings.items()
    }
    gains = {other: drawn[CHALLENGER] - drawn[other] for other in (CHAMPION, AT_EQUAL_LATENCY)}
    return Side(
        name=name,
        frames=len(bench.replay),
        clips=len(bench.replay.clip_bounds),
        rows=rows,
        change=kept[CHALLENGER] - kept[CHAMPION],
        change_interval=_interval(gains[CHAMPION], config.confidence),
        change_at_equal_latency=kept[CHALLENGER] - kept[AT_EQUAL_LATENCY],
        change_at_equal_latency_interval=_interval(gains[AT_EQUAL_LATENCY], config.confidence),
        agreement=float(np.mean(ours.choice == theirs.choice)),
    )


def _routing(bench: Bench, policy: Policy, latency_weight: float, router_ms: float) -> Routing:
    choice = route(bench.replay, lambda seen: policy.decide(seen)[0], latency_weight)
    return bench.rung(f"lambda {latency_weight:.4f}", choice, router_ms)


def _resamples(
    bench: Bench, routings: Mapping[str, Routing], config: ChallengeConfig
) -> dict[str, NDArray[np.float64]]:
    """Accuracy retained of every routing on the same resamples of the clips, float64 [B] each."""
    rng = np.random.default_rng(config.seed)
    bounds = bench.replay.clip_bounds
    lengths = bounds[:, 1] - bounds[:, 0]
    large = routings[f"always-{LADDER[-1]}"]
    drawn: dict[str, list[float]] = {name: [] for name in routings}
    for _ in range(config.bootstrap):
        counts = np.bincount(rng.integers(0, len(bounds), len(bounds)), minlength=len(bounds))
        weights = np.repeat(counts, lengths).astype(np.float64)
        top = bench.accuracy(large, weights)
        if not top > 0:
            continue
        for name, routing in routings.items():
            drawn[name].append(bench.accuracy(routing, weights) / top)
    return {name: np.array(values) for name, values in drawn.items()}


def _interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values, (tail, 100 - tail)).tolist()
    return low, high


def _latency_ratio(side: Side) -> float | None:
    return float(side.rows[CHALLENGER]["latency_ratio"]) if side.frames else None
