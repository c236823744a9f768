"""What a panel shows, and how it becomes Grafana's JSON.

Only the marks that differ are named here: datasource, size and looks are the same everywhere.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

NAMESPACE = 'namespace=~"$namespace"'
"""The matcher that every query has; on a single machine no series has the label, and all match."""

_SOURCE = DataSourceRef("prometheus", "${datasource}")
_GREEN, _RED = "#2e7d32", "#c62828"


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        expression: PromQL.
        legend: name of its series, with labels as ``{{label}}``.
    """

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Graph:
    """Series over time.

    Attributes:
        title: what is shown.
        queries: its series.
        unit: Grafana's name of the unit: s, bytes, percentunit, short, ...
        says: text on what to read from it.
        width: of 24 columns.
        stacked: whether the series add up to a whole.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str
    says: str
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True)
class Number:
    """The newest value, large.

    Attributes:
        title: what is shown.
        query: one series.
        unit: Grafana's name of the unit.
        says: what to read from it.
        bad: the value from which on it is bad; None without any.
        worse: the direction in which it gets worse.
        width: of 24 columns.
    """

    title: str
    query: Query
    unit: str
    says: str
    bad: float | None = None
    worse: Literal["up", "down"] = "up"
    width: int = 4


@dataclass(frozen=True)
class PanelRow:
    """Panels under a heading."""

    title: str
    panels: Sequence[Graph | Number]


@dataclass(frozen=True)
class GrafanaDashboard:
    """One dashboard.

    Attributes:
        uid: its name in URLs, and of its file.
        title: for people.
        says: what it is for.
        rows: from top to bottom.
    """

    uid: str
    title: str
    says: str
    rows: Sequence[PanelRow]

    @property
    def queries(self) -> list[Query]:
        """All queries, in the order of the panels."""
        panels = [panel for row in self.rows for panel in row.panels]
        return [
            query
            for panel in panels
            for query in (panel.queries if isinstance(panel, Graph) else (panel.query,))
        ]


def page_json(page: GrafanaDashboard) -> str:
    """The dashboard as Grafana reads it from a file."""
    built = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.says)
        .tags(["gearshift"])
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("namespace")
            .label("Namespace")
            .datasource(_SOURCE)
            .query("label_values(gearshift_build_info, namespace)")
            .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    )
    ids = itertools.count(1)  # stable, so that links to a panel stay
    for row in page.rows:
        built.with_row(dashboard.Row(row.title).id(next(ids)))
        for panel in row.panels:
            made = _graph(panel) if isinstance(panel, Graph) else _number(panel)
            built.with_panel(made.id(next(ids)))
    return json.dumps(built.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _graph(panel: Graph) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.says)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .height(8)
        .span(panel.width)
        .axis_soft_min(0)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        built.fill_opacity(60)
    for place, query in enumerate(panel.queries):
        built.with_target(_target(query, place))
    return built


def _number(panel: Number) -> stat.Panel:
    built = (
        stat.Panel()
        .title(panel.title)
        .description(panel.says)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .height(4)
        .span(panel.width)
        .graph_mode(BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .no_value("–")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(panel.query, 0))
    )
    if panel.bad is not None:
        below, above = (_GREEN, _RED) if panel.worse == "up" else (_RED, _GREEN)
        steps = [Threshold(None, below), Threshold(panel.bad, above)]
        built.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return built


def _target(query: Query, place: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(_SOURCE)
        .expr(query.expression)
        .legend_format(query.legend or "__auto")
        .ref_id(chr(ord("A") + place))
        .range()
    )
