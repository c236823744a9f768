"""The image of a frame that the log keeps, so that people can see what was decided on."""

from __future__ import annotations

import cv2

from feature_transformer.image import Frame
from feature_transformer.sound import holds_sound, sound_of_frame, wav_of
from inference_graph.gateway.shadow import sampled

KEPT_WIDTH = 640
"""Wider frames are scaled down to it."""
_QUALITY = 80


def kept_image(frame: Frame) -> dict[str, bytes]:
    """The field ``image`` of a frame's row.

    The frame is encoded anew, so whatever else stood in the client's file (position, camera,
    owner) is not kept.

    Args:
        frame: uint8 [height, width, 3], BGR.

    Returns:
        ``image``, a JPEG at most 640 pixels wide, or a WAV of a recording; nothing where it cannot
        be encoded.
    """
    if holds_sound(frame):
        return {"image": wav_of(sound_of_frame(frame))}
    height, width = frame.shape[:2]
    if width > KEPT_WIDTH:
        size = KEPT_WIDTH, max(round(height * KEPT_WIDTH / width), 1)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]  # cv2 knows no dtype
    try:
        made, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    except cv2.error:
        return {}  # JPEG ends at 65,535 pixels
    return {"image": data.tobytes()} if made else {}


def image_is_sampled(event_id: str, share: float) -> bool:
    """Whether an answer is among those whose frame the log keeps.

    Args:
        event_id: its key.
        share: of the answers, 0 to 1.
    """
    # Another text than the key: this sample must not depend on the shadow's.
    return sampled(f"image {event_id}", share)
