"""How much of what is said was written down: the word error rate.

A recording's quality is ``1 - word error rate``, at least 0: substituted, left out and added words
over the words said, in lower case and without punctuation.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.data.classes import Classes
from components.data.dataset import Dataset
from components.tasks.contract import Answers
from components.tasks.texts import ScoredTexts, scored_texts
from inference_graph.tasks.speech.words import normal, one_minus_wer


def score_transcripts(
    dataset: Dataset, answers: Sequence[Answers], classes: Classes
) -> ScoredTexts:
    """Compare what the rungs recognized with the transcripts of a data set.

    Args:
        dataset: recordings with transcripts.
        answers: of each rung, in the ladder's order.
        classes: not needed here; see ``Task.score``.

    Raises:
        AnnotationError: the data set has no transcripts.
        ConfigurationError: the extra ``speech`` is not installed.
    """
    return scored_texts(dataset, answers, normal, one_minus_wer)
