"""A frame made ready for routing: decoded under limits, without metadata, no larger than needed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from feature_transformer.frame_statistics import pixel_statistics, seen_statistics
from feature_transformer.image import DecodeLimits, Frame, check_frame, decode
from feature_transformer.observation import SCHEMA_HASH, THUMBNAIL, Features, frame_features
from foundation.configuration import configuration
from inference_graph.streams.messages import FRAME, FrameMessage, OutgoingMessage, event_headers

OBSERVATION_HEADER = "gearshift-observation"
"""Base64 of the frame's part of the observation: float32, little endian."""
SCHEMA_HEADER = "gearshift-observation-schema"
"""Hash of the schema that the observation follows."""


@configuration
class PreparationConfig:
    """How frames are prepared.

    Attributes:
        longer_side: larger frames are scaled down until their longer side has so many pixels;
            give that of the largest rung's input.
        jpeg_quality: of the frames that are published, 1..100.
        repeat_level: a frame repeats the one published before it where no cell of its 32x32 grey
            thumbnail differs by more of 255 grey levels; 0 drops identical ones only.
        repeat_seconds: a frame that repeats is published all the same after so many seconds;
            0 drops none.
        samples: frames of a minute whose figures stand in its statistics one by one.
        max_pixels: width times height of a frame at most.
        max_bytes: length of an encoded frame at most.
    """

    longer_side: Annotated[int, Field(ge=32, le=16_384)] = 640
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    repeat_level: Annotated[float, Field(ge=0, le=255)] = 2.0
    repeat_seconds: Annotated[float, Field(ge=0, le=86_400)] = 2.0
    samples: Annotated[int, Field(ge=0, le=60)] = 4
    max_pixels: Annotated[int, Field(ge=1, le=10**9)] = DecodeLimits.max_pixels
    max_bytes: Annotated[int, Field(ge=1, le=10**9)] = DecodeLimits.max_bytes


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame as it is published, with what is measured on it.

    Attributes:
        image: the JPEG; it has no metadata, and its pixels are upright.
        features: float32 [1028], the frame's part of the observation, of that JPEG.
        statistics: brightness, edge_density, blur and noise of that JPEG.
    """

    image: bytes
    features: Features
    statistics: Mapping[str, float]

    @property
    def thumbnail(self) -> bytes:
        """The grey levels of the 32x32 thumbnail, row by row."""
        grey = np.rint(self.features[: THUMBNAIL * THUMBNAIL] * 255)
        return grey.astype(np.uint8).tobytes()


def prepare(data: bytes, config: PreparationConfig) -> PreparedFrame:
    """Decode a frame under limits, and encode what of it the rungs need.

    Args:
        data: the encoded image, from an unknown source.
        config: limits, size and quality.

    Raises:
        ImageError: no image, a format or size beyond the limits, cut short, or damaged.
        Unavailable: no process can be started to decode it.
    """
    frame = decode(data, DecodeLimits(max_bytes=config.max_bytes, max_pixels=config.max_pixels))
    check_frame(frame, sound=False)  # what is published is a JPEG
    quality = [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
    image = cv2.imencode(".jpg", _shrunk(frame, config.longer_side), quality)[1].tobytes()
    # Measured on what is published, as whoever receives it would.
    published = decode(image)
    features = frame_features(published)
    statistics = seen_statistics(features) | pixel_statistics(published)
    return PreparedFrame(image, features, statistics)


def prepared_message(topic: str, frame: FrameMessage, prepared: PreparedFrame) -> OutgoingMessage:
    """The message of a prepared frame: that of its camera, with the new image.

    Args:
        topic: where it goes.
        frame: what came.
        prepared: what it became.
    """
    seen = base64.b64encode(prepared.features.astype("<f4").tobytes())
    headers = event_headers(FRAME, frame.frame_id, frame.source, frame.time, "image/jpeg")
    headers += [(OBSERVATION_HEADER, seen), (SCHEMA_HEADER, SCHEMA_HASH.encode())]
    return OutgoingMessage(topic, frame.camera.encode(), prepared.image, headers)


def _shrunk(frame: Frame, longer_side: int) -> Frame:
    height, width = frame.shape[:2]
    scale = longer_side / max(height, width)
    if scale >= 1:
        return frame
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
