"""All eight stages on this machine: shards in processes, then what needs the whole set.

::

    acquire ─ validate ─┬─ anomalies ─┐
     (each shard)       ├─ convert ───┼─ split ─ report ─ version
                        └─ observe ───┘

Every stage keeps its results below ``work/``, so a run that was killed goes on where it stopped,
and one with an unchanged source and unchanged options does nothing but look. The pipeline of
``pipelines.data`` runs the same functions, a shard in a pod.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from components.data.observe import ObserveConfig
from components.data.report import write_report
from components.data.shards.acquire import ABOUT_FILE, AcquireConfig, acquire, read_about
from components.data.shards.blocks import blocks_in, forget_behind, key_of
from components.data.shards.gather import (
    found_in_blocks,
    join_datasets,
    join_observations,
    join_yolo,
)
from components.data.shards.stages import (
    anomalies_in_blocks,
    convert_blocks,
    observe_blocks,
    validate_blocks,
)
from components.data.split import SplitConfig, split
from components.data.validate import ValidateConfig, validate
from components.data.versions import find_version, make_version
from components.parallel import Progress, no_progress, process_pool, worker_count
from foundation.configuration import configuration
from foundation.path_roles import KeptPlace
from foundation.storage import atomic_path

DATASET, YOLO, SPLIT = "dataset", "yolo", "split.json"
OBSERVATIONS, REPORT, STAMPS = "observations.npz", "report", "work/stamps"
PAGE = "report.html"


@configuration
class PrepareConfig(AcquireConfig):
    """How a data set is prepared; the other attributes are AcquireConfig's.

    Attributes:
        shards: processes; 0 is one per core. What comes of it does not depend on them.
        store: folder or bucket of the versions; no version is made without one.
        message: why there is a new version.
    """

    shards: int = 0
    store: KeptPlace = ""
    message: str = ""


@dataclass(frozen=True)
class PrepareSummary:
    """Result of the preparation.

    Attributes:
        images: pictures in the data set.
        annotations: boxes in it.
        blocks: parts in which it was worked on.
        made: results of blocks that were made in this run, by stage.
        joined: stages of the whole set that ran; the others were as they had been.
        version: id of the version; empty without a store.
    """

    images: int
    annotations: int
    blocks: int
    made: dict[str, int]
    joined: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class StageOptions:
    """Options of the stages behind acquire."""

    split: SplitConfig = field(default_factory=SplitConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)


def prepare(
    source: str,
    out: Path,
    config: PrepareConfig | None = None,
    options: StageOptions | None = None,
    code: str = "",
    progress: Progress = no_progress,
) -> PrepareSummary:
    """Run all stages on a source and leave the data set, its labels, parts and report in ``out``.

    Args:
        source: as ``components.data.ingest.ingest`` takes it.
        out: folder for ``dataset``, ``yolo``, ``split.json``, ``observations.npz``, ``report`` and
            the page ``report.html``; results of blocks are kept in its folder ``work``.
        config: how the source is read and how many processes work.
        options: of the stages behind.
        code: version of the code that runs; results of another one are made anew.
        progress: called with stages of shards done and in all.

    Raises:
        AnnotationError: broken records, or too few; as ``ingest`` and ``validate`` raise.
        ImageError: a picture is missing or damaged.
        StorageError: the disk is full.
    """
    config, options = config or PrepareConfig(), options or StageOptions()
    shards = worker_count(config.shards)
    work = out / "work"
    alone = replace(config, workers=config.workers or max(1, worker_count(0) // shards))
    if shards == 1:
        made = _run_shard(source, work, alone, options, code, 0, 1)
        progress(1, 2)
        summary = _gather(work, out, config, options, code)
        progress(2, 2)
        return replace(summary, made=made)
    made = {}
    with process_pool(shards) as pool:
        running: list[Future[dict[str, int]]] = [
            pool.submit(_run_shard, source, work, alone, options, code, shard, shards)
            for shard in range(shards)
        ]
        for done, future in enumerate(running, 1):
            for stage, count in future.result().items():
                made[stage] = made.get(stage, 0) + count
            progress(done, shards + 1)
    # A process of its own, so that the memory of the shards is free again.
    with process_pool(1) as pool:
        summary = pool.submit(_gather, work, out, config, options, code).result()
    progress(shards + 1, shards + 1)
    return replace(summary, made=made)


def _run_shard(
    source: str,
    work: Path,
    config: PrepareConfig,
    options: StageOptions,
    code: str,
    shard: int,
    shards: int,
) -> dict[str, int]:
    """The stages of one shard; returns the results made, by stage."""
    acquired = acquire(source, work / "acquire", config, shard, shards)
    mine = frozenset(acquired.names)
    validated = work / "validate"
    observing = ObserveConfig(workers=config.workers)
    stages = {
        "acquire": acquired,
        "validate": validate_blocks(work / "acquire", validated, config, code, mine),
        "anomalies": anomalies_in_blocks(
            validated, work / "anomalies", options.validate, code, mine
        ),
        "convert": convert_blocks(validated, work / "convert", code, mine),
        "observe": observe_blocks(validated, work / "observe", observing, code, mine),
    }
    return {stage: one.made for stage, one in stages.items()}


def _gather(
    work: Path, out: Path, config: PrepareConfig, options: StageOptions, code: str
) -> PrepareSummary:
    """The stages of the whole set, each only where its input has changed."""
    about = (work / "validate" / ABOUT_FILE).read_text(encoding="utf-8")
    folders = {stage: [work / stage] for stage in ("validate", "anomalies", "convert", "observe")}
    count = read_about(work / "validate").blocks
    for [folder] in folders.values():
        forget_behind(folder, count)
    keys = {
        stage: key_of(code, *(block.key for block in blocks_in(many)))
        for stage, many in folders.items()
    }
    joined: list[str] = []
    dataset, parts, report = out / DATASET, out / SPLIT, out / REPORT

    def once(stage: str, result: Path, key: str, run: Callable[[], object]) -> None:
        file = out / STAMPS / f"{stage}.json"
        if not (result.exists() and file.is_file() and file.read_text(encoding="utf-8") == key):
            run()
            with atomic_path(file) as stamp:
                stamp.write_text(key, encoding="utf-8")
            joined.append(stage)

    whole = key_of("dataset", keys["validate"], about)
    once("dataset", dataset, whole, lambda: join_datasets(folders["validate"], dataset))
    divided = key_of("split", whole, json.dumps(asdict(options.split)))
    once("split", parts, divided, lambda: split(dataset, parts, options.split))
    labels = key_of("yolo", divided, keys["convert"])
    once(
        "convert",
        out / YOLO,
        labels,
        lambda: join_yolo(dataset, folders["convert"], parts, out / YOLO),
    )
    observed = out / OBSERVATIONS
    seen = key_of("observe", keys["observe"])
    once("observe", observed, seen, lambda: join_observations(folders["observe"], observed))
    shown = key_of("report", whole, keys["anomalies"], json.dumps(asdict(options.validate)))
    once(
        "report",
        report,
        shown,
        lambda: validate(
            dataset,
            report,
            options.validate,
            found=found_in_blocks(folders["anomalies"], options.validate),
        ),
    )
    page = out / PAGE
    once(
        "page",
        page,
        key_of("page", shown, divided),
        lambda: write_report(dataset, page, validation=report, split=parts),
    )
    versioned = out / f"{DATASET}.dvc"
    if config.store:
        once(
            "version",
            versioned,
            key_of("version", whole, config.store),
            lambda: make_version(dataset, config.store, config.message),
        )
    blocks = blocks_in(folders["validate"])
    return PrepareSummary(
        images=sum(block.summary["images"] for block in blocks),
        annotations=sum(block.summary["annotations"] for block in blocks),
        blocks=len(blocks),
        made={},
        joined=tuple(joined),
        version=find_version(config.store, str(versioned)).id if config.store else "",
    )
