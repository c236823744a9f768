"""``gearshift bundle`` and ``gearshift edge``: a device that works without a network."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import KEPT_FOLDER, READ, RESULT_FILE
from pipelines.cli.answers_file import answers_file
from pipelines.cli.console import (
    Json,
    Ladder,
    argument,
    configured_by,
    group,
    note,
    option,
    progress_bar,
    show,
)
from pipelines.cli.interrupts import until_interrupted

edge = group("A device without a network: route its frames, sync its log later.")

Token = Annotated[
    str, option("--token", envvar="GEARSHIFT_TOKEN", help="Access token of the role sync.")
]
_LOG = Path("runs/edge")


@configured_by("inference_graph.control.edge.config:EdgeConfig")
def bundle(
    config: Any,
    out: Annotated[Path, option("--out", help="The bundle, a tar."), RESULT_FILE] = Path(
        "edge.tar"
    ),
    policy: Annotated[
        Path | None, option(help="The policy's ONNX file; left out with --always."), READ
    ] = None,
    ladder: Ladder = "",
    private_key: Annotated[
        Path | None, option("--key", envvar="GEARSHIFT_KEY", help="NAME.key that signs it."), READ
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack policy, ladder, configuration and digests into one file for a device.

    The same inputs give the same bytes. Policy and rungs are loaded once before they are packed.

    Example: `gearshift bundle --policy runs/demo/policy.onnx --log-mb 512 --out edge.tar`
    """
    from foundation.audit_log import audit_of_environment, operator
    from inference_graph.control.edge.bundle import write_bundle
    from pipelines.ladder_files import ladder_files

    written = write_bundle(out, policy, ladder_files(ladder), config, private_key)
    if written.signed_by:
        figures = {"sha256": written.sha256, "key_id": written.signed_by}
        audit_of_environment().record(operator(), "bundle.sign", out.name, figures)
    show(written, as_json)


