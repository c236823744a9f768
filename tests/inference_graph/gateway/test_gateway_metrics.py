"""Figures of the gateway and of GPUs, each against what was done."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from gateway_samples import Rungs, Served, gateway_settings, jpeg, served
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from tiny_models import MakePolicy
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from foundation.gpu import watch_nvml


@pytest.fixture
def gateway(rungs: Rungs) -> Iterator[Served]:
    with served(gateway_settings(objective_ms=200.0), rungs) as running:
        yield running


def figures(gateway: Served, name: str) -> dict[tuple[str, ...], float]:
    """Values by the values of the labels, in the order of the labels' names."""
    text = gateway.http.get("/metrics").text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def detect(gateway: Served, query: str = "") -> int:
    headers = {"content-type": "image/jpeg"}
    return gateway.http.post(f"/v1/detect{query}", content=jpeg(), headers=headers).status_code


def test_frames_over_the_objective_and_without_an_answer(gateway: Served, rungs: Rungs) -> None:
    rungs["nano"].delay = 0.3
    assert detect(gateway) == 200
    met = figures(gateway, "gearshift_objective_frames_total")
    assert met["false", "detect"] == 1
    assert met["true", "detect"] + met["false", "stream"] + met["true", "stream"] == 0
    for rung in rungs.values():
        rung.hanging = True
    assert detect(gateway, "?deadline_ms=100") == 504
    for rung in rungs.values():
        rung.hanging = False
    assert figures(gateway, "gearshift_deadline_misses_total") == {
        ("detect",): 1,
        ("stream",): 0,
        ("kafka",): 0,
    }
    errors = {("400",): 0, ("500",): 0, ("503",): 0, ("504",): 1}
    assert figures(gateway, "gearshift_frame_errors_total") == errors
    after = figures(gateway, "gearshift_objective_frames_total")
    assert sum(after.values()) == 1  # what was not answered is counted among the errors


def test_requests_by_route_and_code(gateway: Served) -> None:
    assert detect(gateway) == 200
    assert gateway.http.post("/v1/detect", content=b"x").status_code == 415
    for path in ("/nowhere", "/nowhere/else"):
        assert gateway.http.get(path).status_code == 404
    assert gateway.http.request("PROPFIND", "/v1/detect").status_code == 405
    with connect(gateway.stream) as socket:
        socket.send(jpeg())
        socket.recv()
    with pytest.raises(InvalidStatus):
        connect(f"{gateway.stream}?deadline_ms=never")
    counted = figures(gateway, "gearshift_http_requests_total")
    assert {key: value for key, value in counted.items() if key[2] != "/metrics"} == {
        ("200", "POST", "/v1/detect"): 1,
        ("415", "POST", "/v1/detect"): 1,
        ("404", "GET", "other"): 2,
        ("405", "other", "/v1/detect"): 1,
        ("101", "WEBSOCKET", "/v1/stream"): 1,
        ("400", "WEBSOCKET", "/v1/stream"): 1,
    }
    again = figures(gateway, "gearshift_http_requests_total")
    assert again["200", "GET", "/metrics"] == 1  # the one before; this one is under way


def test_what_runs_is_reported(rungs: Rungs, make_policy: MakePolicy) -> None:
    settings = gateway_settings(policy=make_policy(), latency_weight=0.25)
    with served(settings, rungs) as gateway:
        reported = figures(gateway, "gearshift_policy_info")
        weights = figures(gateway, "gearshift_rung_info")
        built = figures(gateway, "gearshift_build_info")
        revision = gateway.runtime.routing(None).policy_revision
    assert reported == {("0.25", revision): 1}
    assert weights == {(rung.rung._detector.revision, name): 1 for name, rung in rungs.items()}
    ((component, python, schema, version),) = built
    assert (component, version) == ("gateway", "0.1.0")
    assert python.startswith("3.") and len(schema) == 12


class Driver:
    """NVML's calls for two GPUs, the second a part that does not tell how busy it is."""

    class NVMLError(Exception):
        pass

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus

    def nvmlInit(self) -> None:  # NVML's own names
        if not self.gpus:
            raise self.NVMLError("driver not loaded")

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return "H200" if handle else b"H100"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=2**30 * (handle + 1), total=2**37)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if handle:
            raise self.NVMLError("not supported")
        return SimpleNamespace(gpu=37, memory=5)


def test_gpus() -> None:
    registry = CollectorRegistry()
    assert watch_nvml(registry, Driver(2))
    first, second = {"gpu": "0", "model_name": "H100"}, {"gpu": "1", "model_name": "H200"}

    def value(name: str, labels: dict[str, str]) -> float | None:
        return registry.get_sample_value(f"gearshift_gpu_{name}", labels)

    assert value("utilization_ratio", first) == 0.37
    assert value("utilization_ratio", second) is None
    assert (value("memory_used_bytes", first), value("memory_bytes", first)) == (2**30, 2**37)
    assert value("memory_used_bytes", second) == 2**31


def test_without_a_gpu_nothing_is_shown() -> None:
    registry = CollectorRegistry()
    assert not watch_nvml(registry, Driver(0))
    assert list(registry.collect()) == []
