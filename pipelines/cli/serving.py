"""``gearshift up``, ``stream``, ``route`` and ``dashboard``: frames served and watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ, RESULT_FILE
from pipelines.cli.console import (
    Json,
    Ladder,
    announcing,
    argument,
    configured_by,
    notes,
    option,
    progress_bar,
    show,
)


@configured_by("inference_graph.local_video.route:RouteVideoConfig")
def route(
    config: Any,
    video: Annotated[str, argument(help="Video file, camera number, or rtsp:// URL."), READ],
    policy: Annotated[Path | None, option(help="The policy's ONNX file."), READ] = None,
    answers: Annotated[Path | None, option(help="The same as --records."), RESULT_FILE] = None,
    out: Annotated[Path | None, option(help="The annotated video (.mp4)."), RESULT_FILE] = None,
    ladder: Ladder = "",
    as_json: Annotated[
        bool, option("--json", help="Print one JSON line per frame, and nothing else.")
    ] = False,
) -> None:
    """Route a video frame by frame, and draw what each chosen detector saw.

    Ctrl-C ends it with what was routed until then; a camera ends in no other way.

    Example: `gearshift route street.mp4 --policy runs/demo/policy.onnx --out routed.mp4 --json`
    """
    import json
    from dataclasses import replace

    from inference_graph.local_video.route import route_video
    from pipelines.cli.interrupts import until_interrupted
    from pipelines.ladder_files import ladder_files

    if answers is not None:
        config = replace(config, records=answers)

    def print_line(record: Any) -> None:
        print(json.dumps(record, separators=(",", ":")))

    with until_interrupted(raising=False) as stop, progress_bar("frames") as progress:
        summary = route_video(
            video,
            policy,
            ladder_files(ladder),
            out,
            config,
            progress,
            print_line if as_json else None,
            stop,
        )
    if not as_json:
        show(summary, as_json)
    elif summary.lost:
        notes.print(f"{video}: {summary.lost} frames could not be read", markup=False)
    if stop.is_set():
        raise KeyboardInterrupt


@configured_by("dashboards.config:DashboardConfig")
def dashboard(config: Any, as_json: Json = False) -> None:
    """Show where frames go, what that saves and what accuracy it costs, in a browser.

    It reads the prediction log, the runs and MLflow, and writes nothing, unless `--reviewer NAME`
    names whose decisions on feedback it keeps. The log may be growing, or not be there yet.
    Needs the extra `dashboard`; ends with Ctrl-C.

    Example: `gearshift dashboard --log runs/up/log --runs runs/demo`
    """
    from dashboards.config import check_installed

    check_installed()
    from dashboards.app import serve_dashboard

    serve_dashboard(config, announcing("dashboard", as_json))


@configured_by("pipelines.cli.platform_display:PlatformOptions")
def up(config: Any, as_json: Json = False) -> None:
    """Start every service of the manifests on this machine, the graph and the gateway.

    It shows how each of them is until Ctrl-C, which stops them all. Logs lie in the state folder.
    Each stream session becomes an MLflow run soon after its end; `--experiment ""` records none.
    With `--monitoring` a Prometheus watches all of it, and its alerts go to the webhooks that
    `gearshift notify test` knows.

    Example: `gearshift up --policy runs/demo/policy.onnx --open-access`
    """
    from dataclasses import replace

    from pipelines.cli.platform_display import run_platform
    from pipelines.ladder_files import ladder_folder

    if config.ladder is not None:
        config = replace(config, ladder=ladder_folder(config.ladder))
    run_platform(config, as_json)


@configured_by("inference_graph.clients.stream:StreamOptions")
def stream(
    config: Any,
    source: Annotated[str, argument(help="Video file, camera number, or rtsp:// URL."), READ],
    to: Annotated[str, option(help="URL of the gateway.")] = "http://127.0.0.1:8600",
    access_token: Annotated[
        str, option("--token", envvar="GEARSHIFT_TOKEN", help="Access token.")
    ] = "",
    answers: Annotated[
        Path | None,
        option(help="File for the answers, one JSON object per line."),
        RESULT_FILE,
    ] = None,
    tag: Annotated[
        list[str] | None, option(metavar="NAME=VALUE", help="Kept in the log; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Stream a video, a camera or a network stream to a gateway.

    Example: `gearshift stream street.mp4 --to http://127.0.0.1:8600 --answers answers.jsonl`
    """
    from pipelines.cli.platform_display import stream_to

    summary = stream_to(source, to, access_token or None, config, tag or (), answers)
    show(summary, as_json)