@edge.command()
def run(
    bundle: Annotated[Path, option(help="What gearshift bundle packed."), READ],
    source: Annotated[
        str,
        argument(
            help="Camera number, URL (rtsp://), video or WAV file, or folder of images or WAVs."
        ),
        READ,
    ] = "",
    camera: Annotated[str, option(help="The same as SOURCE."), READ] = "",
    out: Annotated[
        Path, option("--out", help="Folder of the log on this device."), KEPT_FOLDER
    ] = _LOG,
    device: Annotated[str, option(help="Name of this device in the log.")] = "edge",
    session: Annotated[str, option(help="Name of this run; made of device and time.")] = "",
    max_frames: Annotated[int, option(min=0, help="Stop after so many; 0: all.")] = 0,
    always: Annotated[
        str | None, option(help="Use this rung for every frame, whatever the bundle says.")
    ] = None,
    latency_weight: Annotated[
        float | None, option(help="Operating point; the bundle's own without it.")
    ] = None,
    shadow_share: Annotated[
        float | None, option(help="Share of frames that the reference looks at too, 0..1.")
    ] = None,
    image_share: Annotated[
        float | None, option(help="Share of frames kept in the log, 0..1.")
    ] = None,
    confidence: Annotated[
        float | None,
        option(help="Detections below this score are left out; the bundle's own without it."),
    ] = None,
    classes: Annotated[
        str, option(help="Only these classes, by name, separated by commas; all without it.")
    ] = "",
    answers: Annotated[
        Path | None, option(help="File for the answers, one JSON object per line."), RESULT_FILE
    ] = None,
    tag: Annotated[
        list[str] | None, option(metavar="NAME=VALUE", help="Kept with every row; repeatable.")
    ] = None,
    trust: Annotated[
        Path | None,
        option(envvar="GEARSHIFT_TRUST", help="Trust file: the bundle must be signed by a key."),
        READ,
    ] = None,
    sync_to: Annotated[
        str,
        option(help="Sync the log there whenever a network is: a gateway, or a log's place."),
        KEPT_FOLDER,
    ] = "",
    sync_seconds: Annotated[
        float, option(min=1, max=86_400, help="Pause between two syncs.")
    ] = 60.0,
    access_token: Token = "",
    as_json: Annotated[
        bool, option("--json", help="Print one JSON line per answer, and nothing else.")
    ] = False,
) -> None:
    """Check a bundle, then answer a camera's frames in this process; no network is needed.

    Every answer is logged below --out, which grows to the bundle's `log_mb` at most; `edge sync`
    or --sync-to brings it to the platform. Ends with the source, Ctrl-C or SIGTERM.

    Example: `gearshift edge run street.mp4 --bundle edge.tar --out runs/edge`
    """
    import json
    from dataclasses import replace

    from foundation.command_line import read_pairs
    from foundation.errors import ConfigurationError
    from inference_graph.control.edge.bundle import read_bundle
    from inference_graph.control.edge.run import EdgeRun, run_edge
    from inference_graph.control.edge.sync import SyncWorker, open_target

    tags = read_pairs(tag or (), "tag")
    if bool(source) == bool(camera):
        raise ConfigurationError("give one source of frames: SOURCE or --camera")
    packed = read_bundle(bundle, trust)
    chosen = {
        "always": always,
        "latency_weight": latency_weight,
        "answer_confidence": confidence,
        "shadow_share": shadow_share,
        "image_share": image_share,
    }
    changed: dict[str, Any] = {name: one for name, one in chosen.items() if one is not None}
    packed = replace(packed, config=replace(packed.config, **changed))
    by = f", signed by {packed.signed_by}" if packed.signed_by else ""
    note(f"bundle {packed.revision}{by}: every digest is as listed")
    given = EdgeRun(device, session or None, max_frames or None, tags, classes)

    with contextlib.ExitStack() as stack:
        keep = stack.enter_context(answers_file(answers, note)) if answers is not None else None

        def on_answer(record: Any) -> None:
            line = json.dumps(record, separators=(",", ":"))
            if as_json:
                print(line, flush=True)
            if keep is not None:
                keep(line)

        stop = stack.enter_context(until_interrupted(raising=False))
        sync_worker = None
        if sync_to:
            target = open_target(sync_to, out, access_token or None)
            sync_worker = stack.enter_context(SyncWorker(out, target, sync_seconds, note))
        summary = run_edge(packed, source or camera, out, given, stop, on_answer, note)
        if sync_worker is not None:
            sync_worker.once()  # what the end of the run has closed
        if not as_json:
            show(summary, as_json)
        if summary.rows_lost:
            note(
                f"warning: {summary.rows_lost} answers are not in the log at {out}, for it or the "
                "disk was full; sync it, or pack the bundle with a larger --log-mb"
            )


@edge.command()
def sync(
    to: Annotated[
        str,
        option(help="A gateway (http://), or the place of its log: s3://, a folder."),
        KEPT_FOLDER,
    ],
    log: Annotated[Path, option(help="Folder of the log on this device."), KEPT_FOLDER] = _LOG,
    access_token: Token = "",
    as_json: Json = False,
) -> None:
    """Bring a device's log to the platform; what is there is removed here, and nothing else is.

    It may be broken off and begun again at any point: nothing is lost, and nothing comes twice.
    What a run is writing just now follows with the next sync.

    Example: `gearshift edge sync --log runs/edge --to https://gearshift.example`
    """
    from inference_graph.control.edge.sync import open_target, sync_log

    with progress_bar("files") as progress:
        summary = sync_log(log, open_target(to, log, access_token or None), progress)
    show(summary, as_json)
    aside = summary.set_aside(log)
    if aside is not None:
        note(aside)


@edge.command("check")
def check_(
    file: Annotated[Path, argument(help="The bundle."), READ],
    trust: Annotated[
        Path | None,
        option(envvar="GEARSHIFT_TRUST", help="Trust file it must be signed for."),
        READ,
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every byte of a bundle, as `edge run` does before it begins.

    Example: `gearshift edge check edge.tar --trust trust.json`
    """
    from inference_graph.control.edge.bundle import read_bundle

    found = read_bundle(file, trust)
    shown = {"revision": found.revision, "signed_by": found.signed_by, "config": found.config}
    show(shown | {"files": {name: len(data) for name, data in found.files.items()}}, as_json)
