"""What the stages need to know of a task; they know nothing else of it.

The other half, what serving needs, is in ``inference_graph.tasks`` (how a rung is opened) and
``feature_transformer.makers`` (how an input is observed). Answers are regions with scores, such as
boxes of objects or lines of text: their *look* is made by ``feature_transformer.context``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes
from components.data.dataset import Dataset
from components.evaluation.average_precision import FrameDetections
from feature_transformer.image import Frame
from inference_graph.contract import Detections


class Answers(FrameDetections, Protocol):
    """One rung's answers to the items of a data set: regions with scores, and what they read."""

    @property
    def texts(self) -> Sequence[str] | None:
        """What each row reads, [D]; None of a task without text."""


class ScoredAnswers(Protocol):
    """Answers of R rungs to N items, scored against the truth."""

    @property
    def truths(self) -> NDArray[np.int64]:
        """Objects of each item and class that count, int64 [N, C]."""

    def accuracy(
        self, choice: NDArray[np.int64] | int, weights: NDArray[np.float64] | None = None
    ) -> float:
        """The task's measure over the whole set, 0..1; NaN where nothing counts.

        Args:
            choice: int64 [N], index of the rung that answers each item, or one rung for all.
            weights: float64 [N], how often each item counts; all ones by default.
        """

    def class_accuracies(
        self, choice: NDArray[np.int64] | int, weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """The same for each class, float64 [C]; NaN for one without objects."""

    def chosen(self, choice: NDArray[np.int64]) -> ScoredAnswers:
        """The answers of one routing alone, as those of a single rung."""

    def contributions(self) -> NDArray[np.float64]:
        """Quality: what each item's answer adds to the accuracy, float64 [N, R]."""


@dataclass(frozen=True)
class Task:
    """One task of the platform.

    Attributes:
        name: as data sets, ladders and options name it.
        title: for people.
        measure: name of the accuracy, for people.
        definition: of the measure, one sentence.
        item: what is routed, in the plural.
        truths: what is counted in them, in the plural.
        parts_title: what `parts` are, as a heading.
        parts: names of what `ScoredAnswers.class_accuracies` has figures for, by the classes.
        score: holds answers of rungs against a data set's annotations.
        draw: an input with an answer drawn in, for people: of the input, the answer, the names of
            the classes and the least score that is drawn.
        tracks: whether answers are regions that can be followed from frame to frame.
    """

    name: str
    title: str
    measure: str
    definition: str
    item: str
    truths: str
    parts_title: str
    parts: Callable[[Classes], Sequence[str]]
    score: Callable[[Dataset, Sequence[Answers], Classes], ScoredAnswers]
    draw: Callable[[Frame, Detections, Sequence[str], float], Frame]
    tracks: bool
