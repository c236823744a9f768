"""Policies that can be looked at, and what their reports state of them and of every alternative."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from components.evaluation.frontier import Frontier, gap_share
from components.tasks import task_named
from dashboards.pages.policies.registry import RegisteredPolicy
from dashboards.pages.policies.runs import REPORT_FILE, Run
from feature_transformer.makers import DETECTION
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER

POLICY = "gearshift"
"""What the report calls the policy itself."""
ORACLE = "oracle"
ALWAYS = "always-"
"""A row whose name begins so is a fixed rung."""


@dataclass(frozen=True)
class PolicyRow:
    """What one way of routing kept and cost on the held-out clips.

    Attributes:
        name: ``gearshift``, or the alternative's name.
        setting: of its knob.
        map: the task's accuracy; None where it does not exist, as are the next three.
        retained: the same over large's.
        interval: 95 % interval of ``retained``.
        gap: share of the gap between random mixes and the oracle at its own latency.
        latency_ratio: mean latency over large's.
        mean_ms: mean latency, milliseconds; then quantiles.
        p50_ms: see above.
        p95_ms: see above.
        p99_ms: see above.
        fps: frames per second.
        usd_per_million: cost of a million frames.
        shares: of the frames, by rung.
    """

    name: str
    setting: str
    map: float | None
    retained: float | None
    interval: tuple[float, float] | None
    gap: float | None
    latency_ratio: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    fps: float
    usd_per_million: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Spot:
    """A point of a curve, with its setting in words."""

    latency_ratio: float
    retained: float
    setting: str = ""


@dataclass(frozen=True)
class PolicyReport:
    """A report, read.

    Attributes:
        rows: the policy and every alternative at the policy's latency, in the report's order.
        curve: the policy at every operating point.
        hull: what fixed rungs and their random mixes reach.
        oracle: what the optimal labels reach.
        tried: every alternative at each of its settings.
        latency_weight: the operating point of the release.
        scene_types: by scene type: frames, retained, latency_ratio, shares.
        labels: against the optimal labels: confusion, balanced accuracy, regret.
        basis: what must be the same for two reports to be comparable, by name.
        passed: the gate's verdict; None where it is not known.
        failed: checks that the gate found wanting.
    """

    rows: tuple[PolicyRow, ...]
    curve: tuple[Spot, ...]
    hull: tuple[Spot, ...]
    oracle: tuple[Spot, ...]
    tried: Mapping[str, tuple[Spot, ...]]
    latency_weight: float
    scene_types: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, Any]
    basis: Mapping[str, str]
    passed: bool | None
    failed: tuple[str, ...]

    def row(self, name: str) -> PolicyRow:
        """The row of a name.

        Raises:
            InvalidInput: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise InvalidInput(f"the report has no row {name!r}; there are {known}")

    @property
    def policy(self) -> PolicyRow:
        """The policy's own row."""
        return self.row(POLICY)


@dataclass(frozen=True)
class KnownPolicy:
    """A registered version, a run's policy, or one that is both.

    Attributes:
        key: its name in addresses: ``v3`` or ``run-demo``.
        version: in the model registry; None for a policy that is not registered.
        run: its folder on this machine; None where that is not known.
    """

    key: str
    version: RegisteredPolicy | None
    run: Run | None

    @property
    def name(self) -> str:
        """What people call it."""
        if self.version is not None:
            return f"version {self.version.version}"
        return f"run {self._run.name}"

    @property
    def revision(self) -> str:
        """First 12 hexadecimal digits of the policy's SHA-256; empty where it is not known."""
        if self.version is not None and self.version.policy_revision:
            return self.version.policy_revision
        return self.run.policy_revision if self.run is not None else ""

    @property
    def created(self) -> datetime:
        """When it was registered, or its report written; aware, UTC."""
        if self.version is not None:
            return self.version.created
        written = (self._run.folder / REPORT_FILE).stat().st_mtime
        return datetime.fromtimestamp(written, UTC)

    @cached_property
    def report(self) -> Mapping[str, Any]:
        """The report, from the run's folder or from MLflow.

        Raises:
            InvalidInput: it is missing or broken.
        """
        if self.run is None and self.version is not None:
            return self.version.report()
        return self._run.report

    @cached_property
    def judgement(self) -> PolicyReport:
        """The report, read.

        Raises:
            InvalidInput: the report is missing, broken, or lacks a figure.
        """
        return read_judgement(self.report, self.name)

    @property
    def policy_file(self) -> Path | None:
        """Its ONNX file on this machine; None where there is none."""
        places = [self.run.policy] if self.run is not None else []
        if self.version is not None and self.version.artifacts is not None:
            places.append(self.version.artifacts / "policy.onnx")
        return next((place for place in places if place.is_file()), None)

    @property
    def _run(self) -> Run:
        if self.run is None:
            raise InvalidInput(f"policy {self.key} has neither a version nor a run")
        return self.run


