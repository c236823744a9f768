"""The KServe service of one rung: images of any form in, detections out."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from prometheus_client import Histogram
from pydantic import Field

from feature_transformer.decoding.places import DecodedFrame, DecodingPlaces
from feature_transformer.image import DecodeLimits, Frame
from feature_transformer.image_forms import SentImage, of_tensor, of_v1
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.gpu import watch_gpus
from foundation.metrics import BATCH_IMAGES, RUNG
from inference_graph.contract import Answer
from inference_graph.detections import read_filter
from inference_graph.detector import wire
from inference_graph.detector.batching import BatchOptions, MicroBatcher
from inference_graph.detector.concurrency import ConcurrencyTracker
from inference_graph.tasks.rung import Rung
from serving_kit.model_service import ModelService, V1Body
from serving_kit.server_metrics import ServerMetrics
from serving_kit.tensors import V2Answer, V2Request


@configuration
class ImageOptions:
    """What images are accepted.

    Attributes:
        max_image_bytes: length of an encoded image in bytes.
        max_pixels: width times height, read from the header before anything is decoded.
    """

    max_image_bytes: Annotated[int, Field(ge=1)] = DecodeLimits.max_bytes
    max_pixels: Annotated[int, Field(ge=1)] = DecodeLimits.max_pixels

    def limits(self) -> DecodeLimits:
        """The same for the decoder."""
        return DecodeLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_pixels)


class DetectorService(ModelService):
    """Answers for one detector; inference runs in the batcher's threads, decoding before it.

    Attributes:
        facts: what the detector's numbers mean.
    """

    kind: ClassVar[str] = "detector"
    inputs = wire.INPUTS
    outputs = wire.OUTPUTS

    def __init__(
        self,
        detector: Rung,
        batching: BatchOptions | None = None,
        limits: DecodeLimits | None = None,
        name: str | None = None,
    ) -> None:
        """Serve a detector.

        Args:
            detector: the loaded rung.
            batching: how requests are gathered.
            limits: what images are decoded.
            name: the model's name; the rung's without it.

        Raises:
            ConfigurationError: batches asked of a network that takes one image at a time.
        """
        super().__init__(name or detector.config.rung)
        self._batching = batching or BatchOptions()
        if self._batching.batch_size > 1 and not detector.batches:
            raise ConfigurationError(
                f"batch_size is {self._batching.batch_size}, but {detector.config.weights} takes "
                "one image at a time; give 1, or export it with a free batch axis"
            )
        self._detector = detector
        self._limits = limits or DecodeLimits()
        self._batcher: MicroBatcher[Frame, Answer] | None = None
        self._places = DecodingPlaces(self._batching.lanes, self._batching.max_waiting)
        self._concurrency = ConcurrencyTracker()
        self._metrics: ServerMetrics | None = None
        self._batch_images: Histogram | None = None
        self.facts = wire.DetectorFacts(
            detector.class_names, detector.category_ids, detector.input_size, detector.revision
        )

    async def start(self, metrics: ServerMetrics) -> None:
        """Begin to work on the running event loop."""
        self._metrics = metrics
        config = self._detector.config
        RUNG.expose_info(metrics.registry, rung=config.rung, revision=self._detector.revision)
        self._batch_images = BATCH_IMAGES.histogram(metrics.registry).labels(self.name)
        watch_gpus(metrics.registry)
        self._batcher = MicroBatcher(self._run, self._batching, metrics.waiting.set)

    async def ready(self) -> bool:
        """Whether requests can be answered now."""
        return self._batcher is not None

    async def answer_v1(self, body: V1Body, headers: Mapping[str, str]) -> dict[str, Any]:
        """Detections for every instance, in their order.

        Raises:
            InvalidInput: no images, or one that cannot be decoded.
            Unavailable: too many requests wait.
            ModelError: the runtime failed.
        """
        images = of_v1(body)
        given = body.get("parameters") if isinstance(body, Mapping) else None
        wanted = read_filter(given, self.facts.class_names)
        if len(images) == 1:
            answers = [await self._answer(images[0])]
        else:
            tasks = [asyncio.create_task(self._answer(image)) for image in images]
            try:
                answers = list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()  # after a failure, what still waits need not run
        return {
            "predictions": [wire.v1_prediction(answer, self.facts, wanted) for answer in answers]
        }

    async def answer_v2(self, request: V2Request, headers: Mapping[str, str]) -> V2Answer:
        """Detections for the image, or the detector's facts if only those are asked for.

        Raises:
            InvalidInput: other tensors than this service takes or gives, or a bad image.
            Unavailable: too many requests wait.
            ModelError: the runtime failed.
        """
        if request.outputs and wire.FACT_NAMES.issuperset(request.outputs):
            return wire.facts_answer(self.facts, request.outputs)
        image = of_tensor(request.only(wire.IMAGE))
        answer = await self._answer(image)
        frame_id = request.parameters.get(wire.FRAME_ID)
        return wire.v2_answer(answer, self.facts, request.outputs, frame_id)

    async def close(self) -> None:
        """Finish what runs, refuse what waits, end the threads."""
        if self._batcher is not None:
            await self._batcher.close()
            self._batcher = None
        self._places.close()

    async def _answer(self, image: SentImage) -> Answer:
        if self._batcher is None or self._metrics is None:
            raise RuntimeError("the service was not started")
        with self._concurrency.request():
            if image.encoded is None:
                frame = DecodedFrame(image.pixels_within(self._limits), 0.0, 0.0)
            else:
                deadline = time.monotonic() + self._batching.max_wait_ms / 1e3
                frame = await self._places.run(
                    lambda: image.examined(self._limits), _itself, deadline
                )
            batched = await self._batcher.submit(frame.pixels)
        milliseconds = {
            "decode": frame.decode_ms,
            **batched.value.milliseconds,
            "queue": frame.wait_ms + batched.queue_ms,
        }
        # Counted when the answer is on its way, so that it does not wait for a dozen histograms.
        asyncio.get_running_loop().call_soon(self._metrics.stages, milliseconds)
        return dataclasses.replace(batched.value, milliseconds=milliseconds)

    def _run(self, frames: Sequence[Frame]) -> list[Answer]:
        if self._batch_images is not None:
            self._batch_images.observe(len(frames))
        return list(self._detector.detect_many(frames, self._concurrency.usual))


def _itself(frame: DecodedFrame) -> DecodedFrame:
    return frame
