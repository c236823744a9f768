"""``gearshift ladder``: the detectors trained, exported, resized, described."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from foundation.path_roles import KEPT_FOLDER, READ, PathRole
from pipelines.cli.console import (
    Json,
    Ladder,
    OutFile,
    argument,
    configured_by,
    group,
    notes,
    option,
    progress_bar,
    progress_bars,
    show,
)

ladder = group("The three detectors: train, export and describe them.")


@ladder.command()
@configured_by("components.ladder.train:LadderTrainConfig")
def train(
    config: Any,
    out: Annotated[
        Path,
        option(help="Folder of the checkpoints; what is there already is gone on with."),
        PathRole("workplace", sign=("nano.pt", "")),
    ],
    cache: Annotated[
        Path | None,
        option(help="Folder for rendered frames, shared by the rungs."),
        KEPT_FOLDER,
    ] = None,
    every: Annotated[
        bool, option("--all", help="All rungs, each at its usual input size; --rung is ignored.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train the sample ladder, or one rung of it; goes on where an interrupted run stopped.

    Example: `gearshift ladder train --all --world streets --out runs/ladder`
    """
    from components.ladder.train import StepReport, train_rung
    from components.ladder.train_all import train_ladder
    from inference_graph.contract import LADDER

    place = cache or out / "frames"
    rungs = LADDER if every else (config.rung,)
    with progress_bars("frames", *rungs) as (rendered, *stepped):
        bars = dict(zip(rungs, stepped, strict=True))

        def on_step(report: StepReport) -> None:
            bars[report.rung](report.step, report.steps)

        run = train_ladder if every else train_rung
        written = run(config, out, place, on_render=rendered, on_step=on_step)
    checkpoints = written if isinstance(written, tuple) else (written,)
    if as_json:
        show({"checkpoints": checkpoints}, as_json)
    else:
        print(*checkpoints, sep="\n")


@ladder.command()
@configured_by("components.ladder.export:ExportConfig")
def export(
    config: Any,
    weights: Annotated[Path, argument(help="Any Ultralytics detection checkpoint (.pt)."), READ],
    out: OutFile,
    classes: Annotated[
        Path | None,
        option(help="YAML: `pedestrian: person` (a COCO class) or `forklift: 91` (an id)."),
        READ,
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a checkpoint, official COCO weights included, to an ONNX file that serves.

    Opening a .pt runs the code it holds, so give only files that you trust. The official three
    need no export by hand: give `--weights coco` where a verb takes a ladder.

    Classes that COCO does not have get categories from 91 on, unless --classes gives another.

    Example: `gearshift ladder export yolov8n.pt --height 640 --width 640 --out ladder/nano.onnx`
    """
    from components.ladder.class_map import ClassMap
    from components.ladder.export import export_rung

    summary = export_rung(weights, out, config, ClassMap.read(classes) if classes else None)
    if summary.outside_coco and classes is None:
        listed = ", ".join(f"{name}: {number}" for name, number in summary.outside_coco.items())
        notes.print(f"not COCO's, so numbered here: {listed}; --classes FILE.yaml gives other ids")
    show(summary, as_json)


@ladder.command()
@configured_by("components.ladder.compare:CompareConfig")
def card(
    config: Any,
    scenes: Annotated[Path, option(help="Held-out scenes, of a seed of their own."), READ],
    ladder: Ladder = "",
    checkpoints: Annotated[
        Path | None, option(help="Folder with <rung>.pt, to compare the exports with."), READ
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the ladder on held-out scenes and write its model card beside the weights.

    Example: `gearshift ladder card --scenes runs/held-out --checkpoints runs/ladder`
    """
    from components.ladder.card import write_card
    from pipelines.ladder_files import SAMPLE_LADDER

    place = Path(ladder) if ladder else SAMPLE_LADDER
    with progress_bar("frames") as progress:
        written = write_card(place, scenes, checkpoints, config, progress)
    if as_json:
        show(written, as_json)
    else:
        print(place / "MODEL_CARD.md")


@ladder.command()
def check(ladder: Ladder = "", as_json: Json = False) -> None:
    """Check the weights against their card: digests, faithful exports, and that each rung pays.

    Accuracy has to rise from rung to rung, overall and on dense scenes, at equal input and as
    served, and no network at another input size may be as accurate as a rung in less time.

    Example: `gearshift ladder check --ladder my-ladder`
    """
    from components.ladder.check import check_ladder
    from pipelines.ladder_files import SAMPLE_LADDER

    place = Path(ladder) if ladder else SAMPLE_LADDER
    check_ladder(place)
    if as_json:
        show({"ladder": place, "valid": True}, as_json)
    else:
        print(f"{place}: as its card says")


@ladder.command()
def resize(
    weights: Annotated[Path, argument(help="ONNX file of `gearshift ladder export`."), READ],
    out: OutFile,
    height: Annotated[int, option(help="Rows that the network looks at, a multiple of 32.")],
    width: Annotated[int, option(help="Columns, likewise.")],
    rung: Annotated[
        Literal["nano", "small", "large"], option(help="Its place in the ladder.")
    ] = "nano",
    as_json: Json = False,
) -> None:
    """Write the same weights at another input size, without their checkpoint.

    A larger input sees smaller objects and takes longer, in proportion to its pixels. Measure the
    ladder again afterwards (`gearshift ladder check`, `gearshift ladder card`), and profile anew.

    Example: `gearshift ladder resize ladder/nano.onnx --height 320 --width 320 --out my/nano.onnx`
    """
    from components.ladder.resize import resize_rung

    show(resize_rung(weights, out, rung, height, width), as_json)


@ladder.command()
@configured_by("components.ladder.clips:ClipsConfig")
def clips(
    config: Any,
    out: Annotated[
        Path,
        option(help="Folder of the clips; a run that was cut off goes on there."),
        PathRole("workplace", sign=("clips.json", '{\n "recipe": '), in_inputs=True),
    ],
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Render clips to learn from, to tune on and to test by, detect them once and store that.

    The three parts have seeds of their own, so no clip is in two of them. Pictures are not stored.
    `gearshift policy judge` reads the folder; make it again when the ladder changes, and with
    another --test-seed for each release.

    Example: `gearshift ladder clips --out runs/clips`
    """
    from components.ladder.clips import store_clips
    from pipelines.ladder_files import ladder_files

    with progress_bar("clips") as progress:
        stored = store_clips(ladder_files(ladder), out, config, progress)
    show(stored, as_json)
