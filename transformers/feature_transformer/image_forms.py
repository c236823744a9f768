"""The forms an image may be sent in: V1 JSON, a bare body, a V2 tensor of bytes or of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_transformer.image import DecodeLimits, ExaminedImage, Frame, check_frame, examined
from foundation.errors import ImageError, InvalidInput
from serving_kit.base64_text import from_base64
from serving_kit.tensors import BYTES, Tensor, TensorFacts

IMAGE = "image"
IMAGE_FACTS = (TensorFacts(IMAGE, BYTES, (1,)), TensorFacts(IMAGE, "UINT8", (-1, -1, 3)))
"""Both forms of the V2 input: an encoded image, or its pixels in BGR."""
MAX_INSTANCES = 64
"""Images of one V1 request."""


@dataclass(frozen=True)
class SentImage:
    """An image as it was sent; :meth:`examined` takes time and belongs in a thread.

    Attributes:
        encoded: a jpeg, png, webp or bmp; None when pixels were sent.
        pixels: uint8 [height, width, 3], BGR; None when an encoded image was sent.
    """

    encoded: bytes | None = None
    pixels: Frame | None = None

    def examined(self, limits: DecodeLimits) -> ExaminedImage | Frame:
        """The image examined, or the pixels that were sent.

        Raises:
            ImageError: beyond the limits, no image, or damaged.
        """
        if self.encoded is not None:
            return examined(self.encoded, limits)
        return self.pixels_within(limits)

    def pixels_within(self, limits: DecodeLimits) -> Frame:
        """The pixels that were sent.

        Raises:
            ImageError: none were, or more than are allowed.
        """
        if self.pixels is None:
            raise ImageError("no image was sent; send a jpeg, png, webp or bmp")
        height, width = self.pixels.shape[:2]
        if height * width > limits.max_pixels:
            raise ImageError(
                f"the image has {width}x{height} pixels, more than the {limits.max_pixels} "
                "allowed; send a smaller one"
            )
        return self.pixels


def of_v1(body: object) -> tuple[SentImage, ...]:
    """The images of a V1 body: an encoded image itself, or ``{"instances": [{"image": …}]}``.

    Raises:
        InvalidInput: the body has another form.
        ImageError: an instance's image is no base64.
    """
    if isinstance(body, bytes):
        return (SentImage(encoded=body),)
    instances = body.get("instances") if isinstance(body, Mapping) else None
    if not isinstance(instances, list) or not instances:
        raise InvalidInput(
            'the body has no images; send {"instances": [{"image": {"b64": "…"}}]} or the image '
            "itself with its content type"
        )
    if len(instances) > MAX_INSTANCES:
        raise InvalidInput(f"the body has {len(instances)} instances; send at most {MAX_INSTANCES}")
    return tuple(_of_instance(instance, place) for place, instance in enumerate(instances))


def of_tensor(tensor: Tensor) -> SentImage:
    """The image of a V2 tensor: BYTES [1], or UINT8 [height, width, 3].

    A BYTES element that came as JSON text is base64, because JSON cannot carry bytes.

    Raises:
        InvalidInput: the tensor has another type or shape.
    """
    if isinstance(tensor.values, tuple):
        if len(tensor.values) != 1:
            raise InvalidInput(
                f"tensor {tensor.name!r} holds {len(tensor.values)} images; send one a request"
            )
        return SentImage(encoded=tensor.values[0])
    if tensor.datatype != "UINT8" or len(tensor.shape) != 3 or tensor.shape[2] != 3:
        raise InvalidInput(
            f"tensor {tensor.name!r} is {tensor.datatype} {list(tensor.shape)}; send an encoded "
            "image as BYTES [1], or pixels in BGR as UINT8 [height, width, 3]"
        )
    pixels = np.asarray(tensor.values, np.uint8)
    check_frame(pixels)
    return SentImage(pixels=pixels)


def _of_instance(instance: Any, place: int) -> SentImage:
    image = instance.get(IMAGE) if isinstance(instance, Mapping) else None
    if not isinstance(image, Mapping) or "b64" not in image:
        raise InvalidInput(
            f'instances[{place}] has no image; send {{"image": {{"b64": "…"}}}} there'
        )
    return SentImage(encoded=from_base64(image["b64"], f"instances[{place}].image.b64"))
