"""New training data from production: kept frames of the prediction log, labelled by the reference.

A frame's labels are what the reference rung (large) saw on it: as its shadow, as the answer itself
where large was chosen, and else it looks now, at the image that was kept. These are *pseudo
labels*. They show which rung finds what large finds, which is all that routing asks; what large
itself misses they cannot show. Accuracy on such data is therefore relative to large, and a large
that fails in the new conditions shows only in data that people annotated. Nor are its boxes exact:
see ``components.evaluation.average_precision`` for how such frames are matched.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER, scene_type_of
from components.parallel import Progress, no_progress
from components.profiling.rungs import InferenceConfig, open_rung
from feature_transformer.image import Frame, decode
from feature_transformer.sound import holds_sound
from foundation.configuration import Share, configuration
from foundation.errors import ImageError, InvalidInput
from foundation.storage import atomic_path
from inference_graph.contract import REFERENCE, Detections
from inference_graph.prediction_log.columns import DETECTION_COLUMNS
from inference_graph.prediction_log.reader import read_log
from inference_graph.tasks.ocr.reading import text_of
from inference_graph.tasks.rung import Rung

HARVEST_FILE = "harvest.json"

_KEYS = ("event_id", "time", "session", "client", "frame_id", "answered_by", "image_kept")
_CONTENT = (
    "event_id",
    "answered_by",
    "width",
    "height",
    *DETECTION_COLUMNS,
    "texts",
    "shadow_texts",
    "condition",
    "image",
)
_AT_ONCE = 500
"""Rows whose images are in memory together."""


@configuration
class HarvestConfig:
    """Which frames are taken, and how they are labelled.

    Attributes:
        most: frames at most, the newest.
        clip_frames: a stream is cut into clips of so many frames; a clip is learned from or judged
            by as a whole, so make it as long as a scene lasts.
        gap: frames that may lie between two of a clip; the context of a frame is what was seen on
            the one before, which is ignored once it is long ago.
        score: what the reference saw at this score or above is an object (0 to 1). At lower ones
            its doubts count as truth, and what a smaller rung rightly does not see as missed. Of a
            text every part counts.
        threads: threads of the reference where it has to look.
    """

    most: Annotated[int, Field(ge=1, le=10**6)] = 2000
    clip_frames: Annotated[int, Field(ge=1, le=10**6)] = 60
    gap: Annotated[int, Field(ge=0, le=10**6)] = 2
    score: Share = 0.5
    threads: Annotated[int, Field(ge=1, le=1024)] = 2


@dataclass(frozen=True)
class HarvestSummary:
    """What was harvested.

    Attributes:
        images: frames.
        clips: clips and single images.
        annotations: objects on them.
        labelled: frames by where their labels come from: "shadow", "answer" or "looked" now.
        answered: answers in the window, kept as images or not.
        first: time of the oldest frame.
        last: time of the newest.
        broken: frames left out because what was kept of them is no image.
    """

    images: int
    clips: int
    annotations: int
    labelled: Mapping[str, int]
    answered: int
    first: datetime
    last: datetime
    broken: int = 0


@dataclass(frozen=True)
class _Frame:
    """A kept frame: key, clip (None for a single image) and number in its stream."""

    event_id: str
    clip: str | None
    number: int


def harvest(
    log: str,
    reference: Path,
    out: Path,
    config: HarvestConfig,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = no_progress,
) -> HarvestSummary:
    """Write the kept frames of a window as a canonical data set folder.

    Args:
        log: the prediction log, a folder or bucket.
        reference: file of the reference rung.
        out: folder to write; ``harvest.json`` in it names the answer of each image.
        config: what to take.
        since: from this time on, aware; from the beginning without it.
        until: before this time, aware; to the end without it.
        progress: called with frames done and in all.

    Returns:
        What was harvested.

    Raises:
        InvalidInput: no frame of the window was kept as an image.
        ModelError: the reference's weights cannot be used.
        StorageError: the log cannot be read, or the disk is full.
    """
    keys = read_log(log, since, until, _KEYS)
    answered = keys.filter(pc.fill_null(pc.not_equal(keys["answered_by"], ""), False))
    kept = answered.filter(pc.fill_null(answered["image_kept"], False))
    if not len(kept):
        raise InvalidInput(
            f"none of the {len(answered)} answers of this window of {log} was kept as an image; "
            "widen the window, or raise the gateway's image_share"
        )
    kept = kept.slice(max(0, len(kept) - config.most))  # rising time: these are the newest
    frames = _clips(kept, config)
    times = kept["time"].to_pylist()
    labeller = _Labeller(reference, config)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with atomic_path(out) as folder:
        (folder / IMAGES_FOLDER).mkdir(parents=True)
        for at in range(0, len(kept), _AT_ONCE):
            wanted = {one.event_id: one for one in frames[at : at + _AT_ONCE]}
            for row in _rows(log, kept.slice(at, _AT_ONCE)):
                frame = wanted[row["event_id"]]
                try:
                    found, source, seen = labeller.label(row)
                except ImageError:
                    continue  # a device may have sent anything as a row
                image = _store(
                    row, frame, len(images) + 1, folder / IMAGES_FOLDER, len(found.scores), seen
                )
                images.append(image | {"event_id": frame.event_id, "labelled": source})
                annotations += labeller.annotations(found, image, len(annotations))
                progress(len(images), len(kept))
        if not images:
            raise InvalidInput(
                f"none of the {len(kept)} frames that {log} kept in this window is an image that "
                "can be decoded; widen the window"
            )
        payload = {
            "info": {
                "description": f"kept frames of {log}, labelled by {REFERENCE}",
                **({"task": labeller.detector.task} if labeller.detector.reads else {}),
            },
            "images": images,
            "annotations": annotations,
            "categories": labeller.categories,
        }
        summary = HarvestSummary(
            images=len(images),
            clips=len({one.clip or one.event_id for one in frames}),
            annotations=len(annotations),
            labelled=dict(Counter(image["labelled"] for image in images)),
            answered=len(answered),
            first=min(times),
            last=max(times),
            broken=len(kept) - len(images),
        )
        facts = asdict(summary) | {
            "log": log,
            "reference": labeller.detector.revision,
            "config": asdict(config),
            "events": {image["file_name"]: image["event_id"] for image in images},
        }
        (folder / ANNOTATIONS_FILE).write_text(json.dumps(payload) + "\n", encoding="utf-8")
        text = json.dumps(facts, indent=1, default=datetime.isoformat)
        (folder / HARVEST_FILE).write_text(text + "\n", encoding="utf-8")
    return summary


def _clips(kept: pa.Table, config: HarvestConfig) -> list[_Frame]:
    """The clip of every kept frame, in the order of the table.

    Two clients may call their sessions alike: those are two streams.
    """
    frames: dict[str, _Frame] = {}
    rows = [row for row in kept.to_pylist() if row["session"] and row["frame_id"] is not None]
    rows.sort(key=lambda row: (*_stream(row), row["frame_id"]))
    shared = Counter(session for session, _ in {_stream(row) for row in rows})
    for (session, client), members in itertools.groupby(rows, key=_stream):
        name = f"{client}/{session}" if shared[session] > 1 else session
        first = before = -1
        for row in members:
            number = int(row["frame_id"])
            same = number // config.clip_frames == before // config.clip_frames
            if before < 0 or not same or number - before > config.gap + 1:
                first = number
            frames[row["event_id"]] = _Frame(row["event_id"], f"{name}-{first}", number)
            before = number
    return [
        frames.get(event_id, _Frame(event_id, None, 0)) for event_id in kept["event_id"].to_pylist()
    ]


def _stream(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["session"], row["client"] or ""


def _rows(log: str, kept: pa.Table) -> Sequence[Mapping[str, Any]]:
    """Content of some kept frames, in their order."""
    times = kept["time"]
    first, last = pc.min(times).as_py(), pc.max(times).as_py()
    found = read_log(log, first, None, (*_CONTENT, "time"))
    found = found.filter(pc.less_equal(found["time"], pa.scalar(last, times.type)))
    found = found.filter(pc.is_in(found["event_id"], value_set=kept["event_id"].combine_chunks()))
    by_key = {row["event_id"]: row for row in found.to_pylist()}
    return [by_key[key] for key in kept["event_id"].to_pylist() if key in by_key]


class _Labeller:
    """Returns what the reference saw on a kept frame."""

    def __init__(self, reference: Path, config: HarvestConfig) -> None:
        self.detector: Rung = open_rung(
            REFERENCE, reference, InferenceConfig(threads=config.threads)
        )
        self._score = config.score

    @property
    def categories(self) -> list[dict[str, Any]]:
        """The reference's classes, as COCO lists them."""
        return [
            {"id": int(number), "name": name}
            for number, name in zip(
                self.detector.category_ids, self.detector.class_names, strict=True
            )
        ]

    def label(self, row: Mapping[str, Any]) -> tuple[Detections, str, Frame]:
        """Objects in pixels of the kept image, where they come from, and the image.

        Raises:
            ImageError: the image is none; a device may have sent anything.
        """
        frame = decode(row["image"])
        height, width = frame.shape[:2]
        if row["shadow"]:
            found, source = _logged(row, "shadow_"), "shadow"
        elif row["answered_by"] == REFERENCE:
            found, source = _logged(row, ""), "answer"
        else:
            found, source = self.detector.detect(frame).detections, ""
        boxes = np.asarray(found.boxes, np.float64).reshape(-1, 4)
        if source:
            boxes = boxes * np.tile([width / row["width"], height / row["height"]], 2)
        boxes = np.clip(boxes, 0.0, np.tile([width, height], 2))
        sides = boxes[:, 2:] - boxes[:, :2]
        keep = (np.asarray(found.scores) >= self._score) & (sides >= 1.0).all(axis=1)
        if self.detector.reads:
            # A text that lacks its doubtful parts is no truth: the reference itself would err.
            keep = np.ones(len(boxes), bool)
        within = Detections(
            boxes.astype(np.float32),
            np.asarray(found.scores),
            np.asarray(found.labels),
            found.texts if self.detector.reads else None,
        )
        return within.take(np.flatnonzero(keep)), source or "looked", frame

    def annotations(
        self, found: Detections, image: Mapping[str, Any], before: int
    ) -> list[dict[str, Any]]:
        """COCO's records of an image's objects, numbered from ``before`` + 1.

        A text is one record, in the order in which people read it.
        """
        if self.detector.reads:
            text = text_of(found)
            whole = (
                [*found.boxes[:, :2].min(axis=0), *found.boxes[:, 2:].max(axis=0)] if text else []
            )
            found = Detections(
                np.array(whole, np.float32).reshape(-1, 4),
                np.ones(len(whole) // 4, np.float32),
                np.zeros(len(whole) // 4, np.int32),
                (text,) if text else (),
            )
        return [
            {
                "id": before + number,
                "image_id": image["id"],
                "category_id": int(self.detector.category_ids[int(label)]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                **({} if found.texts is None else {"text": found.texts[number - 1]}),
            }
            for number, ((x1, y1, x2, y2), label) in enumerate(
                zip(found.boxes.tolist(), found.labels.tolist(), strict=True), 1
            )
        ]


def _logged(row: Mapping[str, Any], prefix: str) -> Detections:
    return Detections(
        np.array(row[f"{prefix}boxes"] or (), np.float32).reshape(-1, 4),
        np.array(row[f"{prefix}scores"] or (), np.float32),
        np.array(row[f"{prefix}labels"] or (), np.int32),
        tuple(row[f"{prefix}texts"] or ()),
    )


def _store(
    row: Mapping[str, Any],
    frame: _Frame,
    number: int,
    folder: Path,
    objects: int,
    seen: Frame,
) -> dict[str, Any]:
    """Write the image; returns its COCO record."""
    data: bytes = row["image"]
    height, width = seen.shape[:2]
    name = f"{number:06d}{'.wav' if holds_sound(seen) else '.jpg'}"
    (folder / name).write_bytes(data)
    return {
        "id": number,
        "file_name": name,
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(data).hexdigest(),
        "attributes": {
            "condition": row["condition"] or None,
            "scene_type": scene_type_of(objects),
            "clip": frame.clip,
            "frame_index": frame.number,
            "pseudo": True,
        },
    }
