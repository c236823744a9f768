"""The evidence of the log, the drift check and the reviews for each rule, as of now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foundation.json_lines import read_lines
from inference_graph.contract import REFERENCE
from inference_graph.control.drift_state import WORDS, read_state
from inference_graph.control.triggers.config import (
    AccuracyRule,
    DriftRule,
    LatencyRule,
    Rule,
    ScheduleRule,
    TriggersConfig,
    VolumeRule,
)
from inference_graph.control.triggers.cron import latest_due
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.retained import ENOUGH_SESSIONS, retained

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Before any log."""


@dataclass(frozen=True)
class Evidence:
    """The evidence for a launch, or against it.

    Attributes:
        rule: the rule's name, or what else asks.
        when: the rule's kind, or "request".
        met: whether it asks for a launch.
        key: the same for the same evidence, which never launches twice; empty where not met.
        sentence: the reason, with its figures.
        figures: the same as numbers.
    """

    rule: str
    when: str
    met: bool
    key: str
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def weigh(
    rule: Rule, config: TriggersConfig, last_launch: datetime | None, now: datetime
) -> Evidence | None:
    """What there is for one rule.

    Nothing from before the last launch counts: what was launched has had it.

    Args:
        rule: the rule.
        config: where the log and the others are.
        last_launch: time of the last launch; aware.
        now: the time; aware.

    Returns:
        The evidence; None for a rule that only waits for alerts.

    Raises:
        InvalidInput: a broken drift state or decisions file.
        StorageError: the log cannot be read.
    """
    since = last_launch or BEGINNING
    if isinstance(rule, VolumeRule):
        return _volume(rule, config, since, now)
    if isinstance(rule, AccuracyRule):
        return _accuracy(rule, config, max(since, now - timedelta(hours=rule.hours)))
    if isinstance(rule, LatencyRule):
        return _latency(rule, config, max(since, now - timedelta(hours=rule.hours)))
    if isinstance(rule, DriftRule):
        return _drift(rule, config, since, now)
    if isinstance(rule, ScheduleRule):
        return _schedule(rule, now)
    return None


def _volume(rule: VolumeRule, config: TriggersConfig, since: datetime, now: datetime) -> Evidence:
    asked = {
        "frames": rule.frames,
        "images": rule.images,
        "approved": rule.approved,
    }
    found: dict[str, int] = {}
    if rule.frames or rule.images:
        table = _answered(config.log, since, ["answered_by", "image_kept"])
        found |= {"frames": len(table), "images": pc.sum(table["image_kept"]).as_py() or 0}
    if rule.approved:
        found["approved"] = _approved(config, since)
    counts = [f"{found[what]} of {least} {what}" for what, least in asked.items() if least]
    met = all(found[what] >= least for what, least in asked.items() if least)
    after = "" if since == BEGINNING else f" since the launch of {_shown(since)}"
    return Evidence(
        rule.name,
        rule.when,
        met,
        f"{rule.name} since {since.isoformat()}" if met else "",
        f"there are {', '.join(counts)}{after}",
        found,
    )


def _accuracy(rule: AccuracyRule, config: TriggersConfig, since: datetime) -> Evidence:
    columns = ["session", "time", "answered_by", "shadow", "agreement"]
    table = _answered(config.log, since, columns)
    large = pc.equal(table["answered_by"], REFERENCE)
    shadowed = table.filter(pc.and_(pc.invert(large), pc.is_valid(table["agreement"])))
    share = float(pc.sum(large).as_py() or 0) / len(table) if len(table) else 0.0
    sessions = len(pc.unique(shadowed["session"]))
    unit = "sessions" if sessions >= ENOUGH_SESSIONS else "minutes"
    found = retained(_clusters(shadowed, unit), share, unit)
    figures = {
        "retained": _rounded(found.share),
        "low": _rounded(found.low),
        "high": _rounded(found.high),
        "shadowed": found.shadowed,
        "frames": len(table),
    }
    if found.shadowed < rule.shadowed:
        detail = f"the shadow looked at {found.shadowed} of the {rule.shadowed} frames needed"
        return Evidence(rule.name, rule.when, False, "", detail, figures)
    worst = found.high if rule.certain else found.share
    met = bool(worst < rule.retained_below)
    interval = f"{found.low:.1%} to {found.high:.1%}"
    return Evidence(
        rule.name,
        rule.when,
        met,
        _window_key(rule, table) if met else "",
        f"{found.share:.1%} of large's accuracy was retained ({interval}) on {found.shadowed} "
        f"frames; the floor is {rule.retained_below:.1%}",
        figures,
    )


