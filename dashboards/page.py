"""What a page is: a path, a name, an icon, a layout and its callbacks.

``layout(sources, query)`` makes the page's content whenever its address is opened. ``query`` holds
the address's query string; every view state stands there, so that an address restores the view::

    /explore?from=2026-11-21T10:00&to=2026-11-21T12:00&session=robot-7&rung=large

Times are ISO 8601 in UTC; several values of one name are separated by commas; what stands at its
default is left out; an unknown or broken value is ignored. Where a view is changed, a callback of
the page puts the new query into its store (``parts.query_store``), and the shell writes that to the
address without a reload.

``register(app, sources)`` registers the page's callbacks. A callback that raises a
``GearshiftError`` needs to do nothing more: the shell shows its message above the page. A layout
that raises one is replaced by the message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dash import Dash
from dash.development.base_component import Component

from dashboards.sources import Sources


@dataclass(frozen=True)
class Page:
    """One page of the dashboard.

    Attributes:
        path: of its address; "/" is the first page.
        name: in the navigation and in the window's title.
        icon: class of the picture beside it, ``icon-<icon>`` in ``assets/gearshift.css``.
        layout: makes its content from the sources and the address's query.
        register: registers its callbacks, once.
    """

    path: str
    name: str
    icon: str
    layout: Callable[[Sources, Mapping[str, str]], Component]
    register: Callable[[Dash, Sources], None]
