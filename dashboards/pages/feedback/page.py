"""Feedback: what waits for a reviewer, and, where one was named at the start, the decision."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import cv2
import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from flask import Response, request

from components.feedback.decisions import Verdict, decide
from components.feedback.item import FeedbackItem
from components.feedback.picture import views
from components.feedback.store import FeedbackConfig, FeedbackStore, open_store
from dashboards.page import Page
from dashboards.sources import Sources
from dashboards.widgets.local_time import clock
from dashboards.widgets.parts import clear_error, empty_card, page_title
from foundation.audit_log import audit_of_environment
from foundation.errors import GearshiftError
from inference_graph.contract import LADDER
from serving_kit.foreign_pages import is_loopback

_LIST, _REASON, _DECIDE, _DONE = (
    "feedback-list",
    "feedback-reason",
    "feedback-decide",
    "feedback-done",
)
_SHOWN = 12
"""Items on the page, the oldest first: pictures are large, and the next ones move up."""


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page as it is now."""
    reviewer = sources.config.reviewer
    rule = (
        f"Decisions are recorded under the name {reviewer}."
        if reviewer
        else "To decide here, start the dashboard with --reviewer NAME."
    )
    return dmc.Stack(
        [
            page_title("Feedback", f"Confirmations and corrections in quarantine. {rule}"),
            html.Div(id=_DONE, role="status"),
            html.Div(_waiting(sources), id=_LIST),
        ],
        gap="sm",
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callback; without a reviewer there is none, and nothing can be decided."""
    reviewer = sources.config.reviewer
    if not reviewer:
        return

    @app.server.before_request
    def only_from_here() -> Response | None:
        """A name that resolves to this machine would let another page's script decide."""
        host = urlsplit(f"http://{request.host}").hostname or ""
        if is_loopback(host):
            return None
        return Response("this dashboard is not at that name; open it at 127.0.0.1", 403)

    @app.callback(
        Output(_LIST, "children"),
        Output(_DONE, "children"),
        Input({"type": _DECIDE, "item": ALL, "verdict": ALL}, "n_clicks"),
        State({"type": _REASON, "item": ALL}, "value"),
        State({"type": _REASON, "item": ALL}, "id"),
        prevent_initial_call=True,
    )
    def review(
        clicks: list[int | None], reasons: list[str | None], ids: list[dict[str, str]]
    ) -> tuple[Any, Any]:
        """Write a decision down, and show what still waits."""
        pressed = ctx.triggered_id
        if pressed is None or not any(clicks):
            return no_update, no_update  # the list was drawn anew
        name, verdict = pressed["item"], pressed["verdict"]
        words = dict(zip((one["item"] for one in ids), reasons, strict=True))
        store = _store(sources)
        new = decide(
            sources.config.feedback,
            store.find([name]),
            _verdict(verdict),
            reviewer,
            words.get(name) or "",
            audit=audit_of_environment(),
        )
        clear_error()
        result = f"{name[:8]} was {verdict} before" if not new else f"{verdict} {name[:8]}"
        return _waiting(sources), dmc.Text(result, size="sm", c="dimmed")


def _verdict(word: str) -> Verdict:
    return "approved" if word == "approved" else "rejected"


def _store(sources: Sources) -> FeedbackStore:
    """As it is now: the log and other reviewers go on."""
    config = FeedbackConfig(store=sources.config.feedback, log=sources.log.url)
    return open_store(config, sources.ladder / f"{LADDER[0]}.onnx")


def _waiting(sources: Sources) -> Component:
    store = _store(sources)
    items = store.select("quarantined")
    if not items:
        return empty_card(
            "Nothing waits for a review",
            "Feedback comes by POST /v1/feedback, or from an annotation tool.",
            ["gearshift feedback import annotations.json --images frames --user NAME"],
        )
    shown = items[:_SHOWN]
    more = f"{len(items)} wait; the oldest {len(shown)} are here." if len(items) > _SHOWN else ""
    return dmc.Stack(
        [
            *([dmc.Text(more, size="sm", c="dimmed")] if more else []),
            dmc.SimpleGrid(
                [_card(store, item, bool(sources.config.reviewer)) for item in shown],
                cols={"base": 1, "lg": 2},
                spacing="sm",
            ),
        ]
    )


def _card(store: FeedbackStore, item: FeedbackItem, may_decide: bool) -> Component:
    described = store.describe(item)
    names = ", ".join(one["name"] for one in described["objects"]) or "nothing"
    return dmc.Card(
        [
            dmc.Group(
                [
                    dmc.Title(f"{item.user}: {item.kind}", order=2, size="h5"),
                    dmc.Text(clock(item.time), size="xs", c="dimmed"),
                ],
                justify="space-between",
            ),
            _picture(store, item, names),
            dmc.Text(f"{item.user}: {names}", size="sm", className="wraps"),
            *([dmc.Text(_answer(described), size="sm", className="wraps")] if item.answer else []),
            *([dmc.Text(f"“{item.note}”", size="sm", className="wraps")] if item.note else []),
            *(
                dmc.Text(f"! {sign}", size="sm", fw=600, className="wraps")
                for sign in described["signs"]
            ),
            *([_controls(item)] if may_decide else []),
        ],
        withBorder=True,
        padding="sm",
    )


def _picture(store: FeedbackStore, item: FeedbackItem, names: str) -> Component:
    try:
        shown = views(store, item)
    except GearshiftError as error:
        return dmc.Text(str(error), size="sm", c="dimmed", className="wraps")
    figures = []
    for number, (title, view) in enumerate(shown):
        made, data = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, 82])
        if not made:
            return dmc.Text("The frame cannot be drawn.", size="sm", c="dimmed")
        source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        alt = f"{title}: {names}" if number == 0 else f"Boxes of {title}"
        caption = html.Figcaption(dmc.Text(title, size="xs", c="dimmed"))
        picture = html.Img(src=source, alt=alt, style={"width": "100%"})
        figures.append(html.Figure([picture, caption], style={"margin": 0}))
    return dmc.SimpleGrid(figures, cols={"base": 1, "xs": len(figures)}, spacing="xs")


def _answer(described: Mapping[str, Any]) -> str:
    return f"{described['answered_by']}: {', '.join(described['answer']) or 'nothing'}"


def _controls(item: FeedbackItem) -> Component:
    name = item.item_id
    return dmc.Group(
        [
            dmc.TextInput(
                id={"type": _REASON, "item": name},
                placeholder="Why; needed to reject",
                style={"flexGrow": 1},
                **{"aria-label": f"Reason for {name[:8]}"},
            ),
            *(
                dmc.Button(
                    label,
                    id={"type": _DECIDE, "item": name, "verdict": verdict},
                    variant=variant,
                    disabled=verdict == "approved" and bool(item.blockers),
                    **{"aria-label": f"{label} {name[:8]}"},
                )
                for label, verdict, variant in (
                    ("Approve", "approved", "filled"),
                    ("Reject", "rejected", "default"),
                )
            ),
        ],
        mt="xs",
        gap="xs",
    )


PAGE = Page("/feedback", "Feedback", "feedback", layout, register)