def known_policies(
    registry: Sequence[RegisteredPolicy], runs: Sequence[Run]
) -> tuple[KnownPolicy, ...]:
    """Registered versions, newest first, then runs whose policy is not registered.

    A version whose policy is a run's, by its digest, is one entry with that run.
    """
    by_revision = {run.policy_revision: run for run in reversed(runs) if run.policy_revision}
    found = [
        KnownPolicy(f"v{one.version}", one, by_revision.get(one.policy_revision))
        for one in registry
    ]
    taken = {one.revision for one in found}
    keys = {one.key for one in found}
    for run in runs:
        if run.policy_revision and run.policy_revision in taken:
            continue
        key = f"run-{run.name}"
        while key in keys:  # folders of one name in different places
            key += "'"
        keys.add(key)
        found.append(KnownPolicy(key, None, run))
    return tuple(found)


def read_judgement(report: Mapping[str, Any], name: str) -> PolicyReport:
    """Read ``report.json``.

    Args:
        report: its content.
        name: whose it is, for messages.

    Raises:
        InvalidInput: it lacks a figure, or one is no number.
    """
    try:
        hull, oracle = _spots(report["hull"]), _spots(report["oracle_hull"])
        fronts = _front(hull), _front(oracle)
        gate = report.get("gate") or {}
        checks = gate.get("checks") or ()
        return PolicyReport(
            rows=tuple(_row(row, *fronts) for row in report["rows"]),
            curve=_spots(report["curve"], "latency_weight"),
            hull=hull,
            oracle=oracle,
            tried={
                family: _spots(points, "name")
                for family, points in report["points"].items()
                if family not in (POLICY, ORACLE)
            },
            latency_weight=float(report["latency_weight"]),
            scene_types=report["scene_types"],
            labels=report["labels"],
            basis=_basis(report),
            passed=gate.get("passed"),
            failed=tuple(check["name"] for check in checks if not check["passed"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"the report of {name} lacks figures ({type(error).__name__}: {error}); "
            "run the pipeline again"
        ) from error


def unlike(one: PolicyReport, other: PolicyReport) -> tuple[str, ...]:
    """Names of what two reports were not judged on alike; their figures differ by that too."""
    return tuple(name for name, value in one.basis.items() if value != other.basis.get(name, value))


def _row(row: Mapping[str, Any], hull: Frontier | None, oracle: Frontier | None) -> PolicyRow:
    retained, ratio = _maybe(row["retained"]), float(row["latency_ratio"])
    ends = [_maybe(end) for end in row["retained_interval"]]
    gap = None
    if retained is not None and hull is not None and oracle is not None:
        share = gap_share(ratio, retained, hull, oracle)
        gap = None if share != share else share
    return PolicyRow(
        name=str(row["name"]),
        setting=str(row["setting"]),
        map=_maybe(row["map"]),
        retained=retained,
        interval=None if ends[0] is None or ends[1] is None else (ends[0], ends[1]),
        gap=gap,
        latency_ratio=ratio,
        mean_ms=float(row["mean_ms"]),
        p50_ms=float(row["p50_ms"]),
        p95_ms=float(row["p95_ms"]),
        p99_ms=float(row["p99_ms"]),
        fps=float(row["fps"]),
        usd_per_million=float(row["usd_per_million"]),
        shares={rung: float(row["shares"][rung]) for rung in LADDER},
    )


def _spots(points: Iterable[Mapping[str, Any]], setting: str = "") -> tuple[Spot, ...]:
    """Points; one where nothing can be retained is left out."""
    return tuple(
        Spot(float(one["latency_ratio"]), float(one["retained"]), _setting_label(one, setting))
        for one in points
        if one["retained"] is not None
    )


def _setting_label(point: Mapping[str, Any], setting: str) -> str:
    value = point[setting] if setting else ""
    return f"latency weight {value:.3g}" if isinstance(value, float) else str(value)


def _front(spots: Sequence[Spot]) -> Frontier | None:
    points = [(spot.latency_ratio, spot.retained) for spot in spots]
    return Frontier.of(points) if points else None


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)


def task_of(report: Mapping[str, Any]) -> str:
    """Name of the task that a report is of."""
    return str(report.get("task", DETECTION))


def _basis(report: Mapping[str, Any]) -> dict[str, str]:
    measured, data = report["measurement"], report["data"]
    machine = measured.get("machine") or {}
    return {
        "data set": str(measured.get("dataset_sha256")),
        "held-out clips": f"{data['clips']['judge']} clips, {data['frames']['judge']} frames, "
        f"{data['objects_judged']} {task_named(task_of(report)).truths}",
        "task": task_of(report),
        "ladder": str(measured.get("sha256")),
        "machine": f"{machine.get('cpu')}, {machine.get('cores')} cores",
        "detector settings": str(measured.get("settings")),
    }
