"""What a service tells Prometheus, beside what KServe's model server counts itself."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class ServerMetrics:
    """The counters of one process.

    ========================================  =================================================
    ``gearshift_requests_total``              by model, protocol (v1, v2, grpc, other) and code;
                                              a gRPC answer counts under the HTTP code of the
                                              same meaning
    ``gearshift_request_seconds``             by model and protocol, from the last byte of the
                                              request to the answer
    ``gearshift_<service>_stage_seconds``     by model and stage
    ``gearshift_<service>_waiting``           requests that wait for a worker now
    ========================================  =================================================
    """

    def __init__(self, service: str, model: str, registry: CollectorRegistry) -> None:
        """Register the metrics.

        Args:
            service: detector, router or transformer; it is part of the names.
            model: the model's name, a label of everything.
            registry: where they are registered, once for each service.
        """
        self._model = model
        self._requests = Counter(
            "gearshift_requests_total",
            "Answers by status code",
            ("model", "protocol", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "gearshift_request_seconds",
            "Time to answer a request",
            ("model", "protocol"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            f"gearshift_{service}_stage_seconds",
            "Time a request spent in each stage",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting = Gauge(
            f"gearshift_{service}_waiting",
            "Requests that wait for a worker",
            ("model",),
            registry=registry,
        ).labels(model)

    def answered(self, protocol: str, code: int, seconds: float) -> None:
        """Count an answer and the time it took."""
        self._requests.labels(self._model, protocol, str(code)).inc()
        self._seconds.labels(self._model, protocol).observe(seconds)

    def stages(self, milliseconds: Mapping[str, float]) -> None:
        """Count the time of every stage of one request."""
        for stage, spent in milliseconds.items():
            self._stages.labels(self._model, stage).observe(spent / 1e3)
