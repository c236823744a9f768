"""The drift check: a window of the prediction log, compared, decided and reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.drift.config import DriftConfig
from components.drift.decision import Findings, examine
from components.drift.frames import Frames, frames_of, moment
from components.drift.page import write_page
from components.drift.reference import Reference, load_reference
from components.drift.tabular import TABULAR_PAGE, write_tabular
from components.drift.window import Rows, WindowConfig, read_rows, time_of
from components.evaluation.report_schema import without_nan
from foundation.configuration import configuration
from foundation.errors import InvalidInput
from foundation.storage import atomic_path
from inference_graph.control.drift_state import STATE_FILE, DriftState, write_state

REPORT_FILE, REPORT_PAGE = "report.json", "report.html"


@dataclass(frozen=True)
class Compared:
    """What a window is compared with.

    Attributes:
        reference: reference.parquet of a pipeline run, its folder, or a prediction log.
        reference_since: of a log, from this time on.
        reference_until: of a log, before this time.
    """

    reference: str
    reference_since: str = ""
    reference_until: str = ""

    def load(self, most_rows: int) -> Reference:
        """Read it; raises what ``load_reference`` does."""
        since = time_of(self.reference_since, "reference-since")
        until = time_of(self.reference_until, "reference-until")
        return load_reference(self.reference, since, until, most_rows)


@configuration
class CheckOptions(DriftConfig, WindowConfig):
    """What is examined and how, as one command's options; see both for the attributes."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        WindowConfig.__post_init__(self)
        DriftConfig.__post_init__(self)

    @property
    def window(self) -> WindowConfig:
        """Which answers are examined."""
        return WindowConfig(**_values(self, WindowConfig))

    @property
    def drift(self) -> DriftConfig:
        """How they are compared."""
        return DriftConfig(**_values(self, DriftConfig))


def check_drift(
    log: str,
    compared: Compared,
    window: WindowConfig,
    out: Path,
    config: DriftConfig | None = None,
    now: datetime | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> DriftState:
    """Compare a window of the log with a reference, decide, and report.

    Args:
        log: folder or bucket of the prediction log.
        compared: what is usual.
        window: which answers are examined.
        out: folder to write: ``state.json``, ``report.json``, ``report.html`` and, unless turned
            off, ``tabular.html``; the state comes last.
        config: how to compare.
        now: end of a window that names none; the present without it.
        say: called with what is done next; each step may take half a minute.

    Returns:
        What it came to.

    Raises:
        InvalidInput: no reference, or a log without any answer.
        SchemaMismatch: a reference of another observation.
        ConfigurationError: alibi-detect is asked for and not installed.
        StorageError: the log cannot be read, or ``out`` not be written.
    """
    config = config or DriftConfig()
    now = now or datetime.now(UTC)
    reference = compared.load(config.most_rows)
    since, until = window.bounds(now)
    rows = read_rows(log, since, until, config.most_rows, window.only)
    return report_drift(reference, rows, out, config, now, _asked(log, compared, window), say)


def report_drift(
    reference: Reference,
    rows: Rows,
    out: Path,
    config: DriftConfig,
    now: datetime,
    asked: Mapping[str, Any],
    say: Callable[[str], None] = lambda line: None,
) -> DriftState:
    """Examine rows that were read, and write what ``check_drift`` writes.

    Args:
        reference: what is usual.
        rows: what is examined.
        out: folder to write.
        config: how to compare.
        now: when.
        asked: what was asked for, for the report.
        say: called with what is done next.
    """
    frames = frames_of(rows.tables)
    say(f"comparing {len(frames):,} frames with the {len(reference.frames):,} of the reference")
    findings = examine(reference, frames, config)
    report = _report(reference, frames, rows, findings, config, now, asked)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / REPORT_FILE) as partial:
        text = json.dumps(without_nan(report), indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
    (out / TABULAR_PAGE).unlink(missing_ok=True)  # of an earlier check
    say(f"writing the report to {out}")
    tabular = config.tabular and write_tabular(
        reference.frames, frames, findings.spacing, config, reference.class_names, out
    )
    with atomic_path(out / REPORT_PAGE) as partial:
        write_page(report, reference, frames, partial, TABULAR_PAGE if tabular else "")
    state = _state(frames, findings, now)
    write_state(state, out)
    return state


def figures_of(out: Path) -> dict[str, Any]:
    """The numbers of a check's ``report.json`` that are worth a curve over many checks.

    Raises:
        InvalidInput: there is no report.
    """
    try:
        report = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))
        harm = report["harm"]
        found = {
            "frames": report["window"]["frames"],
            "drift": report["decision"] in ("watch", "retrain"),
            "harmful": report["decision"] == "retrain",
            "retained": harm["window"]["share"],
            "loss": harm["loss"],
            "p": {one["name"]: one["p_value"] for one in report["comparisons"]},
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{out} holds no drift report; run the check again") from error
    return {name: value for name, value in found.items() if value is not None}


def leave_results(out: Path, folder: str) -> None:
    """Copy a check's files to where the dashboard looks; the state comes last.

    Args:
        out: the check's folder.
        folder: where to; nowhere if it is empty.

    Raises:
        StorageError: it cannot be written.
    """
    if not folder:
        return
    for name in (REPORT_FILE, TABULAR_PAGE, REPORT_PAGE, STATE_FILE):
        if (out / name).is_file():
            with atomic_path(Path(folder) / name) as partial:
                shutil.copyfile(out / name, partial)


def _values(options: CheckOptions, of: type) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in fields(of)}


