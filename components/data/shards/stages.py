"""The stages that look at one block at a time: validate, anomalies, convert and observe.

Each is the function that works on a whole data set, called for every block of a shard.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.data.anomalies import AnomalyConfig, find_anomalies
from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER, load_dataset
from components.data.ingest import IngestConfig, ingest_files
from components.data.observe import (
    Observations,
    ObserveConfig,
    load_observations,
    observe,
    save_observations,
)
from components.data.picture_files import PictureFolders
from components.data.quarantine import VIOLATIONS_FILE
from components.data.shards.acquire import ABOUT_FILE, PLACES_FILE, read_about
from components.data.shards.blocks import Block, StageSummary, each_block, key_of
from components.data.source_files import SourceFiles
from components.data.validate import facts_of
from components.data.yolo import convert_to_yolo
from components.parallel import Progress, no_progress
from feature_transformer.context import Features
from feature_transformer.image import Frame
from feature_transformer.makers import DETECTION, maker_of
from foundation.storage import atomic_path

_SEEN_FILE = "seen.npz"
"""Observations of the pictures of a block that were decoded when it was validated."""


def validate_blocks(
    acquired: Path,
    out: Path,
    config: IngestConfig | None = None,
    code: str = "",
    only: Container[str] | None = None,
    progress: Progress = no_progress,
) -> StageSummary:
    """Check every record of a shard and decode every picture; blocks become canonical data sets.

    A picture that is decoded here is observed at once, for the stage observe.

    Args:
        acquired: folder of the stage acquire.
        out: folder of this stage.
        config: how broken records are treated.
        code: version of the code that runs; results of another one are made anew.
        only: names of the blocks to work on; all without it.
        progress: called with blocks done and in all.

    Raises:
        AnnotationError: a broken record, unless they are left out.
        ImageError: a broken picture, likewise.
    """
    config = config or IngestConfig()
    about = read_about(acquired)
    maker = maker_of(about.origin.get("task", DETECTION))

    def work(block: Block, target: Path) -> Mapping[str, Any]:
        places = json.loads((block.path / PLACES_FILE).read_bytes())
        source = SourceFiles(
            root=block.path,
            annotations=block.path / ANNOTATIONS_FILE,
            images=PictureFolders((block.path / IMAGES_FOLDER,)),
            tolerated=frozenset(about.tolerated),
            faults=block.summary["faults"],
            shown=Path(about.annotations),
            places={name: places[name] for name in ("images", "annotations")},
            origins=places["origins"],
        )
        seen: dict[int, Features] = {}

        def observed(image_id: int, frame: Frame) -> None:
            seen[image_id] = maker.features(frame)

        # The source's first images have been taken already.
        summary = ingest_files(source, target, replace(config, limit=0), decoded=observed)
        if seen:
            save_observations(
                Observations(
                    np.array(list(seen), np.int64), np.array(list(seen.values())), maker.schema_hash
                ),
                target / _SEEN_FILE,
            )
        _place_in_whole(target / VIOLATIONS_FILE, places)
        return asdict(summary)

    key = key_of("validate", code, config.on_invalid, *about.tolerated)
    summary = each_block(acquired, out, key, work, only=only, progress=progress)
    with atomic_path(out / ABOUT_FILE) as file:
        file.write_text((acquired / ABOUT_FILE).read_text(encoding="utf-8"), encoding="utf-8")
    return summary


def anomalies_in_blocks(
    validated: Path,
    out: Path,
    config: AnomalyConfig | None = None,
    code: str = "",
    only: Container[str] | None = None,
    progress: Progress = no_progress,
) -> StageSummary:
    """Find what is odd about single images and boxes; ``report`` adds what is odd about the whole.

    Args as in ``validate_blocks``; ``validated`` is the folder of that stage.
    """
    config = config or AnomalyConfig()

    def work(block: Block, target: Path) -> Mapping[str, Any]:
        data = load_dataset(block.path)
        found = find_anomalies(data, facts_of(data), config, scope="image")
        with atomic_path(target) as file:
            file.write_text(json.dumps([asdict(one) for one in found]), encoding="utf-8")
        return {one.kind: one.count for one in found}

    key = key_of("anomalies", code, json.dumps(asdict(config), sort_keys=True))
    return each_block(validated, out, key, work, only=only, suffix=".json", progress=progress)


def convert_blocks(
    validated: Path,
    out: Path,
    code: str = "",
    only: Container[str] | None = None,
    progress: Progress = no_progress,
) -> StageSummary:
    """Write the blocks of a shard in Ultralytics' format.

    Args as in ``validate_blocks``; ``validated`` is the folder of that stage.
    """

    def work(block: Block, target: Path) -> Mapping[str, Any]:
        return asdict(convert_to_yolo(block.path, target))

    return each_block(validated, out, key_of("convert", code), work, only=only, progress=progress)


def observe_blocks(
    validated: Path,
    out: Path,
    config: ObserveConfig | None = None,
    code: str = "",
    only: Container[str] | None = None,
    progress: Progress = no_progress,
) -> StageSummary:
    """Compute what the policy sees of the images of a shard.

    Args as in ``validate_blocks``; ``validated`` is the folder of that stage.

    Raises:
        ImageError: a picture is missing or damaged.
    """

    def work(block: Block, target: Path) -> Mapping[str, Any]:
        seen = block.path / _SEEN_FILE
        known = load_observations(seen) if seen.is_file() else None
        return asdict(observe(block.path, target, config, known=known))

    return each_block(
        validated, out, key_of("observe", code), work, only=only, suffix=".npz", progress=progress
    )


def _place_in_whole(violations: Path, places: Mapping[str, Sequence[int]]) -> None:
    """Name records by their places in the source's annotation file, not in the block's."""
    if not violations.is_file():
        return
    lines = []
    for line in violations.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        one["place"] = places[f"{one['record']}s"][one["place"]]
        lines.append(json.dumps(one, ensure_ascii=False) + "\n")
    violations.write_text("".join(lines), encoding="utf-8")
