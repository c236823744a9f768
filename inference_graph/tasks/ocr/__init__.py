"""Reading text in images: engines that packages bring, as rungs of a ladder."""

from inference_graph.tasks.ocr.reader import OCR, TextReader
from inference_graph.tasks.ocr.reading import text_of

__all__ = ["OCR", "TextReader", "text_of"]
