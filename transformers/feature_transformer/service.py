"""The KServe transformer: an image in, the same image and the policy's decision out."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pybase64
from pydantic import Field

from feature_transformer.decoding.places import DecodedFrame, DecodingPlaces
from feature_transformer.decoding.workers import WORKERS
from feature_transformer.image import DecodeLimits
from feature_transformer.image_forms import IMAGE, IMAGE_FACTS, SentImage, of_tensor, of_v1
from feature_transformer.makers import ObservationMaker
from feature_transformer.observation import (
    LADDER,
    Features,
    context_features,
)
from feature_transformer.router_client import RouterClient
from feature_transformer.sent_context import SentContext, read_context
from foundation.configuration import configuration
from foundation.errors import InvalidInput
from serving_kit.model_service import ModelService, V1Body
from serving_kit.server_metrics import ServerMetrics
from serving_kit.tensors import BYTES, Tensor, TensorFacts, V2Answer, V2Request
from serving_kit.v2_rest import read_json

CONTEXT = "context"
ROUTE = "route"
MODEL, ACTION, PROBABILITIES, SHADOW = "model", "action", "probabilities", "shadow"


@configuration
class TransformerOptions:
    """How frames are prepared and sampled.

    Attributes:
        shadow_share: share of the requests that the reference sees as well, 0 to 1; the same
            request is always sampled alike, and one that goes to large anyway never is.
        threads: frames that may be decoded at once.
        max_waiting: requests that may wait; more are refused with 503.
        max_wait_ms: a frame that is not decoded after this time is refused with 504.
        max_image_bytes: length of an encoded image in bytes.
        max_pixels: width times height, read from the header before anything is decoded.
    """

    shadow_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    threads: Annotated[int, Field(ge=1)] = 2
    max_waiting: Annotated[int, Field(ge=1)] = 64
    max_wait_ms: Annotated[float, Field(ge=1, le=600_000)] = 10_000.0
    max_image_bytes: Annotated[int, Field(ge=1)] = DecodeLimits.max_bytes
    max_pixels: Annotated[int, Field(ge=1)] = DecodeLimits.max_pixels


@dataclass(frozen=True)
class Routed:
    """The decision for one request.

    Attributes:
        model: the rung that shall look.
        action: its place in the ladder.
        probabilities: one per rung.
        shadow: whether the reference sees the frame too.
        revision: the policy's.
    """

    model: str
    action: int
    probabilities: tuple[float, ...]
    shadow: bool
    revision: str


class TransformerService(ModelService):
    """Prepares frames in threads, decodes them in processes, and asks the router."""

    kind: ClassVar[str] = "transformer"
    inputs = IMAGE_FACTS
    outputs: tuple[TensorFacts, ...] = (
        *IMAGE_FACTS,
        TensorFacts(MODEL, BYTES, (1,)),
        TensorFacts(ACTION, "INT64", (1,)),
        TensorFacts(PROBABILITIES, "FP32", (len(LADDER),)),
        TensorFacts(SHADOW, "BOOL", (1,)),
    )

    def __init__(
        self,
        connect: Callable[[], RouterClient],
        options: TransformerOptions | None = None,
        name: str = "feature-transformer",
        wait_for_router: bool = False,
    ) -> None:
        """Serve a router's transformer.

        Args:
            connect: makes the router's client, on the event loop that serves.
            options: how frames are prepared and sampled.
            name: the model's name.
            wait_for_router: whether to be ready only while the router is.
        """
        super().__init__(name)
        self._connect = connect
        self._client: RouterClient | None = None
        self._options = options or TransformerOptions()
        self._limits = DecodeLimits(
            max_bytes=self._options.max_image_bytes, max_pixels=self._options.max_pixels
        )
        self._wait_for_router = wait_for_router
        self._places = DecodingPlaces(
            self._options.threads, self._options.max_waiting, self._report_waiting
        )
        self._metrics: ServerMetrics | None = None

    async def start(self, metrics: ServerMetrics) -> None:
        """Begin to work on the running event loop."""
        self._metrics = metrics
        self._client = self._connect()
        await asyncio.to_thread(WORKERS.start)

    async def ready(self) -> bool:
        """Whether requests can be answered now."""
        return not self._wait_for_router or await self._router.ready()

    async def answer_v1(self, body: V1Body, headers: Mapping[str, str]) -> dict[str, Any]:
        """The body as it came, with the ``route`` added.

        Raises:
            InvalidInput: not exactly one image, or a context that is none.
            GearshiftError: whatever the router refuses, under the same status.
        """
        images = of_v1(body)
        if len(images) != 1:
            raise InvalidInput(f"{len(images)} images came; a route is for one, send one")
        if isinstance(body, bytes):
            encoded = pybase64.b64encode_as_string(body)
            body = {"instances": [{IMAGE: {"b64": encoded}}]}
        context = read_context(body.get(CONTEXT))
        identifier = body.get("id")
        routed = await self._route(
            images[0], context, headers, identifier if isinstance(identifier, str) else ""
        )
        route = {
            MODEL: routed.model,
            ACTION: routed.action,
            PROBABILITIES: list(routed.probabilities),
            SHADOW: routed.shadow,
            "revision": routed.revision,
        }
        return {**body, ROUTE: route}

    async def answer_v2(self, request: V2Request, headers: Mapping[str, str]) -> V2Answer:
        """The image as it came, with the decision as tensors beside it.

        Raises:
            InvalidInput: other tensors than this service takes or gives, or a context that is
                none.
            GearshiftError: whatever the router refuses, under the same status.
        """
        sent = request.only(IMAGE)
        context = read_context(_json_parameter(request, CONTEXT))
        routed = await self._route(of_tensor(sent), context, headers, request.id)
        tensors = {
            IMAGE: sent,
            MODEL: Tensor.of_text(MODEL, (routed.model,)),
            ACTION: Tensor.of(ACTION, np.array([routed.action], np.int64)),
            PROBABILITIES: Tensor.of(PROBABILITIES, np.array(routed.probabilities, np.float32)),
            SHADOW: Tensor.of(SHADOW, np.array([routed.shadow])),
        }
        unknown = [name for name in request.outputs if name not in tensors]
        if unknown:
            raise InvalidInput(
                f"there is no output {unknown[0][:60]!r}; ask for {', '.join(tensors)}"
            )
        wanted = request.outputs or tuple(tensors)
        return V2Answer(tuple(tensors[name] for name in wanted), {"revision": routed.revision})

    async def close(self) -> None:
        """End the threads and the connection."""
        self._places.close()
        if self._client is not None:
            await self._client.close()

    @property
    def _router(self) -> RouterClient:
        if self._client is None:
            raise RuntimeError("the service was not started")
        return self._client

    async def _route(
        self, image: SentImage, context: SentContext, headers: Mapping[str, str], identifier: str
    ) -> Routed:
        start = time.perf_counter()
        facts, weight = await self._router.facts(), context.latency_weight
        if weight is None:
            weight = facts.latency_weight
        seen, milliseconds = await self._observe(image, context, weight, facts.maker)
        asked = time.perf_counter()
        decision = await self._router.decide(seen, headers)
        done = time.perf_counter()
        milliseconds |= {"decide": (done - asked) * 1e3, "total": (done - start) * 1e3}
        if self._metrics is not None:
            self._metrics.stages(milliseconds)
        key = (headers.get("x-request-id") or identifier).encode() or _content(image)
        model = LADDER[decision.action]
        shadow = model != LADDER[-1] and is_sampled(key, self._options.shadow_share)
        return Routed(model, decision.action, decision.probabilities, shadow, decision.revision)

    async def _observe(
        self, image: SentImage, context: SentContext, weight: float, maker: ObservationMaker
    ) -> tuple[Features, dict[str, float]]:
        """The observation and the milliseconds it took, made in a thread."""

        def work(frame: DecodedFrame) -> tuple[Features, dict[str, float]]:
            begun = time.perf_counter()
            look = context.look(*frame.pixels.shape[:2])
            given = context_features(look, context.load_ms, weight)
            seen = maker.observation(frame.pixels, given)
            spent = {"queue": frame.wait_ms, "decode": frame.decode_ms}
            return seen, spent | {"observe": (time.perf_counter() - begun) * 1e3}

        deadline = time.monotonic() + self._options.max_wait_ms / 1e3
        return await self._places.run(lambda: image.examined(self._limits), work, deadline)

    def _report_waiting(self, count: int) -> None:
        if self._metrics is not None:
            self._metrics.waiting.set(count)


def is_sampled(key: bytes, share: float) -> bool:
    """Whether a request is of the sampled share: always the same for the same key.

    Args:
        key: the request's identity.
        share: 0 to 1.
    """
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) < share * 2**64


def _content(image: SentImage) -> bytes:
    if image.encoded is not None:
        return image.encoded
    return b"" if image.pixels is None else image.pixels.tobytes()


def _json_parameter(request: V2Request, name: str) -> Any:
    """The value of a parameter that holds JSON; None without it."""
    text = request.parameters.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidInput(f"the parameter {name!r} is no text; send JSON in it")
    try:
        return read_json(text.encode())
    except InvalidInput as error:
        raise InvalidInput(f"the parameter {name!r} is no JSON") from error
