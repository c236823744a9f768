"""The evaluation report as types: what ``report.json`` holds, for every program that reads it.

The gate, the registry, the ledger and the dashboard read this one file. ``docs/report.schema.json``
is its JSON schema. A figure that does not exist is null: there is no NaN in JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from foundation.errors import InvalidInput

REPORT_FILE = "report.json"
REPORT_PAGE = "report.html"


class _Part(BaseModel):
    """A part of the report; fields that this version does not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Estimate(_Part):
    """A figure with its 95 % interval over clips.

    Attributes:
        value: on all frames.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float | None
    low: float | None
    high: float | None


class Row(_Part):
    """One way to route, at the policy's mean latency where it has a knob.

    Attributes:
        name: gearshift, or the alternative's name.
        map: accuracy by the task's measure, such as mAP50-95.
        retained: the same over large's.
        retained_interval: 95 % interval over clips.
        mean_ms: mean latency in milliseconds, everything that runs included; then quantiles.
        p50_ms: median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        latency_ratio: mean latency over large's.
        fps: frames per second of one stream.
        usd_per_million: cost of a million frames.
        setting: of the alternative's knob.
        shares: of the frames, by rung; what is missing to 1 reused an earlier answer.
    """

    name: str
    map: float | None
    retained: float | None
    retained_interval: tuple[float | None, float | None]
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    latency_ratio: float
    fps: float
    usd_per_million: float
    setting: str
    shares: Mapping[str, float]


class Point(_Part):
    """A point of a curve: accuracy over large's at mean latency over large's."""

    latency_ratio: float
    retained: float | None


class NamedPoint(Point):
    """A point with the setting that reaches it."""

    name: str


class CurvePoint(Point):
    """The policy at one operating point.

    Attributes:
        latency_weight: the operating point.
        gap_share: share of the gap between hull and oracle at its own latency.
        certified: accuracy retained that holds with 95 % confidence.
    """

    latency_weight: float
    gap_share: float | None
    certified: float | None


class Guarantee(_Part):
    """The cheapest operating point at which an accuracy is certified.

    Attributes:
        asked: accuracy retained that must hold.
        confidence: with which it holds.
        latency_weight: the operating point; null where none holds, as is the next.
        latency_ratio: its mean latency over large's.
    """

    asked: float
    confidence: float
    latency_weight: float | None
    latency_ratio: float | None


class GapShare(_Part):
    """Share of the gap between hull and oracle at one fixed latency."""

    latency_ratio: float
    share: Estimate


class Lift(_Part):
    """Accuracy retained above what else is to be had at the policy's mean latency.

    Attributes:
        over_hull: above the fixed rungs and their random mixes.
        over_rule: above the best rule.
        rule: which one that is; chosen on frames that the lift is not measured on.
    """

    over_hull: Estimate
    over_rule: Estimate
    rule: str


class Reuse(_Part):
    """The tracked policy where it may answer frames without a look.

    Attributes:
        longest: frames in a row without a look, at most.
        doubt: largest doubt of the last look after which that is allowed.
        share: of the frames that no detector looked at.
        row: accuracy and latency.
        over_tracked_hull: accuracy retained above fixed rungs and mixes with a tracker.
    """

    longest: int
    doubt: float
    share: float
    row: Row
    over_tracked_hull: Estimate


class Tracked(_Part):
    """The same ways to route with a tracker behind them.

    Attributes:
        tracker_ms: median milliseconds of one update, which every frame pays.
        rows: the fixed rungs, every alternative at the policy's latency, and the policy.
        over_hull: the tracked policy above fixed rungs and mixes without a tracker.
        over_tracked_hull: the same above fixed rungs and mixes with one.
        reuse: the policy with the reuse setting that earned most on the frames to learn from.
    """

    tracker_ms: float
    rows: tuple[Row, ...]
    over_hull: Estimate
    over_tracked_hull: Estimate
    reuse: Reuse


class Group(_Part):
    """Frames that have something in common."""

    frames: int
    shares: Mapping[str, float]
    retained: float | None
    latency_ratio: float


class Gear(_Part):
    """What the use of one rung is worth.

    Attributes:
        share: of the frames that it was chosen for.
        gain: mean reward on those frames less that of the best other rung on all of them; below 0
            where that rung should have taken them all. Null for a rung that is not used.
    """

    share: float
    gain: float | None


class ObjectClass(_Part):
    """One class of objects: how many were judged, AP50-95, and the same over large's."""

    objects: int
    ap: float | None
    retained: float | None


class Labels(_Part):
    """The policy's choices against the optimal labels of its operating point."""

    confusion: tuple[tuple[int, ...], ...]
    balanced_accuracy: float
    majority_balanced_accuracy: float
    mean_regret: float
    mean_regret_of_rung: Mapping[str, float]


class Fleet(_Part):
    """Cameras that share one set of rungs: mean reward per frame, share of frames dropped."""

    cameras: int
    name: str
    reward: float
    dropped: float


