"""``gearshift demo drift``: the world changes, and the platform mends itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.cli.console import (
    Json,
    Ladder,
    Settings,
    Workplace,
    configured_by,
    note,
    progress_bar,
    read_settings,
    show,
)


@configured_by("pipelines.drift.demo:DriftDemoConfig")
def demo_drift(
    config: Any,
    out: Workplace = Path("runs/demo-drift"),
    ladder: Ladder = "",
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Stream day, then rain: drift is found, a policy is trained and takes over meanwhile.

    A policy that has only seen day serves one stream that never pauses. The drift check reads the
    prediction log; when drift hurts, a challenger learns from the day's data and the log's new
    frames, and takes over in the running gateway if it is better. The same new clips before and
    after show what that was worth. `report.html` has it over time. Nothing is staged: where no
    harm is found, or the challenger is refused, the report states it.

    Example: `gearshift demo drift --condition rain --out runs/demo-drift`
    """
    from components.data.classes import Classes
    from components.profiling.rungs import InferenceConfig, open_rung
    from inference_graph.contract import LADDER
    from pipelines.cli.step_display import step_display
    from pipelines.drift.demo import run_drift_demo
    from pipelines.drift.demo_report import headline, report_of, write_demo_report
    from pipelines.ladder_files import ladder_files

    demo = run_drift_demo(
        config, out, ladder, read_settings(settings), progress_bar, step_display, note
    )
    rung = open_rung(LADDER[0], ladder_files(ladder)[LADDER[0]], InferenceConfig())
    report = report_of(demo, config.condition, Classes.of(rung))
    page = write_demo_report(report, out)
    if as_json:
        show(report, as_json)
    else:
        print(headline(report))
        print(f"report: {page}")
