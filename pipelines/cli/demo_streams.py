"""``gearshift demo streams``: frames through Kafka, with a worker that is killed on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ, PathRole
from pipelines.cli.console import (
    Json,
    Ladder,
    configured_by,
    note,
    notes,
    option,
    progress_bar,
    show,
)

_Out = Annotated[
    Path,
    option("--out", help="Folder of the results and logs."),
    PathRole("workplace", sign=("report.json", '{\n "sent": ')),
]


@configured_by("pipelines.streams.demo:StreamsDemoConfig")
def demo_streams(
    config: Any,
    out: _Out = Path("runs/demo-streams"),
    policy: Annotated[
        Path | None,
        option(help="The policy's ONNX file; small answers every frame without it."),
        READ,
    ] = None,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Send frames of three cameras through Kafka, kill the worker once, and count the answers.

    Starts Apache Kafka where Java 17 and Maven are, or takes the broker that --bootstrap names,
    and Flink where its environment is installed. Ends with what was sent, answered, doubled, lost
    and out of order, and with `report.html`; exit code 1 where a frame is doubled, lost or out of
    order. Needs the extra `streams`.

    Example: `gearshift demo streams --out runs/demo-streams`
    """
    from rich.table import Table

    from pipelines.streams.demo import run_streams_demo
    from pipelines.streams.demo_report import report_of, rows_of, write_streams_report

    out.mkdir(parents=True, exist_ok=True)
    demo = run_streams_demo(config, out.resolve(), policy, ladder, progress_bar, note)
    report = report_of(demo)
    page = write_streams_report(demo, report, out)
    if as_json:
        show(report, as_json)
    else:
        table = Table(show_header=False)
        for name, value in rows_of(report):
            table.add_row(name, value)
        notes.print(table)
        print(f"report: {page}")
    if report["doubled"] or report["lost"] or report["out_of_order"]:
        raise SystemExit(1)
