"""The inputs of the explore page: everything a brush can choose can be typed too."""

from __future__ import annotations

from datetime import datetime

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dashboards.log.figures import Filter
from dashboards.pages.explore.query import NO_CONDITION
from dashboards.widgets.local_time import local, zone_name
from inference_graph.contract import GEARS


def filter_card(chosen: Filter) -> Component:
    """The inputs, at the values of a filter."""
    low, high = chosen.total_ms or ("", "")
    rungs = [{"value": rung, "label": rung} for rung in GEARS]
    only = [name for name in ("fallbacks", "images") if getattr(chosen, name)]
    return dmc.Card(
        [
            dmc.SimpleGrid(
                [
                    _time_input("explore-from", f"From, {zone_name()}", chosen.since),
                    _time_input("explore-to", f"To, {zone_name()}", chosen.until),
                    dmc.MultiSelect(
                        id="explore-session",
                        label="Sessions",
                        data=list(chosen.sessions),
                        value=list(chosen.sessions),
                        placeholder="all",
                        searchable=True,
                        clearable=True,
                    ),
                    dmc.MultiSelect(
                        id="explore-condition",
                        label="Conditions",
                        data=[name or NO_CONDITION for name in chosen.conditions],
                        value=[name or NO_CONDITION for name in chosen.conditions],
                        placeholder="all",
                        clearable=True,
                    ),
                    dmc.MultiSelect(
                        id="explore-rung",
                        label="Answered by",
                        data=rungs,
                        placeholder="all",
                        value=list(chosen.rungs),
                        clearable=True,
                    ),
                    dmc.Group(
                        [
                            dmc.NumberInput(
                                id="explore-low",
                                label="At least, ms",
                                value=low,
                                min=0,
                                flex=1,
                                miw=0,
                            ),
                            dmc.NumberInput(
                                id="explore-high",
                                label="At most, ms",
                                value=high,
                                min=0,
                                flex=1,
                                miw=0,
                            ),
                        ],
                        gap="xs",
                        wrap="nowrap",
                    ),
                ],
                cols={"base": 1, "xs": 2, "lg": 3},
                spacing="sm",
            ),
            dmc.Group(
                [
                    dmc.ChipGroup(
                        [
                            dmc.Chip("only fallbacks", value="fallbacks", size="sm"),
                            dmc.Chip("only with image", value="images", size="sm"),
                        ],
                        id="explore-only",
                        multiple=True,
                        value=only,
                    ),
                    dmc.Button(
                        "Show everything",
                        id="explore-reset",
                        variant="subtle",
                        size="compact-sm",
                        ml="auto",
                    ),
                ],
                mt="sm",
            ),
        ],
        withBorder=True,
        padding="sm",
    )


def _time_input(name: str, label: str, time: datetime | None) -> Component:
    return dmc.DateTimePicker(
        id=name,
        label=label,
        value=picker_value(time and local(time)),
        valueFormat="YYYY-MM-DD HH:mm:ss",
        withSeconds=True,
        clearable=True,
        placeholder="any",
    )


def picker_value(time: datetime | None) -> str | None:
    """A point in time, on the reader's clock, as the inputs hold it."""
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else None
