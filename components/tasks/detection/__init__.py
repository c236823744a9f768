"""Object detection: boxes of objects, measured by mAP50-95."""

from components.evaluation.average_precision import match_detections
from components.tasks.contract import Task
from feature_transformer.makers import DETECTION
from inference_graph.local_video.annotate import draw_boxes

TASK = Task(
    name=DETECTION,
    title="Object detection",
    measure="mAP50-95",
    definition="Mean average precision over classes and over overlaps of 50 to 95 %, as COCO "
    "defines it.",
    item="frames",
    truths="objects",
    parts_title="By class",
    parts=lambda classes: classes.names,
    score=match_detections,
    draw=draw_boxes,
    tracks=True,
)
