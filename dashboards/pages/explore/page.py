"""Explore: any window, session, condition and rung, down to why one frame went where it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.log.figures import Filter, Totals, without
from dashboards.log.frames import LoggedFrame
from dashboards.log.memory import Reading
from dashboards.log.queries import LogQueries
from dashboards.page import Page
from dashboards.pages.explore.figures import (
    brushed_milliseconds,
    frames_figure,
    latency_figure,
    shares_figure,
    stage_rows,
)
from dashboards.pages.explore.frame_panel import frame_panel
from dashboards.pages.explore.inputs import filter_card, picker_value
from dashboards.pages.explore.query import NO_CONDITION, filter_of, query_of, range_of, time_of
from dashboards.pages.live.page import no_log
from dashboards.sources import Sources
from dashboards.widgets.export import frames_csv, timeline_csv
from dashboards.widgets.local_time import (
    deployments_here,
    local,
    timeline_here,
    zone,
    zone_name,
)
from dashboards.widgets.parts import (
    AGREEMENT_HINT,
    AUTOMATIC_LOG,
    SCHEME,
    chart,
    clear_error,
    log_picker,
    not_compared,
    page_title,
    paused_while_running,
    query_id,
    query_store,
    stat,
    warning_card,
)
from dashboards.widgets.tables import grid, number_column
from dashboards.widgets.theme import scheme_of
from dashboards.widgets.wording import compared_words, few, milliseconds, number, percent
from inference_graph.prediction_log.retained import Retained

_LISTED, _EXPORTED = 200, 50_000
_EVERYTHING: dict[str, Any] = {
    "from": None,
    "to": None,
    "session": [],
    "condition": [],
    "rung": [],
    "low": "",
    "high": "",
    "only": [],
}
_INPUTS = tuple(_EVERYTHING)
_STATS = ("frames", "agreement", "latency", "trouble")
_CHARTS = ("frames-chart", "latency-chart", "conditions-chart")
_CHOOSE_ROW = """(rows) => rows?.length && rows[0].key
    ? rows[0].key : dash_clientside.no_update"""
# ``set_props`` and no output: a circle of callbacks makes Dash lose answers.
_RESTORE_ROW = """(rows, key) => {
    if (key && rows?.some((row) => row.key === key))
        dash_clientside.set_props("explore-list", {selectedRows: {ids: [key]}});
}"""
_COLUMNS = (
    {"field": "time", "headerName": "Time", "width": 205},
    {"field": "session", "headerName": "Session", "width": 115},
    number_column("frame_id", "Frame", ",", width=90),
    {"field": "answered_by", "headerName": "Rung", "width": 90},
    number_column("total_ms", "ms", ",.1f", width=90),
    number_column("detections", "Objects", ",", width=95),
    number_column("agreement", "Agreement", ".2f", width=110),
    {"field": "fallback", "headerName": "Fallback", "width": 100},
    {"field": "condition", "headerName": "Condition", "width": 105},
    {"field": "image", "headerName": "Image", "width": 90},
)


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page as the address asks for it."""
    chosen = filter_of(query)
    return dmc.Stack(
        [
            page_title(
                "Explore",
                "Choose any part of the log; brush a chart and the others follow.",
                log_picker("explore-log", sources.logs, query.get("log")),
                dmc.Button("Frames over time as CSV", id="explore-csv-time", variant="default"),
                dmc.Button("Frames as CSV", id="explore-csv-frames", variant="default"),
            ),
            html.Div(id="explore-hint"),
            filter_card(chosen),
            dmc.SimpleGrid(
                [
                    stat("explore-frames", "Frames answered"),
                    stat("explore-agreement", "Agreement with large", AGREEMENT_HINT),
                    stat("explore-latency", "Time to the answer, p95"),
                    stat("explore-trouble", "Fallbacks and drops"),
                ],
                cols={"base": 2, "md": 4},
                spacing="sm",
            ),
            dmc.Grid(
                [
                    dmc.GridCol(
                        chart(
                            "explore-frames-chart",
                            "Frames over time",
                            "Drag over it to choose a window.",
                        ),
                        span={"base": 12, "md": 7},
                    ),
                    dmc.GridCol(
                        chart(
                            "explore-latency-chart",
                            "Time to the answer",
                            "Drag over it to choose a range.",
                        ),
                        span={"base": 12, "md": 5},
                    ),
                    dmc.GridCol(
                        chart(
                            "explore-conditions-chart",
                            "Rungs by condition",
                            "Click a bar to choose its condition.",
                        ),
                        span={"base": 12, "md": 7},
                    ),
                    dmc.GridCol(
                        dmc.Card(
                            [
                                dmc.Title("Stages", order=2, size="h5"),
                                html.Div(id="explore-stages"),
                            ],
                            withBorder=True,
                            padding="sm",
                            h="100%",
                        ),
                        span={"base": 12, "md": 5},
                    ),
                ],
                gutter="sm",
            ),
            dmc.Title(f"Frames, times in {zone_name()}", order=2, size="h4"),
            dmc.Text("Loading…", id="explore-listed", size="sm", c="dimmed"),
            grid(
                "explore-list",
                "The newest frames of the choice",
                _COLUMNS,
                [],
                file_name="frames.csv",
                suppressNoRowsOverlay=True,  # the line above says whether there is none
                pagination=True,
                paginationPageSize=10,
                paginationPageSizeSelector=False,
                rowSelection={
                    "mode": "singleRow",
                    "checkboxes": False,
                    "enableClickSelection": True,
                },
            ),
            html.Div(id="explore-frame", **{"aria-live": "polite"}),
            dcc.Download(id="explore-download"),
            dcc.Interval(id="explore-tick", interval=sources.config.refresh_seconds * 1000),
            dcc.Store(id="explore-key", data=query.get("frame")),
            query_store("explore", query),
        ],
        gap="md",
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callbacks."""
    _register_choice(app)
    _register_view(app, sources)
    _register_frames(app, sources)


def _register_choice(app: Dash) -> None:
    """From brushes and inputs to the address."""

    @app.callback(
        [Output(f"explore-{name}", "value") for name in _INPUTS],
        Input("explore-frames-chart", "selectedData"),
        Input("explore-latency-chart", "selectedData"),
        Input("explore-conditions-chart", "clickData"),
        Input("explore-reset", "n_clicks"),
        State("explore-condition", "value"),
        prevent_initial_call=True,
    )
    def choose(
        frames: Any, latency: Any, condition: Any, _: int | None, conditions: list[str] | None
    ) -> list[Any]:
        """What was brushed or clicked becomes the value of an input."""
        changed: dict[str, Any] = dict.fromkeys(_INPUTS, no_update)
        # Dash sends what happens within one moment together.
        happened = {str(one).partition(".")[0] for one in ctx.triggered_prop_ids}
        if "explore-reset" in happened:
            return [_EVERYTHING[name] for name in _INPUTS]
        if "explore-frames-chart" in happened and frames and "range" in frames:
            ends = [time_of(str(end)[:19]) for end in frames["range"]["x"]]
            changed |= {"from": picker_value(ends[0]), "to": picker_value(ends[1])}
        if "explore-latency-chart" in happened and latency and "range" in latency:
            low, high = brushed_milliseconds(*latency["range"]["x"])
            changed |= {"low": low, "high": high}
        if "explore-conditions-chart" in happened and condition:
            name = condition["points"][0]["customdata"] or NO_CONDITION
            others = [one for one in conditions or () if one != name]
            changed["condition"] = others if name in (conditions or ()) else [*others, name]
        return [changed[name] for name in _INPUTS]

    @app.callback(
        output=Output(query_id("explore"), "data"),
        inputs={
            "values": [Input(f"explore-{name}", "value") for name in _INPUTS],
            "key": Input("explore-key", "data"),
            "log": Input("explore-log", "value"),
        },
    )
    def address(values: Sequence[Any], key: str | None, log: str) -> dict[str, str]:
        """The address of the view."""
        given = dict(zip(_INPUTS, values, strict=True))
        limits = [given["low"], given["high"]]
        ms = "-".join("" if limit in (None, "") else str(limit) for limit in limits)
        chosen = Filter(
            since=time_of(given["from"], zone()),
            until=time_of(given["to"], zone()),
            sessions=tuple(given["session"] or ()),
            conditions=tuple(
                "" if one == NO_CONDITION else one for one in given["condition"] or ()
            ),
            rungs=tuple(given["rung"] or ()),
            total_ms=range_of(ms) if ms != "-" else None,
            fallbacks="fallbacks" in (given["only"] or ()),
            images="images" in (given["only"] or ()),
        )
        more = {"frame": key, "log": log if log != AUTOMATIC_LOG else None}
        return query_of(chosen) | {name: value for name, value in more.items() if value}


def _register_view(app: Dash, sources: Sources) -> None:
    """From the address to figures and charts."""

    @app.callback(
        output={
            "hint": Output("explore-hint", "children"),
            "stats": [Output(f"explore-{name}", "children") for name in _STATS],
            "notes": [Output(f"explore-{name}-note", "children") for name in _STATS],
            "figures": [Output(f"explore-{name}", "figure") for name in _CHARTS],
            "words": [Output(f"explore-{name}-words", "children") for name in _CHARTS],
            "stages": Output("explore-stages", "children"),
            "sessions": Output("explore-session", "data"),
            "conditions": Output("explore-condition", "data"),
            "done": Output("explore-tick", "disabled"),
        },
        inputs={
            "query": Input(query_id("explore"), "data"),
            "_": Input("explore-tick", "n_intervals"),
            "scheme": Input(SCHEME, "computedColorScheme"),
        },
        running=paused_while_running("explore-tick"),
    )
    def show(query: dict[str, str], _: int | None, scheme: str | None) -> dict[str, Any]:
        """Everything but the frames."""
        log = sources.log_of(query.get("log"))
        reading = log.refresh()
        clear_error()
        chosen, colours = filter_of(query), scheme_of(scheme)
        totals, stages = log.totals(chosen), log.stages(chosen)
        kept, all_ms = log.agreement(chosen), stages["total"]
        conditions = log.conditions(without(chosen, "conditions"))
        drawn = (
            frames_figure(
                timeline_here(log.timeline(chosen)),
                colours,
                deployments_here(log.deployments(chosen)),
            ),
            latency_figure(
                log.latency_by_rung(without(chosen, "total_ms")), chosen.total_ms, colours
            ),
            shares_figure(conditions, chosen.conditions, colours),
        )
        span = (
            f"{local(totals.first):%Y-%m-%d %H:%M} to {local(totals.last):%Y-%m-%d %H:%M %Z}"
            if totals.first and totals.last
            else "nothing fits this choice"
        )
        return {
            "hint": _hint(log, reading, totals, kept),
            "stats": [
                number(totals.answered),
                percent(kept.share),
                milliseconds(all_ms.percentile(0.95)),
                f"{number(totals.fallbacks)} / {number(totals.dropped)}",
            ],
            "notes": [
                span,
                compared_words(kept, totals.answered, totals.unlike_large),
                f"{few(totals.answered)}median {milliseconds(all_ms.percentile(0.5))}",
                f"{number(totals.failed)} unanswered",
            ],
            "figures": [made for made, _ in drawn],
            "words": [words for _, words in drawn],
            "stages": _stages(stage_rows(stages), totals.answered),
            "sessions": [name for name in log.sessions(without(chosen, "sessions")) if name],
            "conditions": [name or NO_CONDITION for name in conditions],
            "done": reading.complete and log.span() is not None,
        }

    @app.callback(
        Output("explore-download", "data"),
        Input("explore-csv-time", "n_clicks"),
        Input("explore-csv-frames", "n_clicks"),
        State(query_id("explore"), "data"),
        prevent_initial_call=True,
    )
    def export(_: int | None, __: int | None, query: dict[str, str]) -> dict[str, Any]:
        """What the view shows as a file."""
        chosen, log = filter_of(query), sources.log_of(query.get("log"))
        if ctx.triggered_id == "explore-csv-time":
            return _file("frames-over-time.csv", timeline_csv(log.timeline(chosen)))
        return _file("frames.csv", frames_csv(log.frames(chosen, _EXPORTED)))


def _register_frames(app: Dash, sources: Sources) -> None:
    """From the address to the list of frames, and to one of them."""

    @app.callback(
        Output("explore-list", "rowData"),
        Output("explore-listed", "children"),
        Input(query_id("explore"), "data"),
        Input("explore-tick", "disabled"),
    )
    def show_list(query: dict[str, str], _: bool | None) -> tuple[Any, str]:
        """The newest frames of the choice."""
        frames = sources.log_of(query.get("log")).frames(filter_of(query), _LISTED)
        key = query.get("frame")
        listed = any(frame.key == key for frame in frames)
        summary = f"The newest {len(frames)} of the choice; choose one to see why its rung looked."
        if key and not listed:
            summary += " The frame below is none of them."
        return (
            [_row(frame) for frame in frames],
            summary if frames else "None fits this choice.",
        )

    # In the browser, where no later answer of the server can overtake a click.
    app.clientside_callback(
        _CHOOSE_ROW,
        Output("explore-key", "data"),
        Input("explore-list", "selectedRows"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        _RESTORE_ROW, Input("explore-list", "rowData"), State("explore-key", "data")
    )

    @app.callback(
        Output("explore-frame", "children"),
        Input("explore-key", "data"),
        Input(SCHEME, "computedColorScheme"),
        Input("explore-log", "value"),
    )
    def show_frame(key: str | None, scheme: str | None, log: str) -> Component | None:
        return frame_panel(sources, key, scheme_of(scheme), log) if key else None


def _hint(log: LogQueries, reading: Reading, totals: Totals, kept: Retained) -> list[Component]:
    notices: list[Component] = []
    if reading.problems:
        notices.append(warning_card("A part of the log is left out", reading.problems))
    if not reading.complete:
        notices.append(
            dmc.Text(
                f"Reading the log: {reading.parts} of {reading.parts_found} files, newest first. "
                "Figures cover what was read.",
                size="sm",
            )
        )
    elif reading.beyond:
        notices.append(
            dmc.Text(
                f"{number(reading.beyond)} older files are left out: memory_rows bounds how much "
                "is kept in memory.",
                size="sm",
            )
        )
    if not totals.rows and reading.complete and log.span() is None and not reading.problems:
        notices.append(no_log(log))
    return [*notices, *not_compared(kept.shadowed, totals.unlike_large)]


def _stages(rows: Sequence[Mapping[str, str]], answered: int) -> Component:
    names = list(rows[0])
    return dmc.Table(
        [
            dmc.TableCaption(f"Median, 95th and 99th percentile; {few(answered)}within 1 %."),
            dmc.TableThead(dmc.TableTr([dmc.TableTh(name) for name in names])),
            dmc.TableTbody(
                [dmc.TableTr([dmc.TableTd(row[name]) for name in names]) for row in rows]
            ),
        ],
        captionSide="bottom",
    )


def _row(frame: LoggedFrame) -> dict[str, Any]:
    values = frame.values
    names = ("session", "frame_id", "answered_by", "total_ms", "detections", "agreement")
    return {name: values.get(name) for name in (*names, "fallback")} | {
        "key": frame.key,
        "time": f"{local(frame.time):%Y-%m-%d %H:%M:%S.%f}"[:-3],
        "condition": frame.condition,
        "image": "kept" if values.get("image_kept") else "",
    }


def _file(name: str, content: str) -> dict[str, Any]:
    return {"filename": name, "content": content, "type": "text/csv"}


PAGE = Page("/explore", "Explore", "explore", layout, register)
