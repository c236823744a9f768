"""Clips of three seeds that never meet, detected once and kept small enough for a repository.

*Learn* is what policies are learned from, *tune* is where every setting and choice is made, *test*
judges. A folder holds one ``<part>.npz`` each and ``clips.json``: seeds, recipe, digests of the
weights and of the files, and the latency of every rung. Pictures are not kept; whoever needs them
renders them again from the seeds.

Boxes are stored to an eighth of a pixel and scores to 1/65535. On the 900 frames of the shipped
tune clips that moves no rung's mAP50-95 by more than 0.001.

A folder ``clips`` beside a ladder's weights is also what the profile stage looks into first: a
picture whose digest is stored there is not detected again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes
from components.data.dataset import SCENE_TYPES, Dataset, dataset_from_coco
from components.profiling.detections import STAGES, RungDetections
from components.profiling.rungs import InferenceConfig
from components.profiling.stored_arrays import Arrays, read_arrays
from components.scenes.conditions import CONDITIONS
from foundation.errors import InvalidInput, StorageError
from foundation.regular_file import open_regular
from foundation.storage import atomic_path, sha256_file
from inference_graph.contract import LADDER, Detections
from inference_graph.tasks.rung import Rung

CLIP_PARTS = ("learn", "tune", "test")
CLIPS_FILE = "clips.json"
STORED_FOLDER = "clips"
"""Beside a ladder's weights: what its rungs detect on the clips."""
RESIZED = "small"
"""The rung whose network is also run at the input sizes of the others."""

_SETTINGS = ("confidence", "iou", "max_detections")
"""Inference settings that decide what is detected; threads and providers do not."""
_DIGEST_DIGITS = 16
_BOX_UNIT = 8.0
_SCORE_UNIT = 65535.0
_LONGEST_MANIFEST = 1 << 20
_LONGEST_LATENCY = 3.6e6

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NetworkSizes:
    """One network at the input size of each rung: a ladder of sizes instead of networks.

    Attributes:
        names: network and input size, such as ``small@320x416``, in the ladder's order.
        found: what it detects at each size.
        latency_ms: its median latency at each size, milliseconds.
    """

    names: tuple[str, ...]
    found: tuple[RungDetections, ...]
    latency_ms: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class StoredClips:
    """One part: annotated frames without pictures, and what each rung detects on them.

    Attributes:
        dataset: images and objects; ``dataset.root`` is no folder of pictures.
        found: detections of each rung, in the ladder's order.
        latency_ms: median latency of each rung, milliseconds.
        sized: `RESIZED` at the input sizes of all rungs; None where that is not stored.
    """

    dataset: Dataset
    found: tuple[RungDetections, ...]
    latency_ms: tuple[float, ...]
    sized: NetworkSizes | None = None


@dataclass(frozen=True)
class ClipsSummary:
    """What was stored: frames and bytes by part, and each rung's latency in milliseconds."""

    frames: Mapping[str, int]
    bytes: Mapping[str, int]
    latency_ms: Mapping[str, float]


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


