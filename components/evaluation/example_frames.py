"""Three held-out frames to look at: the easiest, the hardest, and the most regretted one."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data.dataset import Dataset
from components.profiling.detections import RungDetections
from components.profiling.replay import Replay
from components.tasks import task_named
from inference_graph.contract import LADDER, Detections

_SCORE = 0.25
_LONGEST = 640
"""Pixels of a picture's longer side."""


@dataclass(frozen=True)
class ExampleFrame:
    """A frame with the boxes of the rung that the policy chose.

    Attributes:
        kind: "easiest", "hardest" or "most regretted".
        chosen: the rung.
        best: the rung with the highest reward.
        objects: detections that are drawn.
        quality: of each rung on this frame.
        regret: reward of the best rung less the chosen one's.
        picture: ``data:`` URI of a JPEG.
    """

    kind: str
    chosen: str
    best: str
    objects: int
    quality: Mapping[str, float]
    regret: float
    picture: str


def example_frames(
    replay: Replay,
    data: Dataset,
    found: Sequence[RungDetections],
    choice: NDArray[np.int64],
    latency_weight: float,
) -> list[ExampleFrame]:
    """Choose and draw them.

    The easiest frame is the one on which the cheapest rung loses least against the heaviest, the
    hardest the one on which it loses most; of equal ones, that with the most objects counts. The
    most regretted one is where the chosen rung's reward is furthest below the best one's.

    Args:
        replay: the held-out frames.
        data: the data set with their pictures.
        found: detections of each rung.
        choice: the policy's rungs, int64 [N].
        latency_weight: of the operating point.

    Raises:
        ImageError: a picture is missing or damaged.
    """
    seen = [rows.select(replay.image_ids.tolist()) for rows in found]
    loss = (replay.quality[:, -1] - replay.quality[:, 0]).round(6)
    objects = np.array([len(_drawn(seen[-1], index).scores) for index in range(len(replay))])
    reward = replay.reward(latency_weight)
    rows = np.arange(len(replay))
    regret = reward.max(axis=1) - reward[rows, choice]
    chosen = {
        "easiest": int(np.lexsort((-objects, loss))[0]),
        "hardest": int(np.lexsort((-objects, -loss))[0]),
        "most regretted": int(regret.argmax()),
    }
    draw = task_named(data.task).draw
    places = {image.id: place for place, image in enumerate(data.images)}
    examples = []
    for kind, index in chosen.items():
        rung = int(choice[index])
        answer = _drawn(seen[rung], index)
        frame = data.read(places[int(replay.image_ids[index])])
        examples.append(
            ExampleFrame(
                kind,
                LADDER[rung],
                LADDER[int(reward[index].argmax())],
                len(answer.scores),
                dict(zip(LADDER, replay.quality[index].tolist(), strict=True)),
                float(regret[index]),
                _jpeg(draw(frame, answer, found[rung].class_names, _SCORE)),
            )
        )
    return examples


def _drawn(rows: RungDetections, index: int) -> Detections:
    return rows.of(index).at_least(_SCORE)


def _jpeg(image: NDArray[np.uint8]) -> str:
    scale = _LONGEST / max(image.shape[:2])
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale), np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
