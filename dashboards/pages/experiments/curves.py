"""Learning curves of launches: the mean over the seeds, with the band that the seeds span."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash.development.base_component import Component
from plotly.colors import hex_to_rgb

from components.experiments.attempt import Attempt
from components.experiments.curves import MEASURES, band_of
from dashboards.widgets.parts import chart
from dashboards.widgets.theme import INKS, figure, lone_marks, scheme_of


def curves_chart(name: str, measure: str) -> Component:
    """An empty chart with a choice of what it shows.

    Args:
        name: id of the chart.
        measure: id of the choice.
    """
    return chart(
        name,
        "Learning curves",
        "The mean of the seeds by camera steps; the band spans from the least to the greatest.",
        dmc.SegmentedControl(
            id=measure,
            value="reward",
            size="xs",
            data=[{"value": key, "label": label} for key, label in MEASURES.items()],
            **{"aria-label": "What the curves show"},
        ),
    )


def draw_curves(
    launches: Mapping[str, Attempt], measure: str, scheme: str | None
) -> tuple[go.Figure, str]:
    """Curves of launches on the same axes, and where they end in words.

    Args:
        launches: at most two, by the name in the legend.
        measure: of ``MEASURES``.
        scheme: the page's colour scheme.
    """
    look = scheme_of(scheme)
    drawn = figure(look, height=320, hovermode="closest")
    colours = (INKS[look].bad, INKS[look].good)
    words = []
    for (name, launch), colour, dash in zip(
        launches.items(), colours, ("dot", "solid"), strict=False
    ):
        band = band_of(Path(launch.out), measure)
        if band is None:
            continue
        red, green, blue = hex_to_rgb(colour)
        drawn.add_scatter(
            x=[*band.steps, *reversed(band.steps)],
            y=[*band.high, *reversed(band.low)],
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.15)",
            line={"width": 0},
            mode="lines",
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
        drawn.add_scatter(
            x=band.steps,
            y=band.mean,
            **lone_marks(band.mean),
            name=name,
            legendgroup=name,
            showlegend=True,
            line={"color": colour, "dash": dash, "width": 1.8},
            hovertemplate=f"{name}: %{{y:.4g}} at %{{x}}<extra></extra>",
        )
        words.append(
            f"{name}: {band.seeds} seeds, {MEASURES.get(measure, measure)} ends at "
            f"{band.mean[-1]:.4g} ({band.low[-1]:.4g} to {band.high[-1]:.4g})"
        )
    drawn.update_xaxes(title="camera steps")
    return drawn, "; ".join(words) or "No learning curves are on this machine."