def _latency(rule: LatencyRule, config: TriggersConfig, since: datetime) -> Evidence:
    table = _answered(config.log, since, ["time", "answered_by", "total_ms"])
    spent = table["total_ms"].drop_null().to_numpy()
    if len(spent) < rule.frames:
        detail = f"{len(spent)} of the {rule.frames} frames needed were answered"
        return Evidence(rule.name, rule.when, False, "", detail, {"frames": len(spent)})
    p95 = float(np.percentile(spent, 95))
    met = p95 > rule.p95_ms
    return Evidence(
        rule.name,
        rule.when,
        met,
        _window_key(rule, table) if met else "",
        f"95 % of {len(spent)} answers came within {p95:.1f} ms; the ceiling is {rule.p95_ms:g} ms",
        {"p95_ms": round(p95, 3), "frames": len(spent)},
    )


def _drift(rule: DriftRule, config: TriggersConfig, since: datetime, now: datetime) -> Evidence:
    state = read_state(config.drift)

    def unmet(detail: str) -> Evidence:
        return Evidence(rule.name, rule.when, False, "", detail)

    if state is None:
        return unmet(f"no drift check has left its state in {config.drift}")
    if state.checked_at < now - timedelta(hours=rule.max_age_hours):
        return unmet(f"the last drift check is of {_shown(state.checked_at)}, which is too old")
    detail = f"{WORDS[state.decision]}: {state.sentence}"
    if state.decision not in rule.decisions:
        return unmet(detail)
    if state.until is None or state.until <= since:
        return unmet("the last drift check saw only frames from before the last launch")
    window = f"{state.since and state.since.isoformat()} to {state.until.isoformat()}"
    key = f"{rule.name} {state.decision} {state.policy_revision} {window}"
    figures = {"decision": state.decision, "frames": state.frames, "retained": state.retained}
    return Evidence(rule.name, rule.when, True, key, detail, figures)


def _schedule(rule: ScheduleRule, now: datetime) -> Evidence:
    due = latest_due(rule.cron, now)
    if due is None or now - due > timedelta(hours=rule.catch_up_hours):
        return Evidence(rule.name, rule.when, False, "", f"nothing is due by {rule.cron!r}")
    detail = f"it was due at {_shown(due)} by {rule.cron!r}"
    return Evidence(rule.name, rule.when, True, f"{rule.name} at {due.isoformat()}", detail)


def _answered(log: str, since: datetime, columns: list[str]) -> pa.Table:
    """Answers of the log since a time; frames without one are left out."""
    table = read_log(log, since=since, columns=columns)
    return table.filter(pc.not_equal(table["answered_by"], ""))


def _approved(config: TriggersConfig, since: datetime) -> int:
    """Items that were approved since a time and are so still."""
    states: dict[str, bool] = {}
    for line in read_lines(config.feedback):
        new = datetime.fromisoformat(str(line.get("time"))) > since
        states[str(line.get("item"))] = line.get("decision") == "approved" and new
    return sum(states.values())


def _clusters(table: pa.Table, unit: str) -> list[tuple[int, float]]:
    keys = table["session"].to_pylist()
    if unit == "minutes":
        minutes = table["time"].cast(pa.int64()).to_numpy() // 60_000_000
        keys = list(zip(keys, minutes.tolist(), strict=True))
    groups: dict[Any, list[float]] = defaultdict(list)
    for key, agreed in zip(keys, table["agreement"].to_pylist(), strict=True):
        groups[key].append(agreed)
    return [(len(values), sum(values)) for values in groups.values()]


def _window_key(rule: Rule, table: pa.Table) -> str:
    ends = pc.min_max(table["time"]).as_py()
    return f"{rule.name} {ends['min'].isoformat()} to {ends['max'].isoformat()} {len(table)}"


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _shown(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
