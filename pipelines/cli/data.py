"""``gearshift data`` and ``gearshift scenes``: data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ, RESULT_FILE
from pipelines.cli.console import (
    Json,
    Ladder,
    OutFile,
    OutFolder,
    argument,
    configured_by,
    group,
    option,
    progress_bar,
    show,
)

data = group("Data sets: read, examine and divide them.")


@configured_by("components.scenes.writer:ScenesConfig")
def scenes(config: Any, out: OutFolder, as_json: Json = False) -> None:
    """Render sample street scenes with COCO annotations.

    Example: `gearshift scenes --frames 200 --clips 5 --condition rain --out scenes`
    """
    from components.scenes.writer import write_scenes

    with progress_bar("frames") as progress:
        summary = write_scenes(config, out, progress)
    show(summary, as_json)


@data.command()
@configured_by("components.data.ingest:IngestConfig")
def ingest(
    config: Any,
    source: Annotated[
        str,
        argument(
            help="COCO-format folder, or Ultralytics' data.yaml, its zip or its URL; `coco2017`: "
            "COCO's val2017, fetched once."
        ),
        READ,
    ],
    out: OutFolder,
    violations: Annotated[
        Path | None, option(help="File for every violation, one JSON object a line."), RESULT_FILE
    ] = None,
    as_json: Json = False,
) -> None:
    """Read COCO-format data into a canonical data set folder, checking everything once.

    Downloads are kept in the cache, resume where they broke off, and for coco2017 can come from
    a mirror (`--coco-address`, or $GEARSHIFT_COCO_ADDRESS).

    Examples: `gearshift data ingest coco128.zip --out data/coco128 --on-invalid drop` and
    `gearshift data ingest coco2017 --limit 500 --out data/coco500`
    """
    from components.data.ingest import ingest as run

    with progress_bar("images") as progress:
        summary = run(source, out, config, progress, violations)
    show(summary, as_json)


@data.command()
@configured_by("components.data.validate:ValidateConfig")
def validate(
    config: Any,
    dataset: Annotated[Path, argument(help="Folder that ingest or scenes made."), READ],
    out: OutFolder,
    ladder: Ladder = "",
    detections: Annotated[
        Path | None,
        option(help="Profile of a rung on this data set, to hold labels against."),
        READ,
    ] = None,
    reference: Annotated[
        Path | None, option(help="Earlier data set folder, to hold categories against."), READ
    ] = None,
    as_json: Json = False,
) -> None:
    """Examine a data set: refuse what is useless, report what is odd.

    Example: `gearshift data validate data/coco128 --out data/coco128-report`
    """
    from components.data.classes import Classes
    from components.data.validate import validate as run
    from components.profiling.detections import load_detections
    from components.profiling.rungs import InferenceConfig, open_rung
    from inference_graph.contract import LADDER
    from pipelines.ladder_files import ladder_files

    rung = open_rung(LADDER[0], ladder_files(ladder)[LADDER[0]], InferenceConfig())
    seen = None if detections is None else load_detections(detections)
    with progress_bar("images") as progress:
        summary = run(dataset, out, config, Classes.of(rung), progress, seen, reference)
    show(summary, as_json)


@data.command()
def convert(
    dataset: Annotated[Path, argument(help="Folder that ingest or scenes made."), READ],
    out: OutFolder,
    split: Annotated[Path | None, option(help="Result of `gearshift data split`."), READ] = None,
    as_json: Json = False,
) -> None:
    """Write a data set in Ultralytics' format; `gearshift data ingest` reads it back.

    Example: `gearshift data convert data/coco128 --split data/coco128-split.json --out data/yolo`
    """
    from components.data.yolo import convert_to_yolo

    with progress_bar("images") as progress:
        summary = convert_to_yolo(dataset, out, split, progress)
    show(summary, as_json)


@data.command()
@configured_by("components.data.split:SplitConfig")
def split(
    config: Any,
    dataset: Annotated[Path, argument(help="Folder that ingest or scenes made."), READ],
    out: OutFile,
    as_json: Json = False,
) -> None:
    """Divide a data set by clips into training, validation and test parts.

    Example: `gearshift data split data/coco128 --out data/coco128-split.json --test 0.3
    --validation 0.1 --train 0.6`
    """
    from components.data.split import split as run

    show(run(dataset, out, config), as_json)


@data.command()
def schema() -> None:
    """Print the JSON Schema of annotation files that ingest checks, with its further rules.

    Example: `gearshift data schema > coco.schema.json`
    """
    import json

    from components.data.coco_schema import annotation_schema
    from components.data.violations import RULES

    print(json.dumps(annotation_schema(RULES), indent=1))
