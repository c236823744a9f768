"""Clips of three seeds that never meet, detected once and kept small enough for a repository.

*Learn* is what policies are learned from, *tune* is where every setting and choice is made, *test*
judges. A folder holds one ``<part>.npz`` each and ``clips.json``: seeds, recipe, digests of the
weights and of the files, and the latency of every rung. Pictures are not kept; whoever needs them
renders them again from the seeds.

Boxes are stored to an eighth of a pixel and scores to 1/65535. On the 900 frames of the shipped
tune clips that moves no rung's mAP50-95 by more than 0.001.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.dataset import SCENE_TYPES, Dataset, dataset_from_coco, load_dataset
from components.parallel import Progress, no_progress, part_of
from components.profiling.detections import STAGES, RungDetections, load_profiles
from components.profiling.profile import ProfileConfig, profile_rung
from components.profiling.timing import TimingConfig, load_timings, time_ladder
from components.scenes.conditions import CONDITIONS
from components.scenes.writer import MIXED, ScenesConfig, write_scenes
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path, sha256_file
from inference_graph.contract import LADDER

CLIP_PARTS = ("learn", "tune", "test")
CLIPS_FILE = "clips.json"

_BOX_UNIT = 8.0
_SCORE_UNIT = 65535.0
_WORK = "work"


@configuration
class ClipsConfig:
    """What is rendered and detected.

    Attributes:
        learn: clips that policies are learned from.
        tune: clips on which settings are chosen.
        test: clips that judge.
        clip_frames: frames of each clip.
        condition: light and weather; "mixed" draws one per clip.
        world: "plain" or "streets".
        learn_seed: entropy of the clips to learn from; the demo's.
        tune_seed: entropy of the clips to choose on.
        test_seed: entropy of the clips that judge; another one for each release.
        threads: threads of one inference.
        workers: rendering processes.
    """

    learn: Annotated[int, Field(ge=1)] = 100
    tune: Annotated[int, Field(ge=1)] = 60
    test: Annotated[int, Field(ge=1)] = 400
    clip_frames: Annotated[int, Field(ge=2)] = 15
    condition: str = MIXED
    world: str = "plain"
    learn_seed: Annotated[int, Field(ge=0)] = 1
    tune_seed: Annotated[int, Field(ge=0)] = 3001
    test_seed: Annotated[int, Field(ge=0)] = 4001
    threads: Annotated[int, Field(ge=1)] = 2
    workers: Annotated[int, Field(ge=1)] = 2

    def __post_init__(self) -> None:
        """Raise ConfigurationError where two parts would hold the same clips."""
        if len({self.learn_seed, self.tune_seed, self.test_seed}) < len(CLIP_PARTS):
            raise ConfigurationError(
                "learn_seed, tune_seed and test_seed must differ, so that no clip is in two parts"
            )
        self.scenes(CLIP_PARTS[0])

    def scenes(self, part: str) -> ScenesConfig:
        """What a part's pictures are rendered from."""
        return ScenesConfig(
            clips=getattr(self, part),
            clip_frames=self.clip_frames,
            condition=self.condition,
            seed=getattr(self, f"{part}_seed"),
            world=self.world,
            workers=self.workers,
        )


@dataclass(frozen=True)
class ClipsSummary:
    """What was stored: frames and bytes by part, and each rung's latency in milliseconds."""

    frames: Mapping[str, int]
    bytes: Mapping[str, int]
    latency_ms: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class StoredClips:
    """One part: annotated frames without pictures, and what each rung detects on them.

    Attributes:
        dataset: images and objects; ``dataset.root`` is no folder of pictures.
        found: detections of each rung, in the ladder's order.
        latency_ms: median latency of each rung, milliseconds.
    """

    dataset: Dataset
    found: tuple[RungDetections, ...]
    latency_ms: tuple[float, ...]


