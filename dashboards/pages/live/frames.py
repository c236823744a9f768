"""The newest frames on the live page: what was seen, by which rung, and why."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from dashboards.log.frames import LoggedFrame
from dashboards.pages.explore.frame_picture import picture, seen_words, why
from dashboards.widgets.local_time import local
from dashboards.widgets.parts import rung_badge
from dashboards.widgets.wording import milliseconds


def frame_cards(
    frames: Sequence[LoggedFrame], class_names: Sequence[str], log_query: str = ""
) -> Component:
    """One card for each frame; without any, why there is none.

    Args:
        frames: with all that was logged of them.
        class_names: of the detectors, by label.
        log_query: end of an address that keeps the chosen log.
    """
    if not frames:
        return dmc.Text(
            "No image was kept in this window. The gateway keeps those of a sampled share of the "
            "frames: image_share, 2 % by default.",
            size="sm",
            c="dimmed",
        )
    return dmc.SimpleGrid(
        [_card(frame, class_names, log_query) for frame in frames],
        cols={"base": 1, "xs": 2, "lg": 3},
        spacing="sm",
    )


def _card(frame: LoggedFrame, class_names: Sequence[str], log_query: str) -> Component:
    answered = str(frame.values.get("answered_by") or "")
    seen = seen_words(frame, class_names)
    return dmc.Card(
        [
            dmc.CardSection(
                html.Img(
                    src=picture(frame, class_names),
                    alt=f"Frame of {frame.values.get('session') or 'a single image'}: {seen}",
                    className="frame",
                )
            ),
            dmc.Group(
                [
                    rung_badge(answered),
                    dmc.Text(milliseconds(frame.milliseconds("total")), size="sm", fw=600),
                    dmc.Text(f"{local(frame.time):%H:%M:%S}", size="sm", c="dimmed", ml="auto"),
                ],
                gap="xs",
                mt="xs",
            ),
            dmc.Text(why(frame), size="sm"),
            dmc.Text(f"Saw {seen}", size="sm", c="dimmed"),
            dmc.Anchor(
                "Why this rung?", href=f"/explore?frame={quote(frame.key)}{log_query}", size="sm"
            ),
        ],
        withBorder=True,
        padding="sm",
    )
