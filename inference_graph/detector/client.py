"""Calling a rung over V2 gRPC with raw pixels, no more of them than its network sees."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import cv2
import numpy as np

from feature_transformer.image import Frame, check_frame
from inference_graph.contract import Answer
from inference_graph.detector import wire
from inference_graph.detector.letterbox import Letterbox
from inference_graph.detector.wire import DetectorFacts
from serving_kit.inference_protocol import InferenceChannel
from serving_kit.tensors import Tensor

_FACTS_SECONDS = 5.0
_INLINE_PIXELS = 1_500_000
"""Larger frames are scaled in a thread, or the event loop would stand still meanwhile."""


class RungClient:
    """One rung behind an address; use it on one event loop.

    Attributes:
        rung: its place in the ladder.
        target: host:port of its gRPC server.
    """

    def __init__(
        self, rung: str, target: str, use_ssl: bool = False, model: str | None = None
    ) -> None:
        """Prepare the connection; it is made when first used.

        Args:
            rung: which one.
            target: host:port.
            use_ssl: whether the server uses TLS.
            model: the model's name there; the rung's without it.
        """
        self.rung = rung
        self.target = target
        self._channel = InferenceChannel(model or rung, target, use_ssl)
        self._facts: DetectorFacts | None = None

    async def facts(self) -> DetectorFacts:
        """What the detector's numbers mean; asked once and again after its weights changed.

        Raises:
            Unavailable: the service does not answer.
            DeadlineExceeded: no answer in time.
            ModelError: the address is another service's.
        """
        if self._facts is None:
            self._facts = await self._ask_facts(_FACTS_SECONDS)
        return self._facts

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        """Find objects.

        The frame is scaled here to what the network sees of it, by the call that the service
        would make itself, so the boxes are those of the whole frame and far fewer bytes travel.

        Args:
            frame: uint8 [height, width, 3], BGR.
            timeout: seconds until the call is given up.
            frame_id: what the caller calls the frame.

        Returns:
            Detections in pixels of ``frame``. The milliseconds are those of the service, its
            queue and this side's scaling included; ``wire`` is what the way there and back took.

        Raises:
            ImageError: the array is no frame.
            Unavailable: the service does not answer, or too many wait there.
            DeadlineExceeded: no answer in time.
            InvalidInput: the service refuses the frame.
            ModelError: the service failed, or is another rung's.
        """
        check_frame(frame)
        start = time.perf_counter()
        facts = self._facts
        if facts is None:
            self._facts = facts = await self._ask_facts(timeout)
        height, width = frame.shape[:2]
        placed = Letterbox.fit((height, width), facts.input_size)
        scaled_from = time.perf_counter()
        sent = frame
        if placed.inner_size[0] * placed.inner_size[1] < height * width:
            inline = height * width <= _INLINE_PIXELS
            sent = (
                _scaled(frame, placed)
                if inline
                else await asyncio.to_thread(_scaled, frame, placed)
            )
        scaling = time.perf_counter() - scaled_from
        tensors, parameters = await self._channel.infer(
            (Tensor.of(wire.IMAGE, sent),),
            timeout=max(timeout - (time.perf_counter() - start), 0.0),
            parameters={wire.FRAME_ID: frame_id} if frame_id else None,
        )
        answer = wire.read_answer(tensors, parameters, self.rung)
        if answer.revision != facts.revision:
            self._facts = None  # other weights may have other classes and another input
        spent = dict(answer.milliseconds)
        elapsed = (time.perf_counter() - start) * 1e3
        wire_ms = max(elapsed - scaling * 1e3 - sum(spent.values()), 0.0)
        spent["preprocess"] = spent.get("preprocess", 0.0) + scaling * 1e3
        found = answer.detections
        if sent is not frame:
            boxes = _to_frame(found.boxes, placed)
            found = dataclasses.replace(found, boxes=boxes)
        return dataclasses.replace(
            answer, detections=found, milliseconds={**spent, "wire": wire_ms}
        )

    async def ready(self) -> bool:
        """Whether the rung is ready to answer now."""
        return await self._channel.ready()

    async def close(self) -> None:
        """Close the connection; calls in flight fail with Unavailable."""
        await self._channel.close()

    async def _ask_facts(self, timeout: float) -> DetectorFacts:
        tensors, _ = await self._channel.infer((), timeout=timeout, outputs=sorted(wire.FACT_NAMES))
        return wire.read_facts(tensors, self.rung)


def _scaled(frame: Frame, placed: Letterbox) -> Frame:
    height, width = placed.inner_size
    resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def _to_frame(boxes: np.ndarray, placed: Letterbox) -> np.ndarray:
    """Boxes in pixels of the scaled frame, in pixels of the frame."""
    (height, width), (inner_height, inner_width) = placed.frame_size, placed.inner_size
    gain = np.array([width / inner_width, height / inner_height] * 2, np.float32)
    return boxes * gain