def store_clips(
    ladder: Mapping[str, Path],
    out: Path,
    config: ClipsConfig,
    progress: Progress = no_progress,
) -> ClipsSummary:
    """Render the three parts, detect them with every rung, and store them.

    A run that was cut off goes on: rendered parts and profiles lie in ``out/work`` until the end.

    Args:
        ladder: weights of every rung.
        out: the folder.
        config: what to render.
        progress: called with steps done and in all.

    Raises:
        ConfigurationError: a rung has no weights.
        ModelError: weights cannot be used, or the rungs' classes differ.
        StorageError: the disk is full.
    """
    digests = {rung: sha256_file(ladder[rung]) for rung in LADDER}
    recipe = {**asdict(config), "sha256": digests}
    work = out / _WORK
    note = work / "recipe.json"
    text = json.dumps(recipe)
    if not note.is_file() or note.read_text("utf-8") != text:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        note.write_text(text, encoding="utf-8")
    steps = len(CLIP_PARTS) * (1 + len(LADDER)) + 1
    inference = ProfileConfig(threads=config.threads)
    for number, part in enumerate(CLIP_PARTS):
        place = work / part
        place.mkdir(exist_ok=True)
        first = number * (1 + len(LADDER))
        if not (place / "scenes").is_dir():
            write_scenes(config.scenes(part), place / "scenes", part_of(progress, first, steps))
        for index, rung in enumerate(LADDER):
            if not (place / rung).is_dir():
                profile_rung(
                    place / "scenes",
                    ladder[rung],
                    rung,
                    place / rung,
                    inference,
                    part_of(progress, first + 1 + index, steps),
                    ladder,
                )
    times = work / "timings.json"
    if not times.is_file():
        time_ladder(
            work / CLIP_PARTS[1] / "scenes",
            ladder,
            times,
            TimingConfig(threads=config.threads),
            part_of(progress, steps - 1, steps),
        )
    for part in CLIP_PARTS:
        found = load_profiles({rung: work / part / rung for rung in LADDER})
        pack_part(load_dataset(work / part / "scenes"), found, out / f"{part}.npz")
    timings = load_timings(times)
    facts = {
        "latency_ms": dict(zip(LADDER, np.median(timings.sample_ms, axis=0).tolist(), strict=True)),
        "measured": timings.facts,
    }
    summary = write_manifest(out, recipe, facts)
    shutil.rmtree(work)
    return summary


def write_manifest(out: Path, recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> ClipsSummary:
    """Write ``clips.json`` beside the parts that lie in ``out``."""
    files = {part: out / f"{part}.npz" for part in CLIP_PARTS}
    manifest = {
        "recipe": dict(recipe),
        **facts,
        "files": {part: sha256_file(file) for part, file in files.items()},
    }
    with atomic_path(out / CLIPS_FILE) as partial:
        partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    frames = {}
    for part, file in files.items():
        with np.load(file) as stored:
            frames[part] = len(stored["scene_types"])
    sizes = {part: file.stat().st_size for part, file in files.items()}
    return ClipsSummary(frames, sizes, dict(facts["latency_ms"]))


def pack_part(data: Dataset, found: Mapping[str, RungDetections], file: Path) -> None:
    """Store one part.

    Args:
        data: images and objects, in clip order.
        found: detections of each rung.
        file: the ``.npz`` to write.
    """
    names = [clip.name for clip in data.clips]
    clip_of = {name: number for number, name in enumerate(names)}
    conditions = (*CONDITIONS,)
    classes = next(iter(found.values())).classes
    arrays: dict[str, Any] = {
        "size": np.array([[image.width, image.height] for image in data.images[:1]], np.int64),
        "clips": np.array([clip_of[image.clip] for image in data.images], np.int32),
        "scene_types": np.array(
            [SCENE_TYPES.index(image.scene_type) for image in data.images], np.uint8
        ),
        "conditions": np.array(
            [conditions.index(image.condition) for image in data.images], np.uint8
        ),
        "objects": data.object_counts.astype(np.uint16),
        "object_boxes": data.boxes.astype(np.float32),
        "object_categories": data.category_ids.astype(np.int32),
        "categories": np.array([category.id for category in data.categories], np.int32),
        "category_names": np.array([category.name for category in data.categories]),
        "class_names": np.array(classes.names),
        "class_categories": np.array(classes.category_ids, np.int32),
    }
    for rung, rows in found.items():
        arrays |= {
            f"{rung}_counts": np.diff(rows.offsets).astype(np.uint16),
            # By column: neighbouring numbers are alike, and pack better.
            f"{rung}_boxes": np.rint(rows.boxes.T * _BOX_UNIT).clip(0, _SCORE_UNIT).astype("<u2"),
            f"{rung}_scores": np.rint(rows.scores * _SCORE_UNIT).astype("<u2"),
            f"{rung}_labels": rows.labels.astype(np.uint8),
        }
    with atomic_path(file) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_clips(folder: Path, part: str, ladder: Mapping[str, Path] | None = None) -> StoredClips:
    """Read one part.

    Args:
        folder: what `store_clips` wrote.
        part: one of `CLIP_PARTS`.
        ladder: weights that the detections must be of; not checked without them.

    Raises:
        InvalidInput: a file is missing, broken, not the one that was stored, or of other weights.
    """
    try:
        manifest = json.loads((folder / CLIPS_FILE).read_text(encoding="utf-8"))
        wanted = str(manifest["files"][part])
        latency = tuple(float(manifest["latency_ms"][rung]) for rung in LADDER)
        digests = dict(manifest["recipe"]["sha256"])
        file = folder / f"{part}.npz"
        digest = sha256_file(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{folder} holds no stored clips ({type(error).__name__}); make them with "
            "gearshift ladder clips"
        ) from error
    if digest != wanted:
        raise InvalidInput(f"{file} is not the file that {CLIPS_FILE} names; make the clips again")
    for rung, weights in (ladder or {}).items():
        if sha256_file(weights) != digests.get(rung):
            raise InvalidInput(
                f"{folder} holds detections of other weights than {weights}; make the clips again "
                "with gearshift ladder clips"
            )
    try:
        with np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files}
        data = _dataset(arrays, file)
        found = tuple(_detections(arrays, rung, data.image_ids) for rung in LADDER)
    except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile) as error:
        raise InvalidInput(
            f"{file} is broken ({type(error).__name__}); make the clips again"
        ) from error
    return StoredClips(data, found, latency)


