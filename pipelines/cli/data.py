"""``gearshift data`` and ``gearshift scenes``: data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import KEPT_FOLDER, READ, RESULT_FILE, PathRole
from pipelines.cli.console import (
    Json,
    Ladder,
    OutFile,
    OutFolder,
    Settings,
    argument,
    configured_by,
    group,
    option,
    progress_bar,
    read_settings,
    show,
)

data = group("Data sets: read, examine, divide and version them.")

_SOURCE_HELP = (
    "Folder in COCO's, Ultralytics', Pascal VOC's, Open Images', MOT's or CVAT's format, zip of "
    "one, its URL, a bucket's prefix (s3://, gs://), or STORE@VERSION; `coco2017`: COCO's val2017, "
    "fetched once."
)
_VERSION_HELP = "its id or the first letters of it, `latest`, a .dvc file, or a data set's SHA-256"


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
        argument(help=_SOURCE_HELP),
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
@configured_by("components.data.shards.prepare:PrepareConfig")
def prepare(
    config: Any,
    source: Annotated[str, argument(help=_SOURCE_HELP), READ],
    out: Annotated[
        Path,
        option("--out", help="Folder of the results; unchanged ones are not made again."),
        PathRole("workplace"),
    ],
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Run every data stage on a source of any size, in processes, and go on after a kill.

    Leaves `dataset`, `yolo`, `split.json`, `observations.npz` and `report` in --out; with --store,
    a version, too. `--set` takes options of the stages validate and split.

    Example: `gearshift data prepare data/coco --out prepared --shards 2 --set split.test=0.3`
    """
    from components.data.shards.prepare import StageOptions
    from components.data.shards.prepare import prepare as run
    from components.data.split import SplitConfig
    from components.data.validate import ValidateConfig
    from foundation.errors import ConfigurationError
    from pipelines.options import build
    from pipelines.versions import code_version

    given = read_settings(settings)
    if others := given.keys() - {"validate", "split"}:
        raise ConfigurationError(f"--set {min(others)}: give options of validate or split")
    options = StageOptions(
        split=build(SplitConfig, given.get("split", {}), "split"),
        validate=build(ValidateConfig, given.get("validate", {}), "validate"),
    )
    with progress_bar("shards") as progress:
        summary = run(source, out, config, options, code_version(), progress)
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
@configured_by("components.data.report:ReportConfig")
def report(
    config: Any,
    dataset: Annotated[Path, argument(help="Folder that ingest or scenes made."), READ],
    out: OutFile,
    validation: Annotated[
        Path | None,
        option(help="Folder of `gearshift data validate`; examined anew without."),
        READ,
    ] = None,
    split: Annotated[Path | None, option(help="Result of `gearshift data split`."), READ] = None,
    earlier: Annotated[
        str | None,
        option(help=f"Data set folder to compare with; with --store a version: {_VERSION_HELP}."),
        READ,
    ] = None,
    store: Annotated[
        str, option(help="Folder or bucket (s3://, gs://) of the versions."), READ
    ] = "",
    as_json: Json = False,
) -> None:
    """Write a page about a data set: pictures, anomalies, slices, the split, another version.

    Example: `gearshift data report data/coco128 --split data/coco128-split.json --out report.html`
    """
    from components.data.dataset import load_dataset
    from components.data.report import write_report
    from components.data.versions import open_version

    before = None
    if earlier is not None:
        before = open_version(store, earlier) if store else load_dataset(Path(earlier))
    with progress_bar("images") as progress:
        summary = write_report(dataset, out, validation, split, before, config, progress)
    show(summary, as_json)


Store = Annotated[
    str, option("--store", help="Folder or bucket (s3://, gs://) of the versions."), KEPT_FOLDER
]


@data.command()
def version(
    dataset: Annotated[Path, argument(help="Folder that ingest or scenes made."), READ],
    store: Store,
    message: Annotated[str, option("--message", "-m", help="Why there is a new version.")] = "",
    as_json: Json = False,
) -> None:
    """Store a version of a data set, each content once, and write DATASET.dvc beside it.

    The store is a remote of DVC 3: `dvc pull` reads it, too.

    Example: `gearshift data version data/coco128 --store s3://vision/versions -m "night frames"`
    """
    from components.data.versions import make_version

    with progress_bar("files") as progress:
        summary = make_version(dataset, store, message, progress)
    show(summary, as_json)


@data.command()
def log(store: Store, as_json: Json = False) -> None:
    """List the versions of a store, the oldest first.

    Example: `gearshift data log --store s3://vision/versions`
    """
    from components.data.versions import versions_in

    versions = versions_in(store)
    show(versions, as_json)


@data.command()
def diff(
    first: Annotated[str, argument(help=f"The earlier version: {_VERSION_HELP}.")],
    second: Annotated[str, argument(help="The later one.")],
    store: Store,
    as_json: Json = False,
) -> None:
    """Report what a version has more, less, or otherwise than another.

    Example: `gearshift data diff 3f2a latest --store s3://vision/versions`
    """
    from components.data.versions import compare_versions

    show(compare_versions(store, first, second), as_json)


@data.command()
def checkout(
    version: Annotated[str, argument(help=f"{_VERSION_HELP}.")],
    store: Store,
    out: OutFolder,
    as_json: Json = False,
) -> None:
    """Write the files of a version into a folder, each compared with its hash.

    Example: `gearshift data checkout latest --store s3://vision/versions --out data/coco128`
    """
    from components.data.versions import check_out

    with progress_bar("files") as progress:
        found = check_out(store, version, out, progress)
    show(found, as_json)


@data.command()
def schema(as_json: Json = False) -> None:
    """Print the JSON Schema of annotation files that ingest checks, with its further rules.

    Example: `gearshift data schema > coco.schema.json`
    """
    from components.data.coco_schema import annotation_schema
    from components.data.violations import RULES

    show(annotation_schema(RULES), as_json=True)
