"""Tables of many rows: sortable, filterable, reachable by keyboard, and downloaded as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_ag_grid
import dash_mantine_components as dmc
from dash import Dash, Input, Output, html
from dash.development.base_component import Component

# In Mantine's own variables, so that a table changes with the scheme without being drawn again.
_THEME = """themeQuartz.withParams({
    backgroundColor: 'var(--mantine-color-body)',
    foregroundColor: 'var(--mantine-color-text)',
    accentColor: 'var(--mantine-primary-color-filled)',
    borderColor: 'var(--mantine-color-default-border)',
    headerBackgroundColor: 'var(--mantine-color-default-hover)',
    browserColorScheme: 'inherit',
    fontFamily: 'inherit',
    fontSize: 13,
    wrapperBorderRadius: 8,
})"""


def plain_table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    cells: str | None = None,
    narrow: bool = False,
) -> Component:
    """A table of few rows; the first cell of each is its heading.

    Args:
        head: of the columns.
        rows: their cells.
        cells: CSS class of all but the first.
        narrow: whether it stands beside something else.
    """
    body = [
        dmc.TableTr(
            [html.Th(row[0], scope="row", className="row-head")]
            + [dmc.TableTd(cell, className=cells) for cell in row[1:]]
        )
        for row in rows
    ]
    titles = dmc.TableThead(dmc.TableTr([dmc.TableTh(name) for name in head]))
    table = dmc.Table(
        [titles, dmc.TableTbody(body)],
        verticalSpacing=4 if narrow else 6,
        horizontalSpacing="xs",
        tabularNums=True,
        fz="sm",
    )
    return dmc.TableScrollContainer(table, minWidth=300 if narrow else 480, type="native")


def number_column(field: str, name: str, form: str, **options: Any) -> dict[str, Any]:
    """A column of numbers; a missing one is shown as a dash, and the CSV holds them unrounded.

    Args:
        field: key of the rows.
        name: heading.
        form: as d3-format writes it, ``.1%`` for example.
        options: further properties of AG Grid's column.
    """
    return {
        "field": field,
        "headerName": name,
        "type": "rightAligned",
        "valueFormatter": {
            "function": f"params.value == null ? '–' : d3.format('{form}')(params.value)"
        },
        "useValueFormatterForExport": False,
        "width": 105,
        **options,
    }


def grid(
    name: str,
    label: str,
    columns: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]] | None,
    *,
    file_name: str,
    row_id: str = "key",
    **options: Any,
) -> Component:
    """A table that is as high as its rows.

    Args:
        name: its id.
        label: what it holds; read to screen readers.
        columns: AG Grid's columns.
        rows: one mapping per row; None where they stay on the server, and a callback answers the
            table's ``getRowsRequest`` with those it shows. The server sorts then, and the CSV is
            the page's to make.
        file_name: of the CSV.
        row_id: field that identifies a row.
        options: further options of AG Grid.
    """
    table = dash_ag_grid.AgGrid(
        id=name,
        columnDefs=list(columns),
        **({"rowModelType": "infinite"} if rows is None else {"rowData": list(rows)}),
        getRowId=f"params.data.{row_id}",
        defaultColDef={"sortable": True, "resizable": True, "suppressMovable": True},
        csvExportParams={"fileName": file_name},
        dashGridOptions={
            "theme": {"function": _THEME},
            "domLayout": "autoHeight",
            "animateRows": False,
            "ensureDomOrder": True,
            "suppressColumnVirtualisation": True,
            **options,
        },
        style={"height": None},
    )
    return html.Div(table, role="region", **{"aria-label": label})


def csv_button(table: str) -> Component:
    """The button that downloads a table; needs ``register_csv``."""
    return dmc.Button("Download CSV", id=f"{table}-csv", size="xs", variant="default")


def register_csv(app: Dash, table: str) -> None:
    """Let the button of a table work."""
    app.clientside_callback(
        "function(clicks) { return Boolean(clicks); }",
        Output(table, "exportDataAsCsv"),
        Input(f"{table}-csv", "n_clicks"),
        prevent_initial_call=True,
    )
