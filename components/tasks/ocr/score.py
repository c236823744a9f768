"""How much of an image's text was read: normalised edit distance.

An image's quality is ``1 - edit distance / length of the longer text`` (1-NED, as in ICDAR 2019's
competition on reading text in the wild), over characters, with runs of white space as one space.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.data.classes import Classes
from components.data.dataset import Dataset
from components.tasks.contract import Answers
from components.tasks.texts import ScoredTexts, scored_texts
from inference_graph.tasks.ocr.reading import normal, one_minus_ned


def score_texts(dataset: Dataset, answers: Sequence[Answers], classes: Classes) -> ScoredTexts:
    """Hold what the rungs read against the texts of a data set.

    Args:
        dataset: images with texts.
        answers: of each rung, in the ladder's order.
        classes: not needed here; see ``Task.score``.

    Raises:
        AnnotationError: the data set has no texts.
        ConfigurationError: the extra ``ocr`` is not installed.
    """
    return scored_texts(dataset, answers, normal, one_minus_ned)