class Load(_Part):
    """What PPO adds under load, against a congestion price on the clone.

    Attributes:
        cameras: that share one set of rungs.
        price: the congestion price, tuned on the frames to learn from.
        over_price: reward per frame of the policy less that of the clone with the price, on the
            same clips; the interval is over fleets.
    """

    cameras: int
    price: float
    over_price: Estimate


class SeedFigures(_Part):
    """One seed's policy at its own operating point."""

    retained: float | None
    latency_ratio: float
    gap_share: float | None


class RouterTime(_Part):
    """Milliseconds of the router: to make the observation, and to decide."""

    observe: float
    decide: float


class PolicyName(_Part):
    """Which file was judged."""

    sha256: str
    revision: str


class Counts(_Part):
    """Numbers to learn from and to judge by."""

    learn: int
    judge: int


class DataFacts(_Part):
    """What the figures come from.

    Attributes:
        frames: learned from, and judged by.
        clips: likewise.
        objects_judged: on the frames that judge.
        sha256: of the data set, by which ``gearshift data checkout`` finds its version; empty for
            data that ingest did not write.
        version: STORE@ID of the stored version that the data were ingested from; else empty.
    """

    frames: Counts
    clips: Counts
    objects_judged: int
    sha256: str = ""
    version: str = ""


class Report(_Part):
    """All figures of one evaluation.

    Attributes:
        task: what is routed for.
        measure: of accuracy, which ``map`` and ``ap`` hold.
        rows: the fixed rungs, every alternative at the policy's latency, the policy, the oracle.
        retained: the policy's accuracy over large's.
        latency_ratio: the policy's mean latency over large's.
        gap_share: share of the gap between hull and oracle at the policy's own latency.
        gap_share_interval: of that.
        lift: paired differences to the hull and to the best rule.
        gap_shares: the share at fixed latencies, which is comparable between policies.
        mean_gap_share: over those latencies.
        certified: accuracy retained that holds with 95 % confidence at the released point.
        guarantee: the cheapest operating point at which the accuracy asked for is certified.
        tracked: the same with a tracker, where the task's answers can be followed.
        gears: which rungs are used, and whether each pays.
        classes: by name of the class.
        curve: the policy at every operating point.
        latency_weight: the released operating point.
        router_ms: what the router costs.
        seeds: every seed's policy.
        apgr: average performance gap recovered, by way to route.
        at_equal_latency: accuracy retained of each alternative's curve at the policy's latency;
            a curve that does not reach that latency stands at its nearer end.
        scene_types: by scene type.
        conditions: by condition.
        labels: against the optimal labels.
        fleets: under load, each decision with the queues that those before it left.
        load: whether PPO earns its place there.
        points: every setting of every alternative.
        hull: fixed rungs and their random mixes.
        oracle_hull: the optimal labels.
        refinement: what the refine stage wrote down.
        policy: which file was judged.
        measurement: price, machine, settings, versions.
        data: what the figures come from.
        config: of the evaluation.
        gate: the gate's verdict, once there is one.
        challenge: the comparison with the champion, of a retraining.
    """

    task: str = "detection"
    measure: str = "mAP50-95"
    rows: tuple[Row, ...]
    retained: float | None
    latency_ratio: float
    gap_share: float | None
    gap_share_interval: tuple[float | None, float | None]
    lift: Lift
    gap_shares: tuple[GapShare, ...]
    mean_gap_share: Estimate
    certified: float | None
    guarantee: Guarantee
    tracked: Tracked | None = None
    gears: Mapping[str, Gear]
    classes: Mapping[str, ObjectClass]
    curve: tuple[CurvePoint, ...]
    latency_weight: float
    router_ms: RouterTime
    seeds: tuple[SeedFigures, ...]
    apgr: Mapping[str, float | None]
    at_equal_latency: Mapping[str, float | None]
    scene_types: Mapping[str, Group]
    conditions: Mapping[str, Group]
    labels: Labels
    fleets: tuple[Fleet, ...]
    load: Load
    points: Mapping[str, tuple[NamedPoint, ...]]
    hull: tuple[Point, ...]
    oracle_hull: tuple[Point, ...]
    refinement: Mapping[str, Any]
    policy: PolicyName
    measurement: Mapping[str, Any]
    data: DataFacts
    config: Mapping[str, Any]
    gate: Mapping[str, Any] | None = None
    challenge: Mapping[str, Any] | None = None

    def row(self, name: str) -> Row:
        """The row of a name; KeyError where there is none."""
        return {row.name: row for row in self.rows}[name]

    def to_json(self) -> str:
        """The content of ``report.json``."""
        content = self.model_dump(mode="json", exclude_none=False)
        return json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"


def load_report(path: Path) -> Report:
    """Read ``report.json``.

    Raises:
        InvalidInput: it is missing, broken, or lacks a figure.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
        raise InvalidInput(f"{path} is missing or broken ({reason}); run evaluate again") from error


def report_schema() -> str:
    """The JSON schema of ``report.json``, as ``docs/report.schema.json`` has it."""
    return json.dumps(Report.model_json_schema(), indent=1) + "\n"


def without_nan(value: Any) -> Any:
    """The value as JSON can hold it: a figure that does not exist is null."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
