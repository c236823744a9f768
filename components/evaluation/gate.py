"""The release gate: a checklist that a policy must pass whole before it is registered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path

GATE_FILE = "gate.json"
GATE_PAGE = "gate.md"


@dataclass(frozen=True)
class GateConfig:
    """Thresholds of the checklist.

    Attributes:
        retained: least share of the large rung's mAP50-95 that must be kept.
        latency_ratio: most mean latency over large's, the router's own included.
        hull_margin: least retained accuracy above the fixed rungs and their random mixes at the
            same latency.
        clone_margin: least retained accuracy above the clone at the same latency; a little below
            zero, for PPO is allowed to be level with it.
        scene_type_retained: least retained accuracy within every scene type.
        parity: least share of observations on which the exported file decides as PPO does.
        explained_variance: what the critic must have explained before PPO began (more than this).
    """

    retained: float = 0.95
    latency_ratio: float = 0.42
    hull_margin: float = 0.0
    clone_margin: float = -0.005
    scene_type_retained: float = 0.93
    parity: float = 1.0
    explained_variance: float = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a threshold no policy could meet."""
        for name in ("retained", "scene_type_retained", "parity"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"gate.{name} is {getattr(self, name)}; give 0 to 1")


@dataclass(frozen=True)
class Check:
    """One row of the checklist; ``value`` is None where the figure does not exist.

    ``relation`` tells how the value must stand to the threshold.
    """

    name: str
    value: float | None
    threshold: float
    relation: Literal[">=", ">", "<="]
    passed: bool


@dataclass(frozen=True)
class GateSummary:
    """The verdict and every row that led to it."""

    passed: bool
    checks: tuple[Check, ...]

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


def _above(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def checklist(report: Mapping[str, Any], config: GateConfig) -> tuple[Check, ...]:
    """Hold a report against the thresholds.

    Raises:
        InvalidInput: the report lacks a figure.
    """
    try:
        retained, others = report["retained"], report["at_equal_latency"]
        policy = report["refinement"]["seeds"].index(report["refinement"]["released"])
        rows = [
            checked("retained", retained, ">=", config.retained),
            checked("latency_ratio", report["latency_ratio"], "<=", config.latency_ratio),
            checked("above_hull", _above(retained, others["random-mix"]), ">=", config.hull_margin),
            checked("above_clone", _above(retained, others["bc"]), ">=", config.clone_margin),
            *(
                checked(f"retained_{name}", group["retained"], ">=", config.scene_type_retained)
                for name, group in report["scene_types"].items()
            ),
            checked("onnx_parity", report["refinement"]["parity"][policy], ">=", config.parity),
            checked(
                "critic_explained_variance", report["refinement"]["explained_variance"][policy],
                ">", config.explained_variance,
            ),
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"the report lacks what the gate checks ({error}); run evaluate again"
        ) from error
    return tuple(rows)


def gate(report: Path, out: Path, config: GateConfig) -> GateSummary:
    """Check a policy's report and write the verdict.

    Args:
        report: ``report.json`` of the evaluate stage.
        out: folder to write: ``gate.json`` and ``gate.md``.
        config: the thresholds.

    Returns:
        The verdict. A refusal is a result here, not an error: the register stage refuses.

    Raises:
        InvalidInput: the report is missing or lacks a figure.
    """
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{report} is no report; run evaluate again") from error
    checks = checklist(content, config)
    summary = GateSummary(all(check.passed for check in checks), checks)
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
    return "\n".join(lines) + "\n"
