"""Any routing with a tracker behind it: what the stream path answers when it remembers."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from components.evaluation.alternatives import Bench, Routing
from components.evaluation.average_precision import SeenDetections
from components.policy.closed_loop import REUSE, Decide, route_with_reuse
from feature_transformer.observation import LOOK_NAMES
from inference_graph.contract import LADDER, Detections
from inference_graph.tracking import RUNG_TRUST, ReuseConfig, Tracker, TrackerConfig

_DOUBT = LOOK_NAMES.index("doubt")
_DOUBT_SHARES = (0.25, 0.5, 0.75)
"""Shares of the looks that each doubt tried lets pass."""


def tracked(
    bench: Bench, routing: Routing, tracker_ms: float, config: TrackerConfig | None = None
) -> Routing:
    """The routing with its answers fused over the frames of each clip.

    Where the routing reuses an earlier answer, the tracks are moved on.

    Args:
        bench: the frames, with what the rungs saw.
        routing: who looks at each frame.
        tracker_ms: milliseconds of the tracker, which every frame pays.
        config: of the tracker.
    """
    tracker = Tracker(config)
    found: list[Detections] = []
    for start, end in bench.replay.clip_bounds.tolist():
        tracker.reset()
        for frame in range(start, end):
            image = bench.data.images[frame]
            source = int(routing.choice[frame])
            if source < len(LADDER):
                seen = bench.found[source].of(frame)
                trust = RUNG_TRUST[LADDER[source]]
                fused = tracker.update(seen, image.width, image.height, trust)
            else:
                fused = tracker.predict(image.width, image.height)
            found.append(fused.detections)
    answers = bench.match(SeenDetections.of(found, bench.classes.category_ids))
    return replace(routing, latency_ms=routing.latency_ms + tracker_ms, answers=answers)


def with_reuse(
    bench: Bench,
    decide: Decide,
    latency_weight: float,
    router_ms: float,
    tracker_ms: float,
    config: ReuseConfig,
) -> Routing:
    """A policy that may answer frames by its tracks alone.

    The router is paid for on every frame: it decides whether a detector looks.
    """
    choice = route_with_reuse(bench.replay, decide, latency_weight, config)
    looked = np.minimum(choice, len(LADDER) - 1)
    latency = bench.replay.latency_ms[np.arange(len(choice)), looked].astype(np.float64)
    latency = np.where(choice == REUSE, 0.0, latency) + router_ms
    name = f"doubt <= {config.doubt:.2f}, {config.longest} in a row"
    return tracked(bench, Routing(name, choice, latency), tracker_ms)


def tuned_reuse(
    learn: Bench, decide: Decide, latency_weight: float, router_ms: float, tracker_ms: float
) -> ReuseConfig:
    """The reuse setting of the highest reward on the frames to learn from.

    Reward is accuracy over large's, less the weighted latency over large's. No reuse is among the
    settings.
    """
    large = learn.rung("large", np.full(len(learn.replay), len(LADDER) - 1))
    best, chosen = -np.inf, ReuseConfig()
    doubts = np.quantile(learn.replay.looks[..., _DOUBT], _DOUBT_SHARES).tolist()
    settings = [ReuseConfig()] + [
        ReuseConfig(longest=longest, doubt=doubt) for longest in (1, 2) for doubt in doubts
    ]
    for config in settings:
        found = with_reuse(learn, decide, latency_weight, router_ms, tracker_ms, config)
        accuracy = learn.accuracy(found) / max(learn.accuracy(large), 1e-9)
        earned = accuracy - latency_weight * found.mean_ms / large.mean_ms
        if earned > best:
            best, chosen = earned, config
    return chosen


def measure_tracker(bench: Bench, frames: int = 300) -> float:
    """Median milliseconds of one update, with what small sees on the bench's frames."""
    tracker, runs = Tracker(), []
    for frame in range(min(frames, len(bench.replay))):
        image, seen = bench.data.images[frame], bench.found[1].of(frame)
        started = time.perf_counter()
        tracker.update(seen, image.width, image.height)
        runs.append((time.perf_counter() - started) * 1e3)
    return float(np.median(runs))
