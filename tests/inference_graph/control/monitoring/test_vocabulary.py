"""Names as Prometheus' own linter wants them, and no name twice."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from foundation.metrics import CallbackCollector, MetricSpec
from inference_graph.metric_names import ALL_FIGURES, markdown_table

README = Path(__file__).resolve().parents[4] / "manifests" / "monitoring" / "README.md"
BASE_UNITS = ("_seconds", "_bytes", "_ratio", "_rows", "_images", "_messages")
COUNTS_OF_NOW = {
    "gearshift_streams",
    "gearshift_rung_up",
    "gearshift_rung_queue_length",
    "gearshift_log_failing",
    "gearshift_kafka_paused",
    "gearshift_kafka_up",
    *(f"gearshift_{service}_waiting" for service in ("detector", "router", "transformer")),
}
"""Gauges of things that have no unit."""


def test_each_is_named_once() -> None:
    names = [one.name for one in ALL_FIGURES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"gearshift(_[a-z]+)+", name) for name in names)


@pytest.mark.parametrize("one", ALL_FIGURES, ids=lambda one: one.name)
def test_names_state_kind_and_unit(one: MetricSpec) -> None:
    endings = {"counter": ("_total",), "info": ("_info",)}.get(one.kind, BASE_UNITS)
    assert one.name.endswith(endings) or one.name in COUNTS_OF_NOW
    assert ("_total" in one.name) == (one.kind == "counter")
    assert (one.kind == "histogram") == bool(one.buckets)
    assert list(one.buckets) == sorted(set(one.buckets))
    assert one.text.endswith(".")
    assert one.by


@pytest.mark.promtool
def test_prometheus_linter_agrees() -> None:
    registry = CollectorRegistry()
    for one in ALL_FIGURES:
        if one.kind == "histogram":
            made = one.histogram(registry)
            (made.labels(*one.labels) if one.labels else made).observe(0.5)
        else:
            family = one.read({tuple(one.labels): 1.0})
            registry.register(CallbackCollector(lambda family=family: [family]))
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_counter_read_elsewhere() -> None:
    figure = MetricSpec("gearshift_pears_total", "counter", "Pears.", ("kind",))
    registry = CollectorRegistry()
    registry.register(CallbackCollector(lambda: [figure.read({("green",): 3.0, ("red",): 4.0})]))
    assert registry.get_sample_value("gearshift_pears_total", {"kind": "red"}) == 4.0
    assert b"# TYPE gearshift_pears_total counter" in generate_latest(registry)


def test_the_readme_lists_them_all() -> None:
    assert markdown_table() in README.read_text("utf-8"), "paste vocabulary.markdown_table() there"
