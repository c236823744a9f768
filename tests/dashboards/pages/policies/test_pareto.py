"""Where marks pile up around the policy, the chart shows their surroundings enlarged."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards.pages.policies.pareto import enlarge
from dashboards.pages.policies.reports import PolicyRow


def row(name: str, latency_ratio: float, retained: float | None) -> PolicyRow:
    return PolicyRow(name, "", retained, retained, None, None, latency_ratio, 1, 1, 1, 1, 1, 1, {})


def drawn(*rows: PolicyRow) -> go.Figure:
    made = go.Figure()
    made.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": "#000"})
    enlarge(made, rows, rows[0])
    return made


POLICY = row("gearshift", 0.15, 0.97)
NEAR = [row("always-small", 0.16, 0.98), row("bc", 0.15, 0.96), row("cascade", 0.19, 0.97)]
FAR = row("always-large", 1.0, 1.0)


def test_a_pile_is_drawn_once_more_in_an_inset() -> None:
    made = drawn(POLICY, *NEAR, FAR)
    first, again = made.data
    assert (again.xaxis, again.yaxis) == ("x2", "y2")
    assert list(again.x) == list(first.x)
    for axis, values in (
        (made.layout.xaxis2, [0.15, 0.16, 0.19]),
        (made.layout.yaxis2, [0.96, 0.97, 0.98]),
    ):
        assert axis.range[0] < values[0] and values[-1] < axis.range[1]
        assert axis.range[1] - axis.range[0] < 2 * (values[-1] - values[0]) + 0.01
    assert made.layout.xaxis2.range[1] < 1.0  # large is not in it


def test_marks_that_stand_apart_need_none() -> None:
    assert len(drawn(POLICY, *NEAR[:2], FAR).data) == 1
    assert len(drawn(row("gearshift", 0.15, None), *NEAR).data) == 1
