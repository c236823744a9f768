"""The Dash application: a frame with the navigation, and the page that the address names."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

import dash_mantine_components as dmc
import pandas  # noqa: F401  # pyarrow imports it late, and Plotly trips over it half imported
from dash import ALL, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from flask import request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from dashboards.config import DashboardConfig
from dashboards.navigation import PAGES
from dashboards.page import Page
from dashboards.saved_views import register_saved_views, saved_views
from dashboards.sources import Sources
from dashboards.widgets.local_time import SET_COOKIE
from dashboards.widgets.parts import (
    NOTICE,
    QUERY,
    SCHEME,
    empty_card,
    error_card,
    read_query,
    show_error,
)
from dashboards.widgets.theme import MANTINE
from foundation.errors import GearshiftError
from serving_kit.foreign_pages import hosts_of, why_foreign
from serving_kit.listening import listen, url_of

_LOG = logging.getLogger(__name__)
_LOCATION, _PAGE, _BURGER, _SHELL = "location", "page", "burger", "shell"

# The background stands before any script has run, so that a dark page does not begin white.
_INDEX = """<!doctype html>
<html lang="en">
<head>
{%metas%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
{%favicon%}
{%css%}
<script>SET_COOKIE</script>
<style>@media (prefers-color-scheme: dark) { body { background: #242424; } }</style>
</head>
<body>
{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>""".replace("SET_COOKIE", SET_COOKIE)

_SET_TITLE = """function(path) {
    const titles = %s;
    document.title = titles[path] || titles[''];
    return window.dash_clientside.no_update;
}"""
_INITIAL_SCHEME = """function() {
    return document.documentElement.getAttribute('data-mantine-color-scheme') || 'light';
}"""
# The switch reports its scheme when it is pressed; figures need it before they are first drawn.
_REPORT_SCHEME = """function() {
    const set = document.documentElement.getAttribute('data-mantine-color-scheme');
    const dark = window.matchMedia('(prefers-color-scheme: dark)').matches;
    return ['light', 'dark'].includes(set) ? set : (dark ? 'dark' : 'light');
}"""
_WRITE_ADDRESS = """function(stores) {
    const last = window.dash_clientside.callback_context.triggered[0];
    if (!last || !last.value) { return window.dash_clientside.no_update; }
    // A late answer to a page that was left is no part of the next one's address.
    const page = JSON.parse(last.prop_id.slice(0, last.prop_id.lastIndexOf('.'))).page;
    if (page !== (window.location.pathname.slice(1) || 'live')) {
        return window.dash_clientside.no_update;
    }
    const kept = Object.entries(last.value).filter(([, value]) => value !== null && value !== '');
    const search = new URLSearchParams(kept).toString();
    const address = window.location.pathname + (search ? '?' + search : '');
    if (address !== window.location.pathname + window.location.search) {
        window.history.replaceState(window.history.state, '', address);
    }
    return window.dash_clientside.no_update;
}"""


def build_app(config: DashboardConfig, sources: Sources | None = None) -> Dash:
    """Make the application; nothing of the log, the runs or MLflow is read yet.

    Args:
        config: what to read and how to look.
        sources: what to read, if it is open already.

    Raises:
        ConfigurationError: the log's url is none.
    """
    sources = sources or Sources(config)
    pages = PAGES
    app = Dash(
        __name__,
        title=config.title,
        update_title="",
        serve_locally=True,
        suppress_callback_exceptions=True,
        on_error=_show_failure,
        index_string=_INDEX,
    )
    app.layout = lambda: _shell(config, pages)
    hosts = hosts_of(config.host.strip("[]"), config.hosts)

    @app.server.before_request
    def refuse_foreign_pages() -> tuple[str, int] | None:
        given = {name.lower(): value for name, value in request.headers.items()}
        foreign = why_foreign(given, hosts)
        return None if foreign is None else (f"{foreign}\n", 403)

    @app.server.errorhandler(Exception)
    def refuse_malformed(error: Exception) -> HTTPException | tuple[str, int]:
        """What a callback raises is shown by it, so this is Dash reading a request of its own."""
        if isinstance(error, HTTPException):
            return error
        reason = f"{type(error).__name__}: {error}"[:200]
        _LOG.warning("%s %s cannot be used (%r)", request.method, request.path, reason)
        return "this request is malformed; load the page again\n", 400

    _register(app, sources, pages, config)
    for page in pages:
        page.register(app, sources)
    return app


def serve_dashboard(config: DashboardConfig, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until interrupted; blocks.

    Args:
        config: what to read, and where to listen.
        on_ready: called with the dashboard's URL once it answers.

    Raises:
        ConfigurationError: the address is in use or not this machine's, or the log's url is none.
    """
    with listen(config.host, config.port) as listening:  # before the pages take their seconds
        sources = Sources(config)
        server = open_server(listening, build_app(config, sources))
    try:
        if on_ready is not None:
            on_ready(url_of(server.socket))
        server.serve_forever()
    finally:
        server.server_close()
        sources.close()


def open_server(listening: socket.socket, app: Dash) -> BaseWSGIServer:
    """A server of a socket, one thread for each request; run it with ``serve_forever``."""

    class Quiet(WSGIRequestHandler):
        """Logs no requests; errors are logged all the same."""

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    host, port = listening.getsockname()[:2]
    return make_server(
        host, port, app.server, threaded=True, request_handler=Quiet, fd=listening.fileno()
    )


def _shell(config: DashboardConfig, pages: tuple[Page, ...]) -> Component:
    links = [
        dmc.NavLink(
            label=page.name,
            href=page.path,
            active="exact",
            leftSection=html.Span(className=f"icon icon-{page.icon}", **{"aria-hidden": "true"}),
            id={"type": "link", "page": page.path},
        )
        for page in pages
    ]
    header = dmc.Group(
        [
            dmc.Burger(
                id=_BURGER,
                size="sm",
                hiddenFrom="sm",
                opened=False,
                **{"aria-label": "Navigation", "aria-controls": "navigation"},
            ),
            html.Span(className="icon icon-gear brand", **{"aria-hidden": "true"}),
            dmc.Text(config.title, fw=700, size="lg", span=True),
            *saved_views(),
            dmc.ColorSchemeToggle(
                id=SCHEME,
                lightIcon=html.Span(className="icon icon-sun", **{"aria-hidden": "true"}),
                darkIcon=html.Span(className="icon icon-moon", **{"aria-hidden": "true"}),
                variant="subtle",
                size="lg",
                **{"aria-label": "Switch between light and dark"},
            ),
        ],
        h="100%",
        px="md",
        gap="sm",
        wrap="nowrap",
    )
    return dmc.MantineProvider(
        [
            html.A("Skip to the content", href="#content", className="skip"),
            html.Div("Loading…", className="loading", role="status"),
            dcc.Location(id=_LOCATION, refresh="callback-nav"),
            dmc.AppShell(
                [
                    dmc.AppShellHeader(header),
                    dmc.AppShellNavbar(
                        html.Nav(links, **{"aria-label": "Pages"}), p="xs", id="navigation"
                    ),
                    dmc.AppShellMain(
                        html.Div(
                            [
                                html.Div(id=NOTICE, role="alert"),
                                html.Div(id=_PAGE),
                            ],
                            id="content",
                            tabIndex="-1",
                        )
                    ),
                ],
                id=_SHELL,
                header={"height": 56},
                navbar=_navbar(False),
                padding="md",
            ),
        ],
        theme=dict(MANTINE),
        defaultColorScheme="auto",
    )


def _navbar(opened: bool) -> dict[str, Any]:
    return {"width": 190, "breakpoint": "sm", "collapsed": {"mobile": not opened}}


def _register(
    app: Dash, sources: Sources, pages: tuple[Page, ...], config: DashboardConfig
) -> None:
    by_path = {page.path: page for page in pages}
    titles = {page.path: f"{page.name} · {config.title}" for page in pages} | {"": config.title}

    @app.callback(
        Output(_PAGE, "children"),
        Output(NOTICE, "children"),
        Output(_BURGER, "opened"),
        Input(_LOCATION, "pathname"),
        State(_LOCATION, "search"),
    )
    def show(path: str | None, search: str | None) -> tuple[Component, None, bool]:
        """The page of an address; on a phone the navigation closes."""
        page = by_path.get(path or "/")
        if page is None:
            return _nowhere(path or "", pages), None, False
        try:
            return page.layout(sources, read_query(search)), None, False
        except GearshiftError as error:
            return error_card(error), None, False

    @app.callback(Output(_SHELL, "navbar"), Input(_BURGER, "opened"))
    def open_navigation(opened: bool | None) -> Mapping[str, Any]:
        return _navbar(bool(opened))

    app.clientside_callback(
        _SET_TITLE % json.dumps(titles).replace("<", "\\u003c"), Input(_LOCATION, "pathname")
    )
    # Until it is pressed, the switch may report light where the system asks for dark.
    app.clientside_callback(
        _INITIAL_SCHEME, Output(SCHEME, "computedColorScheme"), Input(_LOCATION, "pathname")
    )
    app.clientside_callback(
        _REPORT_SCHEME, Output(SCHEME, "computedColorScheme"), Input(_LOCATION, "pathname")
    )
    register_saved_views(app)
    app.clientside_callback(_WRITE_ADDRESS, Input({"type": QUERY, "page": ALL}, "data"))


def _nowhere(path: str, pages: tuple[Page, ...]) -> Component:
    return dmc.Stack(
        [
            empty_card("There is no such page", f"Nothing is at {path[:100]}. There are:"),
            dmc.List([dmc.ListItem(dmc.Anchor(page.name, href=page.path)) for page in pages]),
        ]
    )


def _show_failure(error: Exception) -> None:
    """What a callback raised; what is meant for a user is shown, a fault of ours is logged too."""
    if not isinstance(error, GearshiftError):
        _LOG.error("a view failed", exc_info=error)
    show_error(error)
