"""What the gateway is asked for at every scrape: how its rungs and its log are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from foundation.metrics import RUNG
from inference_graph import metric_names as words
from inference_graph.gateway.backend import DetectorBackend
from inference_graph.prediction_log.writer import ACTIVITIES, LogStatus


def rung_readings(backends: Mapping[str, DetectorBackend]) -> Iterator[Metric]:
    """Queue, expected wait, circuit and weights of every rung."""
    for figure, values in (
        (words.RUNG_QUEUE, {name: float(backend.waiting) for name, backend in backends.items()}),
        (
            words.RUNG_WAIT,
            {name: backend.expected_wait_ms() / 1e3 for name, backend in backends.items()},
        ),
        (
            words.RUNG_UP,
            {name: float(backend.breaker.usable) for name, backend in backends.items()},
        ),
    ):
        yield figure.read({(name,): value for name, value in values.items()})
    yield RUNG.read(
        {
            (name, backend.facts.revision): 1.0
            for name, backend in backends.items()
            if backend.facts is not None
        }
    )


def log_readings(status: LogStatus) -> Iterator[Metric]:
    """Rows, backlog, and when the log last did what it is for."""
    for figure, value in (
        (words.LOG_ACCEPTED, status.accepted),
        (words.LOG_STORED, status.stored),
        (words.LOG_PUBLISHED, status.published),
        (words.LOG_DROPPED, status.dropped),
        (words.LOG_DUPLICATES, status.duplicates),
        (words.LOG_REFUSED, status.refused),
        (words.LOG_SET_ASIDE, status.set_aside),
        (words.LOG_DAMAGED_ROWS, status.damaged_rows),
        (words.LOG_OUTAGES, status.outages),
        (words.LOG_WAITING, status.queued),
        (words.LOG_BACKLOG, status.backlog_bytes),
        (words.LOG_FLUSHED, status.flushed_at),
        (words.LOG_PUBLICATION, status.published_at),
    ):
        yield figure.read({(): float(value)})
    yield words.LOG_FAILING.read(
        {(activity,): float(activity in status.failing) for activity in ACTIVITIES}
    )
