"""The clips that are streamed: encoded once, as a camera would send them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.data.classes import Classes
from components.data.dataset import Clip, Dataset
from components.evaluation.average_precision import SeenDetections, match_detections
from inference_graph.contract import Detections


@dataclass(frozen=True)
class EncodedClip:
    """One clip.

    Attributes:
        indexes: positions of its frames in the data set.
        frames: their files' bytes, jpeg.
    """

    indexes: tuple[int, ...]
    frames: tuple[bytes, ...]


def encoded_clips(dataset: Dataset) -> list[EncodedClip]:
    """All clips of a data set, read into memory."""

    def read(clip: Clip) -> EncodedClip:
        indexes = tuple(int(index) for index in clip.indexes)
        return EncodedClip(indexes, tuple(dataset.path_of(index).read_bytes() for index in indexes))

    return [read(clip) for clip in dataset.clips]


def endless(clips: Sequence[EncodedClip]) -> Iterator[bytes]:
    """Every clip's frames one after the other, again and again."""
    return itertools.cycle(itertools.chain.from_iterable(clip.frames for clip in clips))


def answered_detections(rows: Sequence[Mapping[str, Any]]) -> Detections:
    """The detections of a gateway's answer, as they were before they became JSON."""
    return Detections(
        np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        np.array([row["score"] for row in rows], np.float32),
        np.array([row["label"] for row in rows], np.int32),
    )


def map_of_answers(dataset: Dataset, answers: Mapping[int, Detections], classes: Classes) -> float:
    """MAP50-95 of the answers that a client got.

    Args:
        dataset: the frames' objects.
        answers: what was seen on every frame, by its position in the data set.
        classes: those of the detectors.

    Raises:
        KeyError: a frame has no answer.
    """
    found = [answers[index] for index in range(len(dataset))]
    seen = SeenDetections.of(found, classes.category_ids)
    return match_detections(dataset, [seen], classes).mean_average_precision(0)
