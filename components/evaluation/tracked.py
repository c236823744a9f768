"""Any routing with a tracker behind it: what the stream path answers when it remembers."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from components.evaluation.alternatives import Bench, Routing
from components.evaluation.average_precision import SeenDetections
from inference_graph.contract import LADDER, Detections
from inference_graph.tracking import RUNG_TRUST, Tracker, TrackerConfig


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


def measure_tracker(bench: Bench, frames: int = 300) -> float:
    """Median milliseconds of one update, with what small sees on the bench's frames."""
    tracker, runs = Tracker(), []
    for frame in range(min(frames, len(bench.replay))):
        image, seen = bench.data.images[frame], bench.found[1].of(frame)
        started = time.perf_counter()
        tracker.update(seen, image.width, image.height)
        runs.append((time.perf_counter() - started) * 1e3)
    return float(np.median(runs))
