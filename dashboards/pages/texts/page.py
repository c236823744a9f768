"""Texts: which rung answers, what that costs, how far its texts agree with large, and where not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher

import dash_mantine_components as dmc
import numpy as np
from dash import Dash, html
from dash.development.base_component import Component

from dashboards.log.frames import LoggedFrame, read_frames
from dashboards.page import Page
from dashboards.pages.explore.frame_picture import picture
from dashboards.sources import Sources
from dashboards.widgets.local_time import clock
from dashboards.widgets.parts import empty_card, not_compared, page_title, rung_badge
from dashboards.widgets.wording import UNKNOWN, milliseconds, number, percent
from inference_graph.contract import LADDER, REFERENCE
from inference_graph.tasks.ocr.reading import text_of

_NEWEST = 2000
"""Answers that the page is about."""
_EXAMPLES = 12
_COLUMNS = (
    "event_id", "time", "session", "condition", "tags", "rung", "answered_by", "detect_ms",
    "scores", "boxes", "labels", "texts", "agreement", "shadow_ms", "shadow_boxes",
    "shadow_scores", "shadow_labels", "shadow_texts", "image_kept",
)  # fmt: skip


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The newest answers with texts, when the page is opened."""
    log = sources.log_of(query.get("log"))
    log.refresh()
    frames = [
        frame
        for frame in read_frames(log.place, log.newest(None, _NEWEST), _COLUMNS)
        if frame.values.get("texts") is not None
    ]
    title = page_title(
        "Texts",
        f"The newest {len(frames)} answers of rungs that read or listen: where inputs go, what "
        f"that costs, and where a text is another than that of {REFERENCE}.",
    )
    if not frames:
        empty = empty_card(
            "No answer with a text in the log",
            "Rungs of the tasks ocr and speech log their texts.",
            [
                "gearshift demo --task ocr --out runs/demo-ocr",
                "gearshift up --policy runs/demo-ocr/policy.onnx --ladder ocr --open-access",
            ],
        )
        return dmc.Stack([title, empty], gap="sm")
    unlike_large = sum(frame.values.get("answered_by") != REFERENCE for frame in frames)
    compared = [frame for frame in frames if frame.values.get("agreement") is not None]
    worst = sorted(compared, key=lambda frame: float(frame.values["agreement"]))[:_EXAMPLES]
    pictures = {
        frame.event_id: frame
        for frame in read_frames(
            log.place, [frame.time for frame in worst if frame.values.get("image_kept")]
        )
    }
    return dmc.Stack(
        [
            title,
            _routing(frames),
            dmc.Title(f"Least agreement with {REFERENCE}", order=2, size="h4"),
            dmc.SimpleGrid(
                [_example(frame, pictures.get(frame.event_id)) for frame in worst],
                cols={"base": 1, "md": 2},
                spacing="sm",
            )
            if worst
            else html.Div(
                not_compared(0, unlike_large) or f"{REFERENCE.capitalize()} answered every input."
            ),
        ],
        gap="sm",
    )


def register(app: Dash, sources: Sources) -> None:
    """The page has no callbacks: it shows the log as it is when it is opened."""


def _routing(frames: Sequence[LoggedFrame]) -> Component:
    """A row for each rung that answered."""
    dearest = _mean(
        frame.values["shadow_ms"]
        if frame.values.get("shadow_ms") is not None
        else frame.values.get("detect_ms")
        for frame in frames
        if frame.values.get("shadow_ms") is not None or frame.values["answered_by"] == REFERENCE
    )
    rows = []
    for rung in LADDER:
        own = [frame for frame in frames if frame.values["answered_by"] == rung]
        if not own:
            continue
        spent = _mean(frame.values.get("detect_ms") for frame in own)
        agreement = _mean(frame.values.get("agreement") for frame in own)
        compared = sum(frame.values.get("agreement") is not None for frame in own)
        length = _mean(len(text_of(frame.seen)) for frame in own)
        rows.append(
            [
                rung_badge(rung),
                number(len(own)),
                percent(len(own) / len(frames)),
                milliseconds(spent),
                percent(spent / dearest, 0) if dearest > 0 else UNKNOWN,
                number(length),
                percent(agreement) if compared else UNKNOWN,
                number(compared),
            ]
        )
    head = [
        "Rung", "Inputs", "Share", "Mean time", f"Time over {REFERENCE}'s", "Characters",
        "Agreement", "Compared",
    ]  # fmt: skip
    return dmc.Card(
        [
            dmc.Title("Routing, cost and agreement", order=2, size="h4"),
            dmc.Text(
                f"Agreement is 1 − normalised edit distance of the answer's text to {REFERENCE}'s.",
                size="sm",
                c="dimmed",
            ),
            html.Div(
                dmc.Table(
                    [
                        dmc.TableThead(dmc.TableTr([dmc.TableTh(name) for name in head])),
                        dmc.TableTbody(
                            [dmc.TableTr([dmc.TableTd(cell) for cell in row]) for row in rows]
                        ),
                    ],
                    id="texts-routing",
                ),
                style={"overflowX": "auto"},
                tabIndex="0",  # whoever has no pointer scrolls it by the arrow keys
            ),
        ],
        withBorder=True,
        padding="md",
    )


def _example(frame: LoggedFrame, whole: LoggedFrame | None) -> Component:
    """An answer's text beside large's, with what differs marked in both."""
    mine, theirs = text_of(frame.seen), text_of(frame.shadow_seen)
    drawn = picture(whole, ("text",)) if whole is not None else None
    rung = str(frame.values["answered_by"])
    return dmc.Card(
        [
            dmc.Group(
                [
                    rung_badge(rung),
                    dmc.Text(percent(float(frame.values["agreement"]), 0), size="sm", fw=600),
                    dmc.Anchor(clock(frame.time), href=f"/explore?frame={frame.key}", size="sm"),
                    dmc.Text(frame.condition, size="sm", c="dimmed"),
                ],
                gap="sm",
            ),
            *(
                [
                    html.Img(
                        src=drawn,
                        alt="The input",
                        className="frame",
                    )
                ]
                if drawn
                else []
            ),
            dmc.SimpleGrid(
                [_read(rung, mine, theirs), _read(REFERENCE, theirs, mine)],
                cols={"base": 1, "xs": 2},
                spacing="sm",
            ),
        ],
        withBorder=True,
        padding="sm",
    )


def _read(rung: str, text: str, other: str) -> Component:
    """One rung's text; what the other text does not have at its place is marked."""
    parts: list[Component | str] = []
    matcher = SequenceMatcher(None, text, other, autojunk=False)
    for kind, start, end, *_ in matcher.get_opcodes():
        if start < end:
            piece = text[start:end]
            parts.append(piece if kind == "equal" else html.Mark(piece))
    return html.Div(
        [
            dmc.Text(rung, size="xs", c="dimmed"),
            html.Pre(parts or "(nothing)", className="wraps", style={"whiteSpace": "pre-wrap"}),
        ]
    )


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan


PAGE = Page("/texts", "Texts", "texts", layout, register)
