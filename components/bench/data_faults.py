"""How well the data stages find faults: known ones are planted, and what is found is counted.

Each kind is planted by itself in a copy of a sound data set, so that a find that was not planted is
a false one. Kinds that ingest refuses are looked for in its violations, the others in validate's
anomalies.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.classes import Classes
from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER, Dataset, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.validate import STATISTICS_FILE, ValidateConfig, validate
from components.parallel import Progress, no_progress
from components.scenes.writer import ScenesConfig, write_scenes
from feature_transformer.image import read_frame
from foundation.configuration import configuration
from inference_graph.contract import Detections
from inference_graph.tasks.rung import Rung

Payload = dict[str, Any]
_Pixels = NDArray[Any]
Key = tuple[int, ...]
"""What identifies a find: the id of a record, or the ids of a pair."""

_CONTRADICTED = ("contradicted_labels",)
_CLEAR = 32.0  # pixels


@configuration
class BenchFaultsConfig:
    """Scenes in which faults are planted, and how many.

    Attributes:
        frames: sample scenes, stills of mixed conditions.
        width: of a scene, pixels.
        height: of a scene, pixels.
        share: of the records that get a fault.
        seed: of the scenes and the faults; the docs' table is of seed 7, no limit was chosen on it.
    """

    frames: Annotated[int, Field(ge=16)] = 240
    width: Annotated[int, Field(ge=64, le=4096)] = 320
    height: Annotated[int, Field(ge=64, le=4096)] = 240
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 7


@dataclass(frozen=True)
class FaultRow:
    """How one kind of fault was found.

    Attributes:
        kind: name of the fault.
        reported_as: the rule or anomaly that has to name it.
        planted: faults there are.
        found: finds in all.
        right: finds that were planted.
        precision: right of those found; 1 where nothing was.
        recall: right of those planted.
    """

    kind: str
    reported_as: str
    planted: int
    found: int
    right: int
    precision: float
    recall: float


@dataclass(frozen=True)
class _Fault:
    """A kind of fault.

    Attributes:
        kind: its name.
        reported_as: rules or an anomaly.
        plant: changes the payload and the pictures of a folder; returns the finds expected.
    """

    kind: str
    reported_as: tuple[str, ...]
    plant: Callable[[Payload, Path, np.random.Generator], set[Key]]


def bench_faults(
    detector: Rung, config: BenchFaultsConfig, progress: Progress = no_progress
) -> list[FaultRow]:
    """Render sample scenes and run ``fault_table`` on them; raises as it does."""
    with tempfile.TemporaryDirectory(prefix="gearshift-faults-") as scratch:
        folder = Path(scratch)
        scenes = ScenesConfig(
            frames=config.frames,
            width=config.width,
            height=config.height,
            condition="mixed",
            seed=config.seed,
        )
        write_scenes(scenes, folder / "scenes")
        ingest(str(folder / "scenes"), folder / "data", IngestConfig(cache=str(folder / "cache")))
        return fault_table(folder / "data", detector, config.share, config.seed, progress)


def fault_table(
    dataset: Path,
    detector: Rung | None = None,
    share: float = 0.1,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[FaultRow]:
    """Plant every kind of fault and count the finds.

    Args:
        dataset: canonical data set folder without faults; its pictures are stills.
        detector: to hold labels against; without one, that kind is left out.
        share: of the records that get a fault.
        seed: which ones.
        progress: called with kinds done and in all.

    Raises:
        AnnotationError: the folder is no data set.
        StorageError: the disk is full.
    """
    rows = []
    faults = [one for one in _faults(share) if detector or one.reported_as != _CONTRADICTED]
    for number, fault in enumerate(faults):
        random = np.random.default_rng([seed, number])
        with tempfile.TemporaryDirectory(prefix="gearshift-faults-") as scratch:
            rows.append(_row(dataset, fault, Path(scratch), random, detector))
        progress(number + 1, len(faults))
    return rows


@dataclass(frozen=True)
class _Seen:
    """What a detector sees on a data set."""

    classes: Classes
    input_size: tuple[int, int]
    found: tuple[Detections, ...]

    @classmethod
    def by(cls, detector: Rung, data: Dataset) -> _Seen:
        return cls(
            Classes.of(detector),
            detector.input_size,
            tuple(detector.detect(data.read(index)).detections for index in range(len(data))),
        )

    def of(self, index: int) -> Detections:
        return self.found[index]


def _row(
    dataset: Path,
    fault: _Fault,
    scratch: Path,
    random: np.random.Generator,
    detector: Rung | None,
) -> FaultRow:
    source = scratch / "source"
    shutil.copytree(dataset / IMAGES_FOLDER, source / IMAGES_FOLDER)
    payload = json.loads((dataset / ANNOTATIONS_FILE).read_text(encoding="utf-8"))
    expected = fault.plant(payload, source / IMAGES_FOLDER, random)
    (source / ANNOTATIONS_FILE).write_text(json.dumps(payload), encoding="utf-8")
    config = IngestConfig(on_invalid="drop", cache=str(scratch / "cache"))
    violations = scratch / "violations.jsonl"
    ingest(str(source), scratch / "data", config, violations=violations)
    found: set[Key] = {
        (one["id"],)
        for line in violations.read_text(encoding="utf-8").splitlines()
        if (one := json.loads(line))["rule"] in fault.reported_as
    }
    data = load_dataset(scratch / "data")
    seen = _Seen.by(detector, data) if detector and fault.reported_as == _CONTRADICTED else None
    reference = dataset if "drifted_categories" in fault.reported_as else None
    every = ValidateConfig(min_images=1, min_boxes=1, examples=1_000_000)
    validate(scratch / "data", scratch / "report", every, detections=seen, reference=reference)
    statistics = json.loads((scratch / "report" / STATISTICS_FILE).read_text(encoding="utf-8"))
    names = {one.name: one.id for one in data.categories}
    for anomaly in statistics["anomalies"]:
        if anomaly["kind"] in fault.reported_as:
            found |= {key for example in anomaly["examples"] for key in _keys(example, names)}
    right = len(found & expected)
    return FaultRow(
        fault.kind,
        " or ".join(fault.reported_as),
        planted=len(expected),
        found=len(found),
        right=right,
        precision=round(right / len(found), 4) if found else 1.0,
        recall=round(right / len(expected), 4),
    )


def _keys(example: dict[str, Any], names: dict[str, int]) -> list[Key]:
    if "annotation_ids" in example:
        return [tuple(sorted(example["annotation_ids"]))]
    if "image_ids" in example:
        ids = sorted(example["image_ids"])
        return [(ids[0], other) for other in ids[1:]]
    for name in ("annotation_id", "image_id", "category_id"):
        if name in example:
            return [(example[name],)]
    return [(names[example["name"]],)]


def _faults(share: float) -> tuple[_Fault, ...]:
    def picked(records: Sequence[Any], random: np.random.Generator) -> list[Any]:
        count = max(round(share * len(records)), 1)
        return [records[int(i)] for i in random.permutation(len(records))[:count]]

    def on_pictures(change: Callable[[Path, np.random.Generator], None]) -> Any:
        def plant(payload: Payload, images: Path, random: np.random.Generator) -> set[Key]:
            chosen = picked(payload["images"], random)
            for record in chosen:
                change(images / record["file_name"], random)
            return {(record["id"],) for record in chosen}

        return plant

    def on_frames(change: Callable[[_Pixels], _Pixels]) -> Any:
        def repaint(file: Path, _: np.random.Generator) -> None:
            _write(file, change(read_frame(file)))

        return on_pictures(repaint)

    def on_boxes(change: Callable[[list[float], dict[str, Any], Any], list[float]]) -> Any:
        def plant(payload: Payload, _: Path, random: np.random.Generator) -> set[Key]:
            sizes = {image["id"]: image for image in payload["images"]}
            chosen = picked(payload["annotations"], random)
            for record in chosen:
                record["bbox"] = change(record["bbox"], sizes[record["image_id"]], random)
            return {(record["id"],) for record in chosen}

        return plant

    def by_image(change: Callable[[list[float], dict[str, Any]], list[float]]) -> Any:
        def plant(payload: Payload, _: Path, random: np.random.Generator) -> set[Key]:
            chosen = {record["id"]: record for record in picked(payload["images"], random)}
            rows = [row for row in payload["annotations"] if row["image_id"] in chosen]
            for row in rows:
                row["bbox"] = change(row["bbox"], chosen[row["image_id"]])
            return {(row["id"],) for row in rows}

        return plant

    def copies(change: Callable[[_Pixels, np.random.Generator], _Pixels]) -> Any:
        def plant(payload: Payload, images: Path, random: np.random.Generator) -> set[Key]:
            pairs: set[Key] = set()
            top = max(record["id"] for record in payload["images"])
            for number, record in enumerate(picked(payload["images"], random)):
                frame = change(read_frame(images / record["file_name"]), random)
                name = f"copy-{number}.jpg"
                _write(images / name, frame, quality=int(random.integers(20, 90)))
                height, width = frame.shape[:2]
                copy = {"id": top + 1 + number, "file_name": name, "width": width, "height": height}
                payload["images"].append(copy)
                pairs.add((record["id"], copy["id"]))
            return pairs

        return plant

    return (
        _Fault("truncated picture", ("broken_image",), on_pictures(_truncate)),
        _Fault("corrupt picture", ("broken_image",), on_pictures(_corrupt)),
        _Fault("blank picture", ("blank_images",), on_frames(lambda frame: frame * 0 + 128)),
        _Fault("over-exposed picture", ("overexposed_images",), on_frames(_overexpose)),
        *(
            _Fault(f"near-duplicate: {kind}", ("near_duplicates",), copies(change))
            for kind, change in _COPIES.items()
        ),
        _Fault("doubled box", ("repeated_boxes",), _double(picked)),
        _Fault(
            "tiny box", ("tiny_boxes",), on_boxes(lambda b, _, r: [*b[:2], *r.uniform(1.1, 3, 2)])
        ),
        _Fault("box outside", ("box_outside",), on_boxes(_outside)),
        _Fault("swapped corners", ("swapped_corners",), on_boxes(_swap)),
        _Fault("corners for sizes", ("corner_box", "corner_boxes"), by_image(_corners)),
        _Fault("normalised box", ("normalised_boxes",), by_image(_normalise)),
        _Fault("label of another class", _CONTRADICTED, _relabel(picked)),
        _Fault("category of crowds alone", ("crowd_only_categories",), _crowds),
        _Fault("category that drifted", ("drifted_categories",), _drift),
    )


def _write(file: Path, frame: _Pixels, quality: int = 95) -> None:
    cv2.imwrite(str(file), frame, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _truncate(file: Path, random: np.random.Generator) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * random.uniform(0.1, 0.95))])


def _corrupt(file: Path, random: np.random.Generator) -> None:
    file.write_bytes(random.bytes(file.stat().st_size))


def _overexpose(frame: _Pixels) -> _Pixels:
    """A frame of which two thirds are white, whatever its light was."""
    third = float(np.percentile(frame.min(axis=2), 33))
    return cv2.convertScaleAbs(frame, alpha=255.0 / max(third, 1.0))


def _scaled(frame: _Pixels, random: np.random.Generator) -> _Pixels:
    scale = float(random.choice([0.25, 0.5, 0.8, 2.0]))
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _lit(frame: _Pixels, random: np.random.Generator) -> _Pixels:
    return cv2.convertScaleAbs(frame, alpha=random.uniform(0.7, 1.3), beta=random.uniform(0, 20))


def _stamped(frame: _Pixels, _: np.random.Generator) -> _Pixels:
    place, white = (8, frame.shape[0] - 8), (255, 255, 255)
    return cv2.putText(frame, "cam 3", place, cv2.FONT_HERSHEY_PLAIN, 1.0, white)


def _cropped(frame: _Pixels, random: np.random.Generator) -> _Pixels:
    share = random.uniform(0.005, 0.06)
    y, x = (max(round(share * side), 1) for side in frame.shape[:2])
    return frame[y:-y, x:-x]


_COPIES: dict[str, Callable[[_Pixels, np.random.Generator], _Pixels]] = {
    "encoded anew": lambda frame, _: frame,
    "scaled by 0.25 to 2": _scaled,
    "brighter or darker": _lit,
    "softened": lambda frame, _: cv2.GaussianBlur(frame, (5, 5), 0),
    "stamped": _stamped,
    "cropped by up to 6 % of each side": _cropped,
    "mirrored": lambda frame, _: np.ascontiguousarray(frame[:, ::-1]),
}
"""Other exports of a picture; each is encoded with a quality of 20 to 89."""


def _double(picked: Any) -> Any:
    def plant(payload: Payload, _: Path, random: np.random.Generator) -> set[Key]:
        top = max(row["id"] for row in payload["annotations"])
        pairs: set[Key] = set()
        for number, row in enumerate(picked(payload["annotations"], random), 1):
            x, y, width, height = row["bbox"]
            box = [
                x,
                y,
                width * (1 - 0.01 * random.random()),
                height * (1 - 0.01 * random.random()),
            ]
            payload["annotations"].append({**row, "id": top + number, "bbox": box})
            pairs.add((row["id"], top + number))
        return pairs

    return plant


def _relabel(picked: Any) -> Any:
    def plant(payload: Payload, _: Path, random: np.random.Generator) -> set[Key]:
        numbers = sorted({row["category_id"] for row in payload["annotations"]})
        # What is too small to be seen cannot be contradicted.
        clear = [row for row in payload["annotations"] if min(row["bbox"][2:]) >= _CLEAR]
        chosen = picked(clear, random)
        for row in chosen:
            row["category_id"] = int(random.choice([n for n in numbers if n != row["category_id"]]))
        return {(row["id"],) for row in chosen}

    return plant


def _outside(box: list[float], image: dict[str, Any], random: np.random.Generator) -> list[float]:
    return [image["width"] - box[2] / 2 + random.uniform(0, 50), *box[1:]]


def _swap(box: list[float], _: dict[str, Any], __: np.random.Generator) -> list[float]:
    x, y, width, height = box
    return [x + width, y + height, -width, -height]


def _corners(box: list[float], _: dict[str, Any]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]


def _normalise(box: list[float], image: dict[str, Any]) -> list[float]:
    wide, high = image["width"], image["height"]
    return [box[0] / wide, box[1] / high, box[2] / wide, box[3] / high]


def _crowds(payload: Payload, _: Path, random: np.random.Generator) -> set[Key]:
    used = sorted({row["category_id"] for row in payload["annotations"]})
    chosen = int(random.choice(used))
    for row in payload["annotations"]:
        row["iscrowd"] = int(row["category_id"] == chosen)
    return {(chosen,)}


def _drift(payload: Payload, _: Path, random: np.random.Generator) -> set[Key]:
    """Most boxes of the most frequent category are labelled as another one."""
    counts: dict[int, int] = {}
    for row in payload["annotations"]:
        counts[row["category_id"]] = counts.get(row["category_id"], 0) + 1
    first, second = sorted(counts, key=lambda number: -counts[number])[:2]
    for row in payload["annotations"]:
        if row["category_id"] == first and random.random() < 0.8:
            row["category_id"] = second
    return {(first,), (second,)}