def pack_part(
    data: Dataset,
    found: Mapping[str, RungDetections],
    file: Path,
    sized: Mapping[str, RungDetections] = MappingProxyType({}),
) -> None:
    """Store one part.

    Args:
        data: images and objects, in clip order.
        found: detections of each rung.
        file: the ``.npz`` to write.
        sized: detections of `RESIZED` at the input sizes of the other rungs, by rung.
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
        "digests": np.array([_short(image.sha256) for image in data.images], np.uint64),
        "class_names": np.array(classes.names),
        "class_categories": np.array(classes.category_ids, np.int32),
    }
    for rung, rows in (*found.items(), *((_sized(rung), rows) for rung, rows in sized.items())):
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
    manifest = _manifest(folder)
    file = folder / f"{part}.npz"
    try:
        wanted = str(manifest["files"][part])
        latency = tuple(_latency(manifest["latency_ms"][rung]) for rung in LADDER)
        digests = dict(manifest["recipe"]["sha256"])
        digest = sha256_file(file)
    except (StorageError, OSError, ValueError, KeyError, TypeError) as error:
        raise _no_clips(folder, error) from error
    if digest != wanted:
        raise InvalidInput(f"{file} is not the file that {CLIPS_FILE} names; make the clips again")
    for rung, weights in (ladder or {}).items():
        if sha256_file(weights) != digests.get(rung):
            raise InvalidInput(
                f"{folder} holds detections of other weights than {weights}; make the clips again "
                "with gearshift ladder clips"
            )
    sizes = manifest.get("sized")
    rungs = [*LADDER, *(_sized(rung) for rung in LADDER if sizes is not None and rung != RESIZED)]
    arrays = read_arrays(file, rungs)
    try:
        data = _dataset(arrays, file)
        found = tuple(_detections(arrays, rung, data.image_ids) for rung in LADDER)
        sized = None if sizes is None else _sized_network(sizes, arrays, found)
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidInput(
            f"{file} is broken ({type(error).__name__}); make the clips again"
        ) from error
    return StoredClips(data, found, latency, sized)


def stored_answers(weights: Path, detector: Rung, config: InferenceConfig) -> dict[str, Detections]:
    """What a rung is known to detect, by the SHA-256 of a picture; empty where nothing is stored.

    Args:
        weights: the rung's file; the folder of clips lies beside it.
        detector: the rung opened.
        config: how the rung runs.
    """
    folder, rung = weights.parent / STORED_FOLDER, detector.config.rung
    if detector.reads or not os.path.lexists(folder / CLIPS_FILE):
        return {}
    found: dict[str, Detections] = {}
    try:
        recipe = _manifest(folder)["recipe"]
        if recipe["sha256"][rung] != detector.sha256:
            return {}
        if recipe.get("settings") != detection_settings(config):
            return {}
        place = LADDER.index(rung)
        for part in CLIP_PARTS:
            rows = load_clips(folder, part)
            if rows.found[place].classes != Classes.of(detector):
                raise InvalidInput(f"{part} is of other classes than {weights}")
            for index, image in enumerate(rows.dataset.images):
                if image.sha256 is not None:
                    found[image.sha256] = rows.found[place].of(index)
    except (
        InvalidInput,
        StorageError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        _logger.warning("%s is not used, every picture is detected: %s", folder, error)
        return {}
    return found


def detection_settings(config: InferenceConfig) -> dict[str, Any]:
    """The settings that decide what is detected."""
    return {name: value for name, value in asdict(config).items() if name in _SETTINGS}


def short_digest(sha256: str | None) -> str | None:
    """A picture's digest as it is stored: its first 16 digits."""
    return None if sha256 is None else sha256[:_DIGEST_DIGITS]


def _manifest(folder: Path) -> dict[str, Any]:
    """What ``clips.json`` states."""
    try:
        with open_regular(folder / CLIPS_FILE) as stream:
            text = stream.read(_LONGEST_MANIFEST + 1)
        if len(text) > _LONGEST_MANIFEST:
            raise ValueError(f"{CLIPS_FILE} is longer than {_LONGEST_MANIFEST} bytes")
        manifest = json.loads(text)
        if not isinstance(manifest, dict):
            raise ValueError(f"{CLIPS_FILE} is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise _no_clips(folder, error) from error
    return manifest


def _no_clips(folder: Path, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"{folder} holds no stored clips ({type(error).__name__}); make them with "
        "gearshift ladder clips"
    )


def _latency(value: Any) -> float:
    """A time in milliseconds; raises ValueError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    if not 0 < value <= _LONGEST_LATENCY:
        raise ValueError(f"{value} ms is no latency")
    return float(value)


def _short(sha256: str | None) -> int:
    return int(short_digest(sha256) or "0", 16)


def _sized(rung: str) -> str:
    return f"{RESIZED}@{rung}"


def _sized_network(
    sizes: Mapping[str, Any], arrays: Arrays, found: tuple[RungDetections, ...]
) -> NetworkSizes:
    names, latency, rows = [], [], []
    for index, rung in enumerate(LADDER):
        stored = sizes[rung]
        height, width = (int(side) for side in stored["input_size"])
        names.append(f"{RESIZED}@{height}x{width}")
        latency.append(_latency(stored["latency_ms"]))
        own = rung == RESIZED
        rows.append(
            found[index] if own else _detections(arrays, _sized(rung), found[index].image_ids)
        )
    return NetworkSizes(tuple(names), tuple(rows), tuple(latency))


def _dataset(arrays: Arrays, file: Path) -> Dataset:
    width, height = arrays["size"][0].tolist()
    conditions = (*CONDITIONS,)
    clips = arrays["clips"].tolist()
    starts = np.searchsorted(arrays["clips"], np.arange(max(clips) + 1))
    # Folders of earlier versions have no digests.
    stored = arrays.get("digests", np.zeros(len(clips), np.uint64)).tolist()
    digests = [f"{digest:0{_DIGEST_DIGITS}x}" if digest else None for digest in stored]
    images = [
        {
            "id": row + 1,
            "file_name": f"clip-{clip:04d}-{row - starts[clip]:04d}.jpg",
            "width": width,
            "height": height,
            "sha256": digests[row],
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


def _detections(arrays: Arrays, rung: str, image_ids: NDArray[np.int64]) -> RungDetections:
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
