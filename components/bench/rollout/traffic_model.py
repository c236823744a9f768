"""Rows of a prediction log as a fleet of cameras would leave them, drawn in no time.

What is drawn of each frame, after figures measured on 16 sample clips of 60 frames
(rung small against large, two cores of a virtual machine):

*   *Quality*: agreement with the reference. A level of its stream (standard deviation 0.06), a
    course that changes slowly from frame to frame (0.14, correlation 0.85) and noise (0.14), cut
    to 0..1. What comes out: a mean of 0.88 (measured 0.88), a deviation within a stream of 0.14
    (0.15), a correlation from one frame to the next of 0.37 (0.48), 37 % of the frames at 1 (39 %).
*   *Time*: log-normal with a load that both revisions share and that changes slowly (0.15,
    correlation 0.99) and noise (0.15); one frame in fifty takes 2 to 15 times as long (a Pareto
    tail, as measured: the 99th percentile is 3.5 times the median).
*   *Failures*: one frame in a thousand, of both revisions.

Of a policy the draw counts for a segment of a stream, else for a frame, and three frames in a
hundred go to large, which takes 6.1 times as long as small (measured). A fault is the canary's
alone:

*   *latency*: of a detector, time times 1.3; a policy gives large so many frames more that the mean
    time is 1.3 times as long;
*   *errors*: failures in one frame of fifty;
*   *accuracy*: a fifth of the agreement gone on a quarter of the frames, which is 5 % of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.signal import lfilter  # type: ignore[import-untyped]  # it has no types

from inference_graph.contract import REFERENCE
from inference_graph.control.rollout.plan import FULL, POLICY, RolloutPlan, shadow_shares
from inference_graph.control.rollout.rows import COLUMNS, Arms
from inference_graph.prediction_log.row import TIME

FAULTS = ("latency", "errors", "accuracy")
STABLE, CANARY = "0" * 12, "1" * 12
_MODEL = "small"
_FAILURES, _FAULTY_FAILURES = 0.001, 0.02
_SLOWER = 1.3
_LARGE_SHARE, _LARGE_RATIO = 0.03, 6.1
_FAULTY_LARGE_SHARE = _LARGE_SHARE + (_SLOWER - 1) * (_LARGE_SHARE + 1 / (_LARGE_RATIO - 1))
"""Solves 1 + 5.1 * faulty = 1.3 * (1 + 5.1 * usual)."""
_WORSE_FRAMES, _WORSE_BY = 0.25, 0.2
_BEGIN = np.datetime64("2026-01-01", "us")


@dataclass(frozen=True)
class CameraFleet:
    """The cameras whose frames are drawn.

    Attributes:
        cameras: streams at the same time.
        fps: frames per second of each.
        model: what is rolled out, a rung or "policy".
    """

    cameras: int = 8
    fps: float = 15.0
    model: str = "small"


def rows(
    fleet: CameraFleet, weight: int, plan: RolloutPlan, fault: str, seed: int, portion: int = 2000
) -> Iterator[tuple[Arms, pa.Table]]:
    """Rows of one step, without end, in the order of their answers.

    Args:
        fleet: whose frames.
        weight: of the canary, per cent.
        plan: whose shares of looks and segments are used.
        fault: one of ``FAULTS``; the revisions are alike with any other word.
        seed: of the draws.
        portion: rows at a time.

    Yields:
        What is compared, and the next rows.
    """
    rng = np.random.default_rng(seed)
    looks = shadow_shares(fleet.model, weight, plan.shadow_share)
    segment = plan.segment_frames if fleet.model == POLICY else 1
    arms = Arms(fleet.model, STABLE, CANARY, weight, looks, plan.segment_frames)
    levels = rng.normal(0.0, 0.063, fleet.cameras)
    courses = rng.normal(0.0, 0.14, fleet.cameras)
    load = rng.normal(0.0, 0.15)
    number = 0
    segments = max(portion // fleet.cameras // segment, 1)
    turns = segments * segment
    while True:
        count = turns * fleet.cameras
        slow = _course(rng, courses, turns, 0.85, 0.14)
        courses = slow[-1]
        quality = 0.92 + levels + slow + rng.normal(0, 0.14, slow.shape)
        loads = _course(rng, np.array([load]), count, 0.99, 0.15)[:, 0]
        load = float(loads[-1])
        spent = 25 * np.exp(loads + rng.normal(0, 0.15, count))
        spent *= np.where(rng.random(count) < 0.02, np.minimum(2 + rng.pareto(2, count), 15), 1)
        drawn = rng.random((segments, fleet.cameras)) < weight / FULL
        canary = np.repeat(drawn, segment, axis=0).ravel()
        failing = np.where(canary & (fault == "errors"), _FAULTY_FAILURES, _FAILURES)
        failed = rng.random(count) < failing
        slow, large = canary & (fault == "latency"), np.zeros(count, np.bool_)
        if fleet.model == POLICY:
            large = rng.random(count) < np.where(slow, _FAULTY_LARGE_SHARE, _LARGE_SHARE)
            spent *= np.where(large, _LARGE_RATIO, 1.0)
        else:
            spent *= np.where(slow, _SLOWER, 1.0)
        agreement = np.clip(quality, 0, 1).ravel()
        worse = canary & (fault == "accuracy") & (rng.random(count) < _WORSE_FRAMES)
        agreement = np.where(worse, (1 - _WORSE_BY) * agreement, agreement)
        looked = (rng.random(count) < np.where(canary, *looks)) & ~large
        yield arms, _table(fleet, number, canary, failed, large, spent, agreement, looked)
        number += count


def _course(
    rng: np.random.Generator, last: np.ndarray, count: int, correlation: float, deviation: float
) -> np.ndarray:
    """A first-order autoregressive course, float64 [count, streams], that goes on from the last."""
    steps = rng.normal(0, deviation * np.sqrt(1 - correlation**2), (count, len(last)))
    found, _ = lfilter([1.0], [1.0, -correlation], steps, axis=0, zi=correlation * last[None])
    return np.asarray(found)


def _table(
    fleet: CameraFleet,
    number: int,
    canary: np.ndarray,
    failed: np.ndarray,
    large: np.ndarray,
    spent: np.ndarray,
    agreement: np.ndarray,
    looked: np.ndarray,
) -> pa.Table:
    count = len(canary)
    order = np.arange(number, number + count)
    times = _BEGIN + (1e6 / (fleet.cameras * fleet.fps) * order).astype("timedelta64[us]")
    sessions = np.array([f"camera-{one}" for one in range(fleet.cameras)])
    revisions = np.where(canary, CANARY, STABLE)
    policies = np.full(count, "3" * 12)
    if fleet.model == POLICY:
        policies, revisions = revisions, policies
    nothing = [""] * count
    rung = np.where(large, REFERENCE, _MODEL)
    columns = {
        "event_id": pa.array(order).cast(pa.string()),
        "time": pa.array(times).cast(TIME),
        "source": ["stream"] * count,
        "session": sessions[order % fleet.cameras],
        "frame_id": order // fleet.cameras,
        "policy_revision": policies,
        "rung": rung,
        # What the canary fails at, the stable revision answers; what that fails at, a neighbour.
        "answered_by": np.where(failed & ~canary, "nano", rung),
        "revision": np.where(failed, np.where(canary, STABLE, "2" * 12), revisions),
        "asked": revisions,
        "fallback": np.where(failed, "failed", ""),
        "error": nothing,
        "queue_ms": np.zeros(count),
        "detect_ms": spent,
        "total_ms": spent,
        "shadow": looked,
        "agreement": pa.array(np.where(looked, agreement, np.nan), from_pandas=True),
        "tags": pa.nulls(count, pa.map_(pa.string(), pa.string())),
    }
    return pa.table({name: columns[name] for name in COLUMNS})
