"""Metrics of a service beside those of KServe's model server."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, disable_created_metrics

from foundation.metrics import REQUEST_SECONDS, REQUESTS, STAGE_SECONDS, WAITING


class ServerMetrics:
    """The counters of one process; :mod:`foundation.metrics` describes each one.

    Attributes:
        registry: where they are registered; a service may add its own.
        waiting: requests that wait for a worker.
    """

    def __init__(self, service: str, model: str, registry: CollectorRegistry) -> None:
        """Register the metrics.

        Args:
            service: detector, router or transformer; it is part of the names.
            model: the model's name, a label of everything.
            registry: where they are registered, once for each service.
        """
        disable_created_metrics()  # a series beside each, which nothing here asks
        self._model = model
        self.registry = registry
        self._requests = REQUESTS.counter(registry)
        self._seconds = REQUEST_SECONDS.histogram(registry)
        self._stages = STAGE_SECONDS[service].histogram(registry)
        self.waiting = WAITING[service].gauge(registry).labels(model)

    def answered(self, protocol: str, code: int, seconds: float) -> None:
        """Count an answer and the time it took.

        Args:
            protocol: v1, v2, grpc or other.
            code: HTTP status, or the one that means what the gRPC status means.
            seconds: from the last byte of the request to the answer.
        """
        self._requests.labels(self._model, protocol, str(code)).inc()
        self._seconds.labels(self._model, protocol).observe(seconds)

    def stages(self, milliseconds: Mapping[str, float]) -> None:
        """Count the time of every stage of one request."""
        for stage, spent in milliseconds.items():
            self._stages.labels(self._model, stage).observe(spent / 1e3)
