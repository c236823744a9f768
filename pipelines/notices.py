"""Messages to webhooks when a run ends; a run never fails by them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from components.evaluation.report_schema import REPORT_FILE
from components.evaluation.report_tables import percent
from foundation.errors import GearshiftError
from inference_graph.control.notifications.message import Message
from inference_graph.control.notifications.sender import Delivery, Sender
from inference_graph.control.notifications.webhooks import webhooks_of
from pipelines.cli.console import notes
from pipelines.training.run import TrainingRun

_OURS = "gearshift"
_PATIENCE = 30.0
"""Seconds that a finished run waits for its message to leave."""


@contextlib.contextmanager
def notify_at_the_end(
    verb: str, out: Path, environ: Mapping[str, str] = os.environ
) -> Iterator[Callable[[TrainingRun], None]]:
    """Send to the webhooks how the block ended: its result, or why it failed.

    Without a webhook, or for an interrupted run, nothing is sent.

    Args:
        verb: what ran, for people.
        out: results folder.
        environ: where the webhooks are set.

    Yields:
        Takes the run's result; without one, a block that ends well sends nothing.

    Raises:
        ConfigurationError: what a webhook's variable holds is no address; before the block.
    """
    webhooks = webhooks_of(environ)
    started = time.monotonic()
    messages: list[Message] = []
    try:
        yield lambda run: messages.append(result_message(verb, run, time.monotonic() - started))
    except GearshiftError as error:
        messages = [failure_message(verb, out, str(error), time.monotonic() - started)]
        raise
    finally:
        if webhooks and messages:
            # A webhook that is away shall not hold a terminal for minutes.
            sender = Sender(webhooks, Delivery(attempts=3, timeout_seconds=5.0))
            for message in messages:
                sender.send(message)
            if sender.close(_PATIENCE):
                notes.print("the message about this run was not sent", style="yellow")


def result_message(verb: str, run: TrainingRun, seconds: float) -> Message:
    """The message about a finished run.

    Args:
        verb: what ran.
        run: its result.
        seconds: wall time.
    """
    fields = {"results": str(run.out), "took": _lasting(seconds), **_figures(run.out)}
    return Message(
        kind="pipeline",
        level="good" if run.passed else "warning",
        title=f"{verb}: {'a policy passed the gate' if run.passed else 'the gate refused'}",
        text=run.outcome,
        fields=fields,
    )


def failure_message(verb: str, out: Path, reason: str, seconds: float) -> Message:
    """Why a run failed."""
    return Message(
        kind="pipeline",
        level="critical",
        title=f"{verb} failed",
        text=reason,
        fields={"results": str(out), "took": _lasting(seconds)},
    )


def _figures(out: Path) -> dict[str, str]:
    """The policy's row of the report, if it can be read."""
    try:
        report = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))
        (row,) = (one for one in report["rows"] if one["name"] == _OURS)
        return {
            "retained": percent(row["retained"]),
            "mean latency": f"{row['mean_ms']:.1f} ms",
            "USD per million": f"{row['usd_per_million']:.2f}",
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _lasting(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
