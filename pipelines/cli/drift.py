"""``gearshift drift``: have frames, answers or accuracy moved from what the policy knows?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ, PathRole
from inference_graph.control.drift_state import STATE_FILE
from pipelines.cli.console import (
    Json,
    Ladder,
    Settings,
    checked_source,
    configured_by,
    group,
    note,
    notes,
    option,
    read_settings,
    show,
)

drift = group("Drift: whether what the policy sees has changed, and whether that hurts.")

FOUND = 3
"""Exit code where drift was asked about by it: `--fail-on`, and `drift watch`."""

Out = Annotated[
    Path,
    option("--out", help="Folder of report and state; the next check replaces them."),
    PathRole("workplace", shared_by="drift check", sign=(STATE_FILE, '{\n "decision": ')),
]
Log = Annotated[str, option(help="Prediction log: a folder, s3:// or gs://."), READ]
Reference = Annotated[
    str,
    option(
        help="reference.parquet that a pipeline run leaves beside its policy, the run's folder, "
        "or a prediction log."
    ),
    READ,
]
Champion = Annotated[str, option(help="The policy in use; a challenger has to beat it."), READ]
Data = Annotated[
    str,
    option(
        help="What it was trained on, where it does not lie in the folder of its run.",
        callback=checked_source,
    ),
    READ,
]


@drift.command()
@configured_by("components.drift.check:CheckOptions")
def check(
    config: Any,
    log: Log = "runs/up/log",
    reference: Reference = "runs/demo",
    reference_since: Annotated[
        str, option(help="With a log as reference: from this time on, ISO 8601.")
    ] = "",
    reference_until: Annotated[str, option(help="With a log as reference: before this time.")] = "",
    out: Out = Path("runs/drift"),
    fail_on: Annotated[
        str, option(help="Exit with 3 on `retrain` (drift that hurts) or on `watch` (any drift).")
    ] = "",
    as_json: Json = False,
) -> None:
    """Compare a window of the prediction log with what the policy was trained on.

    Reports no drift, harmless drift (watch), harmful drift (retrain) or too little data, and names
    the evidence. Frames of a stream resemble each other, so only those far enough apart count:
    a window needs some tens of different scenes. Leaves report.html, report.json and state.json,
    which the dashboard's Health page shows.

    Example: `gearshift drift check --log runs/up/log --reference runs/demo --hours 24`
    """
    from components.drift.check import Compared, check_drift
    from foundation.errors import ConfigurationError

    failing = {"": (), "retrain": ("retrain",), "watch": ("watch", "retrain")}
    if fail_on not in failing:
        raise ConfigurationError(f"fail-on is {fail_on!r}; give retrain or watch")
    compared = Compared(reference, reference_since, reference_until)
    state = check_drift(log, compared, config.window, out, config.drift, say=note)
    _print_state(state, out, as_json)
    if state.decision in failing[fail_on]:
        raise SystemExit(FOUND)


@drift.command()
@configured_by("components.drift.check:CheckOptions")
def run(
    config: Any,
    log: Log = "runs/up/log",
    reference: Reference = "runs/demo",
    champion: Champion = "runs/demo/policy.onnx",
    data: Data = "",
    ladder: Ladder = "",
    settings: Settings = None,
    out: Out = Path("runs/drift"),
    as_json: Json = False,
) -> None:
    """Run the drift pipeline on this machine: check, and retrain if drift hurts.

    Example: `gearshift drift run --log runs/up/log --reference runs/demo --hours 24`
    """
    from pipelines.cli.step_display import step_display
    from pipelines.drift.run import WatchedLog, run_monitoring

    watched = WatchedLog(log, reference, champion, data, ladder, training=read_settings(settings))
    with step_display() as on_event:
        result = run_monitoring(watched, config.window, config.drift, out, on_event)
    notes.print(result.outcome, markup=False, soft_wrap=True)
    _print_state(result.state, out, as_json)


@drift.command()
@configured_by("components.drift.watch:WatchConfig")
def watch(
    config: Any,
    log: Log = "runs/up/log",
    reference: Reference = "runs/demo",
    as_json: Json = False,
) -> None:
    """Follow the log and report when its frames begin to differ; needs the extra `drift`.

    Without drift it raises a false alarm once in `--expected-run` independent frames. Prints a
    line per alarm (with `--json` an object) and ends with exit code 3 at the first one, unless
    set to keep going.

    Example: `gearshift drift watch --log runs/up/log --reference runs/demo --json`
    """
    import json

    from components.drift.discrepancy import check_alibi_detect
    from components.drift.reference import load_reference
    from components.drift.watch import watch_log

    check_alibi_detect("gearshift drift watch")

    def show_event(event: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(event), flush=True)
        elif event["event"] == "drift":
            print(
                f"{event['time']} drift in {event['stream']}: statistic {event['statistic']:.4f}, "
                f"threshold {event['threshold']:.4f}, after {event['looked']} independent frames",
                flush=True,
            )
        else:
            notes.print(
                f"watching {event['log']}; one frame of {event['spacing']} counts, a false alarm "
                f"is due every {event['expected_run']} of them"
            )

    notes.print("setting thresholds")
    found = watch_log(log, load_reference(reference), config, show_event)
    notes.print(f"{found.rows} answers, {found.looked} independent, {found.alarms} alarms")
    if found.alarms:
        raise SystemExit(FOUND)


@drift.command()
@configured_by("pipelines.drift.schedule:ScheduleConfig")
def schedule(
    config: Any,
    log: Log,
    reference: Reference,
    champion: Champion = "",
    data: Data = "",
    results: Annotated[str, option(help="Folder for state and report, for the dashboard.")] = "",
    token: Annotated[
        str, option(envvar="GEARSHIFT_KFP_TOKEN", help="Bearer token of the API.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Let Kubeflow run the drift pipeline every six hours; replaces an earlier schedule.

    Without Kubeflow, `manifests/drift` holds a plain CronJob.

    Example: `gearshift drift schedule --host http://127.0.0.1:8888 --log s3://vision/log
    --reference s3://vision/policy/reference.parquet`
    """
    from pipelines.drift.schedule import schedule_monitoring
    from pipelines.versions import code_version

    arguments = {
        "log": log,
        "reference": reference,
        "champion": champion,
        "data": data,
        "results_folder": results,
        "code_version": code_version(),
    }
    show(schedule_monitoring(config, arguments, token or None), as_json)


def _print_state(state: Any, out: Path, as_json: bool) -> None:
    if as_json:
        from inference_graph.control.drift_state import state_content

        show(state_content(state), as_json)
        return
    print(state.sentence)
    for line in state.evidence:
        print(f"- {line}")
    print(f"report: {out / state.report}")
