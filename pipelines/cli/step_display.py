"""The steps of a running pipeline in the terminal, and the demo's table at its end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from components.evaluation.report_tables import number
from components.experiments.scoring import SCORE_FILE
from pipelines.cli.console import notes
from pipelines.cli.terminal import PlainConsole
from pipelines.local import StepEvent
from pipelines.training.demo import DemoResult

_ENDINGS = {"done": "done", "reused": "unchanged", "failed": "failed"}
_COLUMNS = (
    ("accuracy", "map", ".3f"),
    ("retained", "retained", ".3f"),
    ("mean ms", "mean_ms", ".1f"),
    ("p95 ms", "p95_ms", ".1f"),
    ("FPS", "fps", ".1f"),
    ("USD per million", "usd_per_million", ".2f"),
)


@contextlib.contextmanager
def step_display() -> Iterator[Callable[[StepEvent], None]]:
    """Show each step with its progress and time; yields the callback for events."""
    if not notes.is_terminal:
        yield _print_event
        return
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=notes) as bars:
        rows: dict[str, TaskID] = {}

        def on_event(event: StepEvent) -> None:
            if event.step not in rows:
                rows[event.step] = bars.add_task(event.step, total=None, note="")
            row = rows[event.step]
            if event.state == "running":
                bars.update(row, completed=event.done, total=event.total or None)
            else:
                whole = 1 if event.state != "failed" else None
                bars.update(row, completed=1, total=whole, note=_ending(event))

        yield on_event


def show_demo(result: DemoResult) -> None:
    """Print the table, the outcome and where to look."""
    table = Table(
        title=f"Held-out clips, accuracy is {result.measure}; the router's own cost included"
    )
    table.add_column("")
    for title, _, _ in _COLUMNS:
        table.add_column(title, justify="right")
    for row in result.rows:
        table.add_row(str(row["name"]), *(number(row[key], form) for _, key, form in _COLUMNS))
    out = PlainConsole(highlight=False)
    out.print(table)
    out.print(f"policy: {result.run.outcome}", soft_wrap=True, markup=False)
    score = json.loads((result.run.out / SCORE_FILE).read_text(encoding="utf-8"))
    out.print(
        f"contract of the baseline: {score['verdict']}: {score['reason']}",
        soft_wrap=True,
        markup=False,
    )
    out.print(f"report: {result.report}", soft_wrap=True)
    if result.streamed is None:
        return
    out.print(f"video:  {result.video}", soft_wrap=True)
    streamed = result.streamed
    out.print(
        f"stream: {streamed.answered} of {streamed.frames} frames answered by the running "
        f"services, {streamed.mean_ms:.1f} ms each from arrival to answer",
        soft_wrap=True,
    )


def _print_event(event: StepEvent) -> None:
    if event.state != "running":
        notes.print(f"{event.step}: {_ending(event)}")
    elif not event.total:
        notes.print(f"{event.step} ...")


def _ending(event: StepEvent) -> str:
    time = f" in {event.seconds:.1f} s" if event.state != "reused" else ""
    return f"{_ENDINGS[event.state]}{time}"
