"""What Prometheus reads: counters and times of the gateway, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from feature_transformer.observation import SCHEMA_HASH
from foundation.metrics import CallbackCollector, expose_build
from inference_graph import metric_names as words
from inference_graph.contract import GEARS, LADDER

STAGES = ("wait", "decode", "observe", "decide", "wire", "queue", "detect", "track", "total")
"""Stages of a frame: before its turn, decoding, observation, policy, the way to the rung and back,
its queue, its work, fusing it with the frames before, and all from arrival to answer; what the
others leave over is overhead."""
SOURCES = ("stream", "detect", "kafka")
"""Where a frame comes from: a stream, /v1/detect, or a topic."""
_TOO_LATE = 504


class GatewayMetrics:
    """The gateway's figures; the labels that exist are made at once, so a figure of 0 is shown.

    Attributes:
        dropped: frames of streams that a newer one replaced.
        agreement: F1 of an answer against the reference's.
        shadows: looks of the reference, by outcome.
        feedback: feedback accepted, by kind.
        streams: streams open now.
    """

    def __init__(self, objective_ms: float) -> None:
        """A registry with nothing counted yet.

        Args:
            objective_ms: an answer within so many milliseconds meets the latency objective.
        """
        disable_created_metrics()  # a series beside each, which nothing here asks
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        expose_build(registry, "gateway", SCHEMA_HASH)
        self._objective = objective_ms / 1e3
        words.OBJECTIVE_SECONDS.gauge(registry).set(self._objective)
        decisions = words.DECISIONS.counter(registry)
        answers = words.ANSWERS.counter(registry)
        stages = words.STAGE_SECONDS.histogram(registry)
        fallbacks = words.FALLBACKS.counter(registry)
        objective = words.OBJECTIVE_FRAMES.counter(registry)
        misses = words.DEADLINE_MISSES.counter(registry)
        shadows = words.SHADOWS.counter(registry)
        self._decisions = {rung: decisions.labels(rung) for rung in LADDER}
        self._answers = {gear: answers.labels(gear) for gear in GEARS}
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._fallbacks = {
            reason: fallbacks.labels(reason) for reason in ("failed", "late", "open")
        }
        self._met = {
            (source, met): objective.labels(source, str(met).lower())
            for source in SOURCES
            for met in (True, False)
        }
        self._misses = {source: misses.labels(source) for source in SOURCES}
        self._errors = words.FRAME_ERRORS.counter(registry)
        for status in (400, 500, 503, _TOO_LATE):
            self._errors.labels(str(status))
        self._requests = words.HTTP_REQUESTS.counter(registry)
        self.dropped = words.DROPPED.counter(registry)
        self.agreement = words.AGREEMENT.histogram(registry)
        self.shadows = {end: shadows.labels(end) for end in ("looked", "given up")}
        self.feedback = words.FEEDBACK.counter(registry)
        self.streams = words.STREAMS.gauge(registry)

    def watch(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Call ``read`` for further figures at every scrape."""
        self.registry.register(CallbackCollector(read))

    def frame(
        self,
        source: str,
        rung: str,
        answered_by: str,
        fallback: str,
        milliseconds: Mapping[str, float],
    ) -> None:
        """Count one answer.

        Args:
            source: one of ``SOURCES``.
            rung: the rung chosen.
            answered_by: the rung that answered, or "reuse".
            fallback: why not the one chosen; empty if it did.
            milliseconds: of the stages, ``total`` among them.
        """
        self._decisions[rung].inc()
        self._answers[answered_by].inc()
        if fallback:
            self._fallbacks[fallback].inc()
        for stage, spent in milliseconds.items():
            self._stages[stage].observe(spent / 1e3)
        self._met[source, milliseconds["total"] / 1e3 <= self._objective].inc()

    def failed(self, source: str, status: int) -> None:
        """Count a frame without an answer.

        Args:
            source: one of ``SOURCES``.
            status: HTTP status of its error.
        """
        self._errors.labels(str(status)).inc()
        if status == _TOO_LATE:
            self._misses[source].inc()

    def request(self, route: str, method: str, status: int) -> None:
        """Count a request to the gateway; see ``HTTP_REQUESTS``."""
        self._requests.labels(route, method, str(status)).inc()

    def expose(self) -> tuple[bytes, str]:
        """The figures in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