def _dataset(arrays: Mapping[str, NDArray[Any]], file: Path) -> Dataset:
    width, height = arrays["size"][0].tolist()
    conditions = (*CONDITIONS,)
    clips = arrays["clips"].tolist()
    starts = np.searchsorted(arrays["clips"], np.arange(max(clips) + 1))
    images = [
        {
            "id": row + 1,
            "file_name": f"clip-{clip:04d}-{row - starts[clip]:04d}.jpg",
            "width": width,
            "height": height,
            "attributes": {
                "condition": conditions[arrays["conditions"][row]],
                "scene_type": SCENE_TYPES[arrays["scene_types"][row]],
                "clip": f"clip-{clip:04d}",
                "frame_index": int(row - starts[clip]),
            },
        }
        for row, clip in enumerate(clips)
    ]
    owners = np.repeat(np.arange(len(images)) + 1, arrays["objects"])
    annotations = [
        {"id": number + 1, "image_id": owner, "category_id": category, "bbox": box, "iscrowd": 0}
        for number, (owner, category, box) in enumerate(
            zip(
                owners.tolist(),
                arrays["object_categories"].tolist(),
                arrays["object_boxes"].astype(np.float64).tolist(),
                strict=True,
            )
        )
    ]
    names = zip(arrays["categories"].tolist(), arrays["category_names"].tolist(), strict=True)
    categories = [{"id": number, "name": name} for number, name in names]
    payload = {"images": images, "annotations": annotations, "categories": categories}
    return dataset_from_coco(file.parent, payload, file)


def _detections(
    arrays: Mapping[str, NDArray[Any]], rung: str, image_ids: NDArray[np.int64]
) -> RungDetections:
    labels = arrays[f"{rung}_labels"].astype(np.int32)
    categories = arrays["class_categories"].astype(np.int64)
    return RungDetections(
        rung=rung,
        image_ids=image_ids,
        offsets=np.concatenate(([0], np.cumsum(arrays[f"{rung}_counts"].astype(np.int64)))),
        boxes=np.ascontiguousarray(arrays[f"{rung}_boxes"].T).astype(np.float32) / _BOX_UNIT,
        scores=arrays[f"{rung}_scores"].astype(np.float32) / np.float32(_SCORE_UNIT),
        labels=labels,
        category_ids=categories[labels],
        milliseconds=np.zeros((len(image_ids), len(STAGES)), np.float32),
        facts={
            "rung": rung,
            "class_names": arrays["class_names"].tolist(),
            "category_ids": categories.tolist(),
        },
    )
