"""Reading text in images: lines of text, measured by how many of their characters are right."""

from components.tasks.contract import Task
from components.tasks.ocr.draw import draw_texts
from components.tasks.ocr.score import score_texts
from components.tasks.texts import PARTS
from inference_graph.tasks.ocr.reader import OCR

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
    score=score_texts,
    draw=draw_texts,
    tracks=False,
)
