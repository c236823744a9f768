"""PromQL that several panels are made of; metrics are named by the vocabulary."""

from __future__ import annotations

from dashboards.grafana.panels import NAMESPACE
from foundation.metrics import MetricSpec

WINDOW = "$__rate_interval"
"""Grafana's own: four times the pause between scrapes at least."""


def now(name: str, matcher: str = "") -> str:
    """The present value."""
    return f"{name}{{{NAMESPACE}{', ' + matcher if matcher else ''}}}"


def value(how: str, figure: MetricSpec, *by: str) -> str:
    """The present values, aggregated by labels; ``how`` is PromQL's sum, max, ..."""
    grouped = f" by ({', '.join(by)}) " if by else ""
    return f"{how}{grouped}({now(figure.name)})"


def rate(figure: MetricSpec, *by: str, matcher: str = "") -> str:
    """Events per second, summed by labels."""
    return f"sum by ({', '.join(by)}) (rate({now(figure.name, matcher)}[{WINDOW}]))"


def share(figure: MetricSpec, label: str) -> str:
    """The part that each value of a label has in all events."""
    return f"{rate(figure, label)} / ignoring ({label}) group_left () {rate(figure)}"


def quantile(figure: MetricSpec, level: float, *by: str, matcher: str = "") -> str:
    """A quantile of a histogram, by labels."""
    buckets = f"rate({now(figure.name + '_bucket', matcher)}[{WINDOW}])"
    return f"histogram_quantile({level:g}, sum by ({', '.join(('le', *by))}) ({buckets}))"


def mean(figure: MetricSpec, *by: str) -> str:
    """The mean of a histogram's values, by labels."""

    def part(ending: str) -> str:
        grouped = ", ".join(by)
        return f"sum by ({grouped}) (rate({now(figure.name + ending)}[{WINDOW}]))"

    return f"{part('_sum')} / {part('_count')}"


def age(figure: MetricSpec) -> str:
    """Seconds since a timestamp."""
    return f"time() - {now(figure.name)}"
