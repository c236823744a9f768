"""Answers that are texts, compared with the texts of a data set.

An input's quality is how alike the two texts are, 0 to 1; a set's accuracy is the mean over its
inputs, so an input's quality is what it adds to it. Word accuracy is the share of the set's words
that the answers hold, each counted as often as it occurs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes
from components.data.dataset import Dataset
from components.tasks.contract import Answers
from foundation.errors import AnnotationError
from inference_graph.contract import Detections
from inference_graph.tasks.ocr.reading import text_of

PARTS = ("text", "words")
"""What `ScoredTexts.class_accuracies` has a figure for."""


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """Answers of R rungs to N inputs, compared with their texts.

    Attributes:
        quality: float64 [N, R], how alike each answer and its truth are.
        words: int64 [N, R], words of the truth that the answer holds.
        truths: int64 [N, 2], inputs with text (1 or 0), and their words.
    """

    quality: NDArray[np.float64]
    words: NDArray[np.int64]
    truths: NDArray[np.int64]

    def accuracy(
        self, choice: NDArray[np.int64] | int, weights: NDArray[np.float64] | None = None
    ) -> float:
        """Mean quality of the chosen answers; see ``ScoredAnswers``."""
        return float(self.class_accuracies(choice, weights)[0])

    def class_accuracies(
        self, choice: NDArray[np.int64] | int, weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Mean quality and word accuracy, float64 [2]; NaN for what does not occur."""
        chosen = self.chosen(np.broadcast_to(choice, (len(self.quality),)))
        weight = np.ones(len(self.quality)) if weights is None else weights
        totals = np.array([weight.sum(), weight @ self.truths[:, 1]])
        gained = np.array([weight @ chosen.quality[:, 0], weight @ chosen.words[:, 0]])
        return np.divide(gained, totals, out=np.full(2, np.nan), where=totals > 0)

    def chosen(self, choice: NDArray[np.int64]) -> ScoredTexts:
        """The answers of one routing alone; an input without an answer (-1) reads nothing."""
        rows, at = np.arange(len(choice)), np.maximum(choice, 0)
        answered = (choice >= 0) | (self.truths[:, 0] == 0)
        quality = np.where(answered, self.quality[rows, at], 0.0)
        words = np.where(answered, self.words[rows, at], 0)
        return ScoredTexts(quality[:, None], words[:, None], self.truths)

    def contributions(self) -> NDArray[np.float64]:
        """Quality of each input and rung, float64 [N, R]."""
        return self.quality


def scored_texts(
    dataset: Dataset,
    answers: Sequence[Answers],
    classes: Classes,
    *,
    normal: Callable[[str], str],
    likeness: Callable[[str, str], float],
) -> ScoredTexts:
    """Compare what the rungs answered with the texts of a data set.

    Args:
        dataset: inputs with texts.
        answers: of each rung, in the ladder's order.
        classes: not needed here; see ``Task.score``.
        normal: what counts of a text.
        likeness: of a truth and an answer, both normal, 0 to 1.

    Raises:
        AnnotationError: the data set has no texts.
        ConfigurationError: a package that compares them is not installed.
    """
    truths = [normal(dataset.text_of(index)) for index in range(len(dataset))]
    if not any(truths):
        raise AnnotationError(f"{dataset.root}: no annotation has a text; give data with texts")
    counts = [Counter(truth.split()) for truth in truths]
    quality = np.zeros((len(dataset), len(answers)))
    words = np.zeros((len(dataset), len(answers)), np.int64)
    for rung, rows in enumerate(answers):
        for index, truth in enumerate(truths):
            read = normal(text_of(_answer(rows, index)))
            quality[index, rung] = likeness(truth, read)
            words[index, rung] = (counts[index] & Counter(read.split())).total()
    held = [[int(bool(truth)), count.total()] for truth, count in zip(truths, counts, strict=True)]
    return ScoredTexts(quality, words, np.array(held, np.int64))


def _answer(rows: Answers, index: int) -> Detections:
    own = slice(int(rows.offsets[index]), int(rows.offsets[index + 1]))
    count = own.stop - own.start
    texts = ("",) * count if rows.texts is None else tuple(rows.texts[own])
    return Detections(rows.boxes[own], rows.scores[own], np.zeros(count, np.int32), texts)
