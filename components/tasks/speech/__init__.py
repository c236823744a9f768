"""Speech to text: words of recordings, measured by the word error rate."""

from functools import partial

from components.tasks.contract import Task
from components.tasks.speech.draw import draw_words
from components.tasks.texts import PARTS, scored_texts
from inference_graph.tasks.speech.listener import SPEECH
from inference_graph.tasks.speech.words import normal, one_minus_wer

TASK = Task(
    name=SPEECH,
    title="Speech to text",
    measure="1 − word error rate",
    definition="1 less the word error rate, at least 0, as a mean over the recordings; words count "
    "in lower case and without punctuation.",
    item="recordings",
    truths="transcripts",
    parts_title="By transcript and word",
    parts=lambda classes: PARTS,
    score=partial(scored_texts, normal=normal, likeness=one_minus_wer),
    draw=draw_words,
    tracks=False,
)
