"""A rung's raw detections over a whole data set, as the profile stores them.

A profile is a folder of two Parquet tables, rows in the data set's order::

    detections.parquet   image_id int64, x1 y1 x2 y2 float32 (pixels), score float32 (0 to 1),
                         category_id int64, label int32 (class index of the rung), and of a
                         rung that reads, text
    images.parquet       image_id int64, detections int32, preprocess_ms inference_ms
                         postprocess_ms float32 (milliseconds)

Both carry the facts of the measurement as JSON under the metadata key ``gearshift``: rung, SHA-256
of the weights, class names, category ids, input size, settings, versions, machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.classes import Classes
from foundation.errors import InvalidInput, ModelError
from inference_graph.contract import Detections

STAGES = ("preprocess", "inference", "postprocess")
DETECTIONS_FILE = "detections.parquet"
IMAGES_FILE = "images.parquet"
FACTS_KEY = b"gearshift"

DETECTIONS_SCHEMA = pa.schema(
    [("image_id", pa.int64())]
    + [(name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")]
    + [("category_id", pa.int64()), ("label", pa.int32())]
)
TEXT = pa.field("text", pa.string())
"""The column that a rung which reads has beside the others."""
IMAGES_SCHEMA = pa.schema(
    [("image_id", pa.int64()), ("detections", pa.int32())]
    + [(f"{stage}_ms", pa.float32()) for stage in STAGES]
)


@dataclass(frozen=True, eq=False)
class RungDetections:
    """Raw detections of one rung on N images; image ``i`` owns rows ``offsets[i]:offsets[i + 1]``.

    Attributes:
        rung: its place in the ladder.
        image_ids: int64[N], in the order of the data set that was profiled.
        offsets: int64[N + 1].
        boxes: float32[D, 4], corners (x1, y1, x2, y2) in pixels of the image.
        scores: float32[D], 0 to 1, falling within an image.
        labels: int32[D], class index of the rung.
        category_ids: int64[D], COCO category id of the label.
        milliseconds: float32[N, 3], time of each of STAGES.
        facts: how it was measured (see the module).
        texts: what each row reads; None of a detector.
    """

    rung: str
    image_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    category_ids: NDArray[np.int64]
    milliseconds: NDArray[np.float32]
    facts: Mapping[str, Any]
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.image_ids)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the rung's classes, by label."""
        return tuple(self.facts["class_names"])

    @property
    def classes(self) -> Classes:
        """The rung's classes."""
        return Classes(self.class_names, tuple(self.facts["category_ids"]))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the rung's network sees, pixels."""
        height, width = self.facts["input_size"]
        return height, width

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {image_id: index for index, image_id in enumerate(self.image_ids.tolist())}

    def of(self, index: int) -> Detections:
        """Detections of the image at this position; views, nothing is copied."""
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        texts = None if self.texts is None else self.texts[rows]
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], texts)

    def select(self, image_ids: Iterable[int]) -> RungDetections:
        """Return the detections of these images, in the order given.

        Raises InvalidInput for an image that was not profiled.
        """
        try:
            chosen = np.array([self._positions[int(i)] for i in image_ids], dtype=np.int64)
        except KeyError as error:
            raise InvalidInput(
                f"the profile of {self.rung} has no image {error.args[0]}; "
                "profile the same data set again"
            ) from None
        counts = np.diff(self.offsets)[chosen]
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        # Row r of the result lies as far behind its image's first row as it did before.
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], counts)
        return replace(
            self,
            image_ids=self.image_ids[chosen],
            offsets=offsets,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            category_ids=self.category_ids[rows],
            texts=None if self.texts is None else tuple(self.texts[row] for row in rows.tolist()),
            milliseconds=self.milliseconds[chosen],
        )


def load_detections(path: Path) -> RungDetections:
    """Read what ``profile_rung`` wrote.

    Raises InvalidInput when the folder is no profile, or its tables contradict each other.
    """
    try:
        rows = pq.read_table(path / DETECTIONS_FILE)
        texts = rows["text"].to_pylist() if TEXT.name in rows.schema.names else None
        rows = rows.select(DETECTIONS_SCHEMA.names).cast(DETECTIONS_SCHEMA)
        images = pq.read_table(path / IMAGES_FILE, schema=IMAGES_SCHEMA)
        notes = pq.read_schema(path / DETECTIONS_FILE).metadata or {}
        facts = json.loads(notes[FACTS_KEY])
        rung = facts["rung"]
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{path}: is no profile of a rung ({type(error).__name__}); run the profile stage again"
        ) from error
    ids = rows["image_id"].to_numpy()
    image_ids = images["image_id"].to_numpy()
    counts = images["detections"].to_numpy()
    if len(counts) and counts.min() < 0 or not np.array_equal(np.repeat(image_ids, counts), ids):
        raise InvalidInput(
            f"{path}: its two tables do not belong together; run the profile stage again"
        )
    return RungDetections(
        rung=str(rung),
        image_ids=image_ids,
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        boxes=np.stack([rows[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1),
        scores=rows["score"].to_numpy(),
        labels=rows["label"].to_numpy(),
        category_ids=rows["category_id"].to_numpy(),
        milliseconds=np.stack([images[f"{stage}_ms"].to_numpy() for stage in STAGES], axis=1),
        facts=facts,
        texts=None if texts is None else tuple(texts),
    )


def load_profiles(paths: Mapping[str, Path]) -> dict[str, RungDetections]:
    """Read the profiles of several rungs and check that they belong together.

    Raises:
        InvalidInput: a folder is no profile, is another rung's, or is of other images.
        ModelError: the rungs have different classes.
    """
    profiles = {rung: load_detections(path) for rung, path in paths.items()}
    first = next(iter(profiles.values()), None)
    for rung, profile in profiles.items():
        if first is None or profile.rung != rung:
            raise InvalidInput(
                f"{paths[rung]}: is the profile of {profile.rung}, not of {rung}; "
                "give each rung its own"
            )
        if not np.array_equal(profile.image_ids, first.image_ids):
            raise InvalidInput(
                f"{paths[rung]}: was made on other images than the profile of {first.rung}; "
                "profile all rungs on the same data set"
            )
        keys = ("class_names", "category_ids")
        if any(profile.facts.get(key) != first.facts.get(key) for key in keys):
            raise ModelError(
                f"{paths[rung]}: {rung} has {len(profile.class_names)} classes, {first.rung} has "
                f"{len(first.class_names)}, or they differ in name or id; "
                "give rungs that were trained on the same classes"
            )
    return profiles
