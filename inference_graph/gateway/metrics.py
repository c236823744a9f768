"""What Prometheus reads: counters and times of the gateway, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inference_graph.contract import LADDER

STAGES = ("wait", "decode", "observe", "decide", "wire", "queue", "detect", "total")
"""Stages of a frame: before its turn, decoding, observation, policy, the way to the rung and back,
its queue, its work, and all from arrival to answer; what the others leave over is overhead."""

_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0),
)
_SHARES = tuple(step / 20 for step in range(1, 21))


class GatewayMetrics:
    """The gateway's figures; the labels that exist are made at once, so a figure of 0 is shown."""

    def __init__(self) -> None:
        """A registry with nothing counted yet."""
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        decisions = Counter(
            "gearshift_routing_decisions_total",
            "Frames by the rung the policy chose.",
            ["rung"],
            registry=registry,
        )
        answers = Counter(
            "gearshift_answers_total", "Frames by the rung that answered.", ["rung"],
            registry=registry,
        )  # fmt: skip
        stages = Histogram(
            "gearshift_stage_seconds",
            "Time of a frame's stages.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        fallbacks = Counter(
            "gearshift_fallbacks_total",
            "Frames answered by another rung than the chosen one, by why it did not answer.",
            ["reason"],
            registry=registry,
        )
        self.decisions = {rung: decisions.labels(rung) for rung in LADDER}
        self.answers = {rung: answers.labels(rung) for rung in LADDER}
        self.stages = {stage: stages.labels(stage) for stage in STAGES}
        self.fallbacks = {reason: fallbacks.labels(reason) for reason in ("failed", "late", "open")}
        self.dropped = Counter(
            "gearshift_frames_dropped_total",
            "Frames of streams for which a newer one was taken.",
            registry=registry,
        )
        self.errors = Counter(
            "gearshift_frame_errors_total", "Frames without an answer, by status.", ["status"],
            registry=registry,
        )  # fmt: skip
        self.agreement = Histogram(
            "gearshift_shadow_agreement",
            "F1 of the answer against the reference's on the frames both looked at.",
            buckets=_SHARES,
            registry=registry,
        )
        self.shadows = Counter(
            "gearshift_shadows_total", "Shadow looks by how they ended.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.feedback = Counter(
            "gearshift_feedback_total", "Feedback accepted, by kind.", ["kind"], registry=registry
        )
        self.streams = Gauge("gearshift_streams", "Streams open now.", registry=registry)

    def watch(self, read: Callable[[], Iterator[Metric]]) -> None:
        """Ask ``read`` for further figures at every scrape."""
        self.registry.register(_Reading(read))

    def frame(
        self, rung: str, answered_by: str, fallback: str, milliseconds: Mapping[str, float]
    ) -> None:
        """Count one answer.

        Args:
            rung: the rung chosen.
            answered_by: the rung that answered.
            fallback: why not the one chosen; empty if it did.
            milliseconds: of the stages.
        """
        self.decisions[rung].inc()
        self.answers[answered_by].inc()
        if fallback:
            self.fallbacks[fallback].inc()
        for stage, spent in milliseconds.items():
            self.stages[stage].observe(spent / 1e3)

    def expose(self) -> tuple[bytes, str]:
        """The figures in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """A figure that is read when it is asked for."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """A count that is kept elsewhere."""
    return CounterMetricFamily(name, text, value=value)


class _Reading(Collector):
    def __init__(self, read: Callable[[], Iterator[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        return self._read()

    def describe(self) -> Iterator[Metric]:
        # Registering must not read: what is read may not run yet.
        return iter(())
