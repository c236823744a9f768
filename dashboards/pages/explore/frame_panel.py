"""One frame of the log: what came in, what the policy saw of it, and what moved its decision."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.log.columns import STAGES
from dashboards.log.frames import LoggedFrame
from dashboards.pages.explore.attribution import Attribution, attribute
from dashboards.pages.explore.frame_picture import picture, seen_words, why
from dashboards.sources import Sources
from dashboards.widgets.local_time import clock
from dashboards.widgets.parts import empty_card, rung_badge
from dashboards.widgets.theme import GRAPH_CONFIG, INKS, RUNG_COLOURS, Scheme, figure
from dashboards.widgets.wording import milliseconds, number, percent
from feature_transformer.observation import CONTEXT_NAMES, THUMBNAIL
from foundation.errors import ModelError
from inference_graph.contract import LADDER, REFERENCE

_QUADRANTS = ("top left", "top right", "bottom left", "bottom right")
_CELLS = THUMBNAIL * THUMBNAIL
_DIVERGING = {
    "light": [[0.0, "#b35806"], [0.5, "#f7f7f7"], [1.0, "#542788"]],
    "dark": [[0.0, "#fdb863"], [0.5, "#2e2e2e"], [1.0, "#b2abd2"]],
}
"""Orange against, purple for; distinct with every kind of colour blindness."""


def frame_panel(sources: Sources, key: str, scheme: Scheme, log: str | None = None) -> Component:
    """Everything that is known of a frame.

    Args:
        sources: where the log and the policies are.
        key: of the frame, as the address has it.
        scheme: light or dark.
        log: name of the log; the usual one without it.

    Raises:
        StorageError: the log cannot be read.
    """
    frame = sources.log_of(log).frame(key)
    if frame is None:
        return empty_card(
            "This frame is not in the log",
            "It may have been removed with its hour. Choose another one in the table.",
        )
    observation = frame.observation
    return dmc.Card(
        [
            dmc.Group(
                [
                    dmc.Title("Why this rung?", order=2, size="h4"),
                    rung_badge(str(frame.values.get("answered_by") or "")),
                    dmc.Text(why(frame), size="sm"),
                ],
                gap="sm",
                mb="sm",
            ),
            dmc.Grid(
                [
                    dmc.GridCol(_image(frame, sources.class_names), span={"base": 12, "md": 7}),
                    dmc.GridCol(_facts(frame, scheme), span={"base": 12, "md": 5}),
                ]
            ),
            _explained(sources, frame, observation, scheme)
            if observation is not None
            else dmc.Text(
                "Its observation was not kept, so the decision cannot be explained: the log keeps "
                "those of a sampled share of the frames, and of all that have an image.",
                size="sm",
                c="dimmed",
                mt="sm",
            ),
        ],
        withBorder=True,
        padding="md",
    )


def _image(frame: LoggedFrame, class_names: Sequence[str]) -> Component:
    drawn = picture(frame, class_names)
    seen = seen_words(frame, class_names)
    if drawn is None:
        return dmc.Text(f"The image was not kept. Seen: {seen}.", size="sm", c="dimmed")
    return html.Figure(
        [
            html.Img(src=drawn, alt=f"The frame with what was seen: {seen}", className="frame"),
            html.Figcaption(dmc.Text(f"Seen: {seen}", size="sm", c="dimmed")),
        ],
        style={"margin": 0},
    )


def _facts(frame: LoggedFrame, scheme: Scheme) -> Component:
    values = frame.values
    agreement = values.get("agreement")
    facts = (
        ("Time", clock(frame.time)),
        ("Session", values.get("session") or "a single image"),
        ("Frame", number(values["frame_id"]) if values.get("frame_id") is not None else "–"),
        ("Condition", frame.condition or "–"),
        (
            "Agreement with large",
            percent(agreement, 0)
            if agreement is not None
            else f"{REFERENCE} answered"
            if values.get("answered_by") == REFERENCE
            else "not compared",
        ),
        ("Policy", values.get("policy_revision") or "–"),
        *((stage, milliseconds(frame.milliseconds(stage))) for stage in STAGES[:-1]),
        ("In all", milliseconds(frame.milliseconds("total"))),
    )
    return html.Div(
        [
            *([_probabilities(frame.probabilities, scheme)] if frame.probabilities else []),
            dmc.Table(
                dmc.TableTbody(
                    [
                        dmc.TableTr(
                            [
                                dmc.TableTh(name, className="row-head"),
                                dmc.TableTd(str(value), className="breaks"),
                            ]
                        )
                        for name, value in facts
                    ]
                )
            ),
        ]
    )


def _probabilities(shares: Sequence[float], scheme: Scheme) -> Component:
    drawn = figure(
        scheme,
        height=110,
        xaxis={"tickformat": ".0%", "range": [0, 1], "fixedrange": True},
        yaxis={"autorange": "reversed", "fixedrange": True},
        showlegend=False,
        hovermode="closest",
    )
    drawn.add_bar(
        x=list(shares),
        y=list(LADDER),
        orientation="h",
        marker={"color": [RUNG_COLOURS[scheme][rung] for rung in LADDER]},
        text=[percent(share, 0) for share in shares],
        hoverinfo="skip",
    )
    summary = ", ".join(f"{rung} {share:.0%}" for rung, share in zip(LADDER, shares, strict=False))
    return _described_graph(drawn, f"Probabilities: {summary}")


def _explained(
    sources: Sources,
    frame: LoggedFrame,
    observation: npt.NDArray[np.float32],
    scheme: Scheme,
) -> Component:
    revision = str(frame.values.get("policy_revision") or "")
    found, why_not = None, ""
    try:
        policy = sources.policy(revision)
        if policy is None:
            why_not = (
                f"Policy {revision or 'unknown'} is not on this machine; start the dashboard with "
                "--runs or --tracking-uri where it was made to see what moved the decision."
            )
        else:
            found = attribute(policy, observation)
    except ModelError as error:
        why_not = str(error)
    heading = (
        f"What moved {found.chosen} ahead of {found.runner_up}" if found else "What the policy saw"
    )
    summary = (
        f"The margin, log p({found.chosen}) − log p({found.runner_up}), is {found.margin:+.2f}; of "
        f"an empty frame as bright it is {found.baseline_margin:+.2f}. The contributions make up "
        "the difference."
        if found
        else why_not
    )
    return html.Div(
        [
            dmc.Title(heading, order=3, size="h5", mt="md"),
            dmc.Text(summary, size="sm", c="dimmed", mb="sm"),
            dmc.SimpleGrid(
                [
                    _heat(
                        "The thumbnail", observation[:_CELLS].reshape(THUMBNAIL, THUMBNAIL), scheme
                    ),
                    *([_moved(found, scheme)] if found else []),
                    _numbers(observation, found),
                ],
                cols={"base": 1, "sm": 2, "lg": 3},
            ),
        ]
    )


def _heat(title: str, cells: npt.NDArray[np.float32], scheme: Scheme) -> Component:
    drawn = _cells_figure(scheme)
    drawn.add_heatmap(
        z=cells,
        zmin=0,
        zmax=1,
        colorscale="gray",
        showscale=False,
        hovertemplate="row %{y}, column %{x}: %{z:.2f}<extra></extra>",
    )
    words = f"{title}: 32 by 32 grey cells, {float(cells.mean()):.0%} bright on average"
    return html.Div([dmc.Text(title, fw=600, size="sm"), _described_graph(drawn, words)])


def _moved(found: Attribution, scheme: Scheme) -> Component:
    drawn = _cells_figure(scheme)
    cells = found.thumbnail
    most = float(np.abs(cells).max()) or 1.0
    drawn.add_heatmap(
        z=cells,
        zmin=-most,
        zmax=most,
        colorscale=_DIVERGING[scheme],
        colorbar={"thickness": 8, "len": 0.9},
        hovertemplate="row %{y}, column %{x}: %{z:+.3f}<extra></extra>",
    )
    halves = (cells[:16].sum(), cells[16:].sum())
    words = (
        f"Contribution of the thumbnail's cells: {float(cells.sum()):+.2f} in all, the upper half "
        f"{halves[0]:+.2f}, the lower half {halves[1]:+.2f}"
    )
    title = f"Its cells: {float(cells.sum()):+.2f} (purple: for {found.chosen})"
    return html.Div([dmc.Text(title, fw=600, size="sm"), _described_graph(drawn, words)])


def _numbers(observation: npt.NDArray[np.float32], found: Attribution | None) -> Component:
    """Edge densities and the context block, those that moved most first."""
    names = [*(f"edges {quadrant}" for quadrant in _QUADRANTS), *CONTEXT_NAMES]
    values = observation[_CELLS:]
    moved = found.contributions[_CELLS:] if found else np.zeros(len(values), np.float32)
    order = np.argsort(-np.abs(moved), kind="stable")
    head = ["Number", "Value", *(["Moved"] if found else [])]
    return html.Div(
        [
            dmc.Text("Edge densities and context", fw=600, size="sm"),
            html.Div(
                dmc.Table(
                    [
                        dmc.TableThead(dmc.TableTr([dmc.TableTh(name) for name in head])),
                        dmc.TableTbody(
                            [
                                dmc.TableTr(
                                    [
                                        dmc.TableTh(
                                            names[index].replace("_", " "), className="row-head"
                                        ),
                                        dmc.TableTd(f"{values[index]:.3g}"),
                                        *(
                                            [dmc.TableTd(_signed(float(moved[index])))]
                                            if found
                                            else []
                                        ),
                                    ]
                                )
                                for index in order.tolist()
                            ]
                        ),
                    ],
                    verticalSpacing=2,
                ),
                className="tall",
                tabIndex="0",
                role="region",
                **{"aria-label": "Edge densities and context"},
            ),
        ]
    )


def _signed(value: float) -> str:
    """A contribution; what rounds to nothing has no sign."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0"


def _cells_figure(scheme: Scheme) -> go.Figure:
    hidden = {"visible": False, "fixedrange": True}
    return figure(
        scheme,
        height=280,
        xaxis={**hidden, "constrain": "domain"},
        yaxis={**hidden, "autorange": "reversed", "scaleanchor": "x", "constrain": "domain"},
        hovermode="closest",
        hoverlabel={"bgcolor": INKS[scheme].card},
    )


def _described_graph(drawn: go.Figure, words: str) -> Component:
    return html.Div(
        dcc.Graph(figure=drawn, config=dict(GRAPH_CONFIG)), role="img", **{"aria-label": words}
    )
