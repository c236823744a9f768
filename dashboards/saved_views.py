"""Views that a reader keeps under a name: addresses, in the browser's own storage."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc
from dash.development.base_component import Component

_STORE, _CHOSEN, _SAVE = "saved-views", "saved-views-chosen", "saved-views-save"

_CHANGE = """function(clicks, chosen, kept) {
    const nothing = window.dash_clientside.no_update;
    const by = window.dash_clientside.callback_context.triggered_id;
    const views = Object.assign({}, kept);
    if (by === 'saved-views-save' && clicks) {
        const name = (window.prompt('Name of this view', document.title) || '').trim();
        if (!name) { return [nothing, nothing]; }
        views[name] = window.location.pathname + window.location.search;
        return [views, null];
    }
    if (by !== 'saved-views-chosen' || !chosen) { return [nothing, nothing]; }
    const name = chosen.slice(chosen.indexOf(':') + 1);
    if (chosen.startsWith('remove:')) {
        delete views[name];
        return [views, null];
    }
    // An address of this dashboard begins with one slash; two would lead elsewhere.
    if (/^\\/(?!\\/)/.test(views[name] || '')) { window.location.assign(views[name]); }
    return [nothing, null];
}"""
_LIST = """function(kept) {
    const names = Object.keys(kept || {}).sort();
    const group = (title, verb) => ({group: title,
        items: names.map(name => ({value: verb + ':' + name, label: name}))});
    return names.length ? [group('Open', 'open'), group('Remove', 'remove')] : [];
}"""


def saved_views() -> list[Component]:
    """A field to open or remove a saved view, and a button to save the present one."""
    return [
        dcc.Store(id=_STORE, storage_type="local"),
        dmc.Select(
            id=_CHOSEN,
            data=[],
            placeholder="Saved views",
            size="xs",
            w=150,
            ml="auto",
            nothingFoundMessage="None yet",
            visibleFrom="sm",
            **{"aria-label": "Saved views"},
        ),
        dmc.Button("Save view", id=_SAVE, variant="default", size="xs", visibleFrom="sm"),
    ]


def register_saved_views(app: Dash) -> None:
    """Their callbacks, which run in the browser."""
    app.clientside_callback(
        _CHANGE,
        Output(_STORE, "data"),
        Output(_CHOSEN, "value"),
        Input(_SAVE, "n_clicks"),
        Input(_CHOSEN, "value"),
        State(_STORE, "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(_LIST, Output(_CHOSEN, "data"), Input(_STORE, "data"))
