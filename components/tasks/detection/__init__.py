"""Object detection: boxes of objects, measured by mAP50-95."""

from components.evaluation.average_precision import match_detections
from components.tasks.contract import Task
from feature_transformer.makers import DETECTION
from inference_graph.local_video.annotate import draw_boxes

TASK = Task(
    name=DETECTION,
    title="Object detection",
    measure="mAP50-95",
    item="frames",
    parts=lambda classes: classes.names,
    score=match_detections,
    draw=draw_boxes,
    tracks=True,
)
