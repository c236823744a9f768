"""What a metric is, and those of the KServe services: each is named once, here or by the gateway.

Names follow Prometheus' conventions: base units (seconds, bytes, ratios of 0 to 1) as a suffix,
``_total`` for what only grows, ``_info`` for a constant 1 whose labels state what runs.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

VERSION_VARIABLE = "GEARSHIFT_VERSION"
"""Environment variable with the version, for an image that has no installed package."""


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: as Prometheus shows it.
        kind: of the metric; an ``info`` is a gauge of constant 1.
        text: what it counts or measures; its help.
        labels: names of its labels.
        by: the services that expose it: gateway, detector, router, transformer.
        buckets: upper bounds of a histogram, in its unit.
        needs: what must be there for it to be exposed; empty for one that always is.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    text: str
    labels: tuple[str, ...] = ()
    by: tuple[str, ...] = ("gateway",)
    buckets: tuple[float, ...] = ()
    needs: str = ""

    def counter(self, registry: CollectorRegistry) -> Counter:
        """A counter of this figure."""
        return Counter(self.name, self.text, self.labels, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """A gauge of this figure."""
        return Gauge(self.name, self.text, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """A histogram of this figure."""
        return Histogram(self.name, self.text, self.labels, buckets=self.buckets, registry=registry)

    def read(self, values: Mapping[tuple[str, ...], float]) -> Metric:
        """What is kept elsewhere, read when it is asked for.

        Args:
            values: by the values of the labels.
        """
        if self.kind == "counter":
            family: CounterMetricFamily | GaugeMetricFamily = CounterMetricFamily(
                self.name, self.text, labels=self.labels
            )
        else:
            family = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for key, value in values.items():
            family.add_metric(list(key), value)
        return family

    def expose_info(self, registry: CollectorRegistry, **labels: str) -> None:
        """Expose an info of these labels; once in a registry."""
        self.gauge(registry).labels(**labels).set(1)


class CallbackCollector(Collector):
    """Asks for metrics at every scrape."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Ask ``read``."""
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """What is read now."""
        yield from self._read()

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read, for what is read may not run yet."""
        return iter(())


_SERVICES = ("detector", "router", "transformer")
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

BUILD = MetricSpec(
    "gearshift_build_info",
    "info",
    "What runs: the service, its version, Python's, and the observation's schema.",
    ("component", "version", "python", "schema"),
    ("gateway", *_SERVICES),
)
RUNG = MetricSpec(
    "gearshift_rung_info",
    "info",
    "The weights of a rung; revision is the start of the file's SHA-256.",
    ("rung", "revision"),
    ("gateway", "detector"),
)
POLICY = MetricSpec(
    "gearshift_policy_info",
    "info",
    "The policy that decides; revision is the start of the file's SHA-256.",
    ("revision", "latency_weight"),
    ("gateway", "router"),
)
REQUESTS = MetricSpec(
    "gearshift_requests_total",
    "counter",
    "Answers by HTTP code; a gRPC answer counts under the code of the same meaning.",
    ("model", "protocol", "code"),
    _SERVICES,
)
REQUEST_SECONDS = MetricSpec(
    "gearshift_request_seconds",
    "histogram",
    "From the last byte of a request to its answer.",
    ("model", "protocol"),
    _SERVICES,
    _SECONDS,
)
STAGE_SECONDS = {
    service: MetricSpec(
        f"gearshift_{service}_stage_seconds",
        "histogram",
        "Time a request spent in each stage.",
        ("model", "stage"),
        (service,),
        _SECONDS,
    )
    for service in _SERVICES
}
WAITING = {
    service: MetricSpec(
        f"gearshift_{service}_waiting",
        "gauge",
        "Requests that wait for a worker now.",
        ("model",),
        (service,),
    )
    for service in _SERVICES
}
BATCH_IMAGES = MetricSpec(
    "gearshift_detector_batch_images",
    "histogram",
    "Images of one inference.",
    ("model",),
    ("detector",),
    (1, 2, 4, 8, 16, 32, 64, 128, 256),
)
_GPU = "a GPU with NVIDIA's driver"
GPU_BUSY = MetricSpec(
    "gearshift_gpu_utilization_ratio",
    "gauge",
    "Share of the last sample period in which a kernel ran, of all processes on the GPU.",
    ("gpu", "model_name"),
    ("detector",),
    needs=_GPU,
)
GPU_MEMORY_USED = MetricSpec(
    "gearshift_gpu_memory_used_bytes",
    "gauge",
    "Memory in use, of all processes on the GPU.",
    ("gpu", "model_name"),
    ("detector",),
    needs=_GPU,
)
GPU_MEMORY = MetricSpec(
    "gearshift_gpu_memory_bytes",
    "gauge",
    "Memory of the GPU.",
    ("gpu", "model_name"),
    ("detector",),
    needs=_GPU,
)

SERVICE_FIGURES = (
    BUILD,
    RUNG,
    POLICY,
    REQUESTS,
    REQUEST_SECONDS,
    *STAGE_SECONDS.values(),
    *WAITING.values(),
    BATCH_IMAGES,
    GPU_BUSY,
    GPU_MEMORY_USED,
    GPU_MEMORY,
)
"""All metrics that a KServe service exposes beside KServe's own."""


def expose_build(registry: CollectorRegistry, component: str, schema: str) -> None:
    """Expose what runs.

    Args:
        registry: where.
        component: gateway, detector, router or transformer.
        schema: hash of the observation's schema.
    """
    BUILD.expose_info(
        registry,
        component=component,
        version=_version(),
        python=platform.python_version(),
        schema=schema[:12],
    )


def _version() -> str:
    try:
        return os.environ.get(VERSION_VARIABLE) or version("gearshift")
    except PackageNotFoundError:
        return "unknown"
