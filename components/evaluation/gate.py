"""The release gate: a checklist that a policy must pass whole before it is registered."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from components.evaluation.report_schema import Report, load_report
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path

GATE_FILE = "gate.json"
GATE_PAGE = "gate.md"

_LEAST_SHARE = 0.01
"""A rung that is used less is an exception, not a gear; its gain on so few frames is chance."""


@configuration
class GateConfig:
    """Thresholds of the checklist.

    Attributes:
        retained: least share of the large rung's mAP50-95 that must be kept.
        latency_ratio: most mean latency over large's, the router's own included.
        hull_margin: what the lift over the fixed rungs and their random mixes must exceed, at the
            lower end of its 95 % interval.
        rule_margin: the same over the best tuned rule, which the policy must not fall below; a
            little below zero, for on few clips the interval is wide.
        clone_margin: least retained accuracy above the clone at the same latency; a little below
            zero, for PPO is allowed to be level with it.
        fixed_rung_margin: least retained accuracy above every fixed rung that is as fast.
        gear_gain: least gain in reward of every rung that is used for more than 1 % of the frames,
            against the best other rung in its place.
        scene_type_retained: least retained accuracy within every scene type.
        protect: classes that must not be missed, each with the least share of large's AP50-95,
            such as ``person=0.99``.
        parity: least share of observations on which the exported file decides as PPO does.
        explained_variance: what the critic must have explained before PPO began (more than this).
    """

    retained: Share = 0.95
    latency_ratio: float = 0.42
    hull_margin: float = 0.0
    rule_margin: float = -0.01
    clone_margin: float = -0.005
    fixed_rung_margin: float = 0.0
    gear_gain: float = 0.0
    scene_type_retained: Share = 0.93
    protect: tuple[str, ...] = ()
    parity: Share = 1.0
    explained_variance: float = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a floor that cannot be read."""
        _ = self.floors

    @property
    def floors(self) -> dict[str, float]:
        """Least share of large's AP50-95, by protected class."""
        found = {}
        for text in self.protect:
            name, _, number = text.rpartition("=")
            try:
                floor = float(number)
            except ValueError:
                floor = math.nan
            if not name.strip() or not 0 <= floor <= 1:
                raise ConfigurationError(
                    f"gate.protect holds {text!r}; give a class and a share from 0 to 1, such as "
                    "person=0.99"
                )
            found[name.strip()] = floor
        return found


@dataclass(frozen=True)
class Check:
    """One row of the checklist; ``value`` is None where the figure does not exist.

    ``relation`` states how the value must stand to the threshold.
    """

    name: str
    value: float | None
    threshold: float
    relation: Literal[">=", ">", "<="]
    passed: bool


@dataclass(frozen=True)
class GateSummary:
    """The verdict, every row that led to it, and what does not refuse but should be known."""

    passed: bool
    checks: tuple[Check, ...]
    warnings: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """The failed rows in one line; empty when the gate passed."""
        return "; ".join(
            f"{check.name} is {_number(check.value)}, must be {check.relation} "
            f"{_number(check.threshold)}"
            for check in self.checks
            if not check.passed
        )


def checked(
    name: str, value: float | None, relation: Literal[">=", ">", "<="], threshold: float
) -> Check:
    """A row of a checklist; a figure that could not be measured fails it."""
    if value is None:
        passed = False  # it has not been shown to suffice
    elif relation == "<=":
        passed = value <= threshold
    else:
        passed = value > threshold or (relation == ">=" and value == threshold)
    return Check(name, value, threshold, relation, passed)