def _asked(log: str, compared: Compared, window: WindowConfig) -> dict[str, Any]:
    return {"log": log, **asdict(compared), **asdict(window)}


def _report(
    reference: Reference,
    frames: Frames,
    rows: Rows,
    findings: Findings,
    config: DriftConfig,
    now: datetime,
    asked: Mapping[str, Any],
) -> dict[str, Any]:
    notes = list(findings.notes)
    if rows.left_out:
        notes.append(
            f"{rows.left_out:,} older answers of the window were left out (most_rows is "
            f"{config.most_rows:,})."
        )
    if len(rows) > len(frames):
        notes.append(f"{len(rows) - len(frames):,} rows without an answer were left out.")
    first, last = _ends(frames)
    return {
        "decision": findings.decision,
        "sentence": findings.sentence,
        "evidence": list(findings.evidence),
        "notes": notes,
        "comparisons": [{**asdict(one), "drifted": one.drifted} for one in findings.comparisons],
        "harm": asdict(findings.harm),
        "window": {
            "frames": len(frames),
            "streams": len(set(frames.stream.tolist())),
            "spacing": findings.spacing[1],
            "since": None if first is None else first.isoformat(),
            "until": None if last is None else last.isoformat(),
            "policy_revision": frames.policy_revision,
        },
        "reference": {
            "name": reference.name,
            "frames": len(reference.frames),
            "held_out": int(reference.frames.held_out.sum()),
            "streams": len(set(reference.frames.stream.tolist())),
            "spacing": findings.spacing[0],
            "policy_revision": reference.frames.policy_revision,
        },
        "asked": dict(asked),
        "config": asdict(config),
        "checked_at": now.isoformat(),
    }


def _state(frames: Frames, findings: Findings, now: datetime) -> DriftState:
    first, last = _ends(frames)
    kept = findings.harm.window
    return DriftState(
        decision=findings.decision,
        sentence=findings.sentence,
        evidence=findings.evidence,
        checked_at=now,
        since=first,
        until=last,
        frames=len(frames),
        policy_revision=frames.policy_revision,
        retained=_or_none(kept.share),
        retained_interval=None if kept.low != kept.low else (kept.low, kept.high),
        reference_retained=_or_none(findings.harm.reference.share),
    )


def _ends(frames: Frames) -> tuple[datetime | None, datetime | None]:
    if not len(frames):
        return None, None
    return moment(float(frames.time.min())), moment(float(frames.time.max()))


def _or_none(value: float) -> float | None:
    return value if value == value else None
