"""Reading text in images: lines of text, measured by 1 less the normalised edit distance.

1-NED is that of ICDAR 2019's competition on reading text in the wild.
"""

from functools import partial

from components.tasks.contract import Task
from components.tasks.ocr.draw import draw_texts
from components.tasks.texts import PARTS, scored_texts
from inference_graph.tasks.ocr.reader import OCR
from inference_graph.tasks.ocr.reading import normal, one_minus_ned

TASK = Task(
    name=OCR,
    title="Reading text",
    measure="1 − normalised edit distance",
    definition="1 less the edit distance over the length of the longer text, as a mean over the "
    "images; characters count, and runs of white space as one space.",
    item="images",
    truths="texts",
    parts_title="By text and word",
    parts=lambda classes: PARTS,
    score=partial(scored_texts, normal=normal, likeness=one_minus_ned),
    draw=draw_texts,
    tracks=False,
)