def checklist(report: Report, config: GateConfig) -> tuple[Check, ...]:
    """Hold a report against the thresholds.

    Raises:
        ConfigurationError: a class to protect is none of the ladder's.
        InvalidInput: the report lacks a figure.
    """
    try:
        clone = report.at_equal_latency["bc"]
        policy = report.refinement["seeds"].index(report.refinement["released"])
        parity = report.refinement["parity"][policy]
        variance = report.refinement["explained_variance"][policy]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidInput(
            f"the report lacks what the gate checks ({error}); run evaluate again"
        ) from error
    return (
        checked("retained", report.retained, ">=", config.retained),
        checked("latency_ratio", report.latency_ratio, "<=", config.latency_ratio),
        checked("lift_over_hull_low", report.lift.over_hull.low, ">", config.hull_margin),
        checked("lift_over_rule_low", report.lift.over_rule.low, ">=", config.rule_margin),
        checked("above_clone", _above(report.retained, clone), ">=", config.clone_margin),
        checked("above_fixed_rungs", _above_fixed(report), ">=", config.fixed_rung_margin),
        *(
            checked(f"gain_of_{rung}", gear.gain, ">=", config.gear_gain)
            for rung, gear in report.gears.items()
            if gear.share > _LEAST_SHARE
        ),
        *(
            checked(f"retained_{name}", group.retained, ">=", config.scene_type_retained)
            for name, group in report.scene_types.items()
        ),
        *(
            checked(f"protected_{name}", _protected(report, name), ">=", floor)
            for name, floor in config.floors.items()
        ),
        checked("onnx_parity", parity, ">=", config.parity),
        checked("critic_explained_variance", variance, ">", config.explained_variance),
    )


def _above(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _above_fixed(report: Report) -> float | None:
    """Accuracy retained above the best fixed rung that is as fast; its own without one."""
    as_fast = [
        row.retained
        for row in report.rows
        if row.name.startswith("always-") and row.latency_ratio <= report.latency_ratio
    ]
    if report.retained is None or not as_fast:
        return report.retained
    known = [value for value in as_fast if value is not None]
    return _above(report.retained, max(known, default=0.0))


def _protected(report: Report, name: str) -> float | None:
    try:
        return report.classes[name].retained
    except KeyError:
        raise ConfigurationError(
            f"gate.protect names {name!r}, which the ladder does not detect; "
            f"choose from {', '.join(report.classes)}"
        ) from None


def gate(
    report: Path, out: Path, config: GateConfig, comparison: Path | None = None
) -> GateSummary:
    """Check a policy's report and write the verdict.

    Args:
        report: ``report.json`` of the evaluate stage.
        out: folder to write: ``gate.json`` and ``gate.md``.
        config: the thresholds.
        comparison: ``comparison.json`` of the ladder; what it found wrong is a warning, because
            a policy can be sound on a ladder that is not.

    Returns:
        The verdict. A refusal is a result here, not an error: the register stage refuses.

    Raises:
        InvalidInput: the report or the comparison is missing or lacks a figure.
    """
    try:
        faults = json.loads(comparison.read_text("utf-8"))["faults"] if comparison else ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{comparison} is no comparison; run compare_rungs again") from error
    checks = checklist(load_report(report), config)
    summary = GateSummary(
        all(check.passed for check in checks), checks, tuple(f"ladder: {one}" for one in faults)
    )
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        (folder / GATE_FILE).write_text(json.dumps(asdict(summary), indent=1) + "\n", "utf-8")
        (folder / GATE_PAGE).write_text(_page(summary), "utf-8")
    return summary


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _page(summary: GateSummary) -> str:
    verdict = "passed" if summary.passed else "refused"
    lines = [
        f"# Release gate: {verdict}",
        "",
        "| check | value | must be | |",
        "|---|---|---|---|",
        *(
            f"| {check.name} | {_number(check.value)} | {check.relation} "
            f"{_number(check.threshold)} | {'pass' if check.passed else '**fail**'} |"
            for check in summary.checks
        ),
    ]
    if not summary.passed:
        lines += ["", f"Refused: {summary.refusal}."]
    if summary.warnings:
        lines += ["", "Warnings:", "", *(f"- {warning}" for warning in summary.warnings)]
    return "\n".join(lines) + "\n"
