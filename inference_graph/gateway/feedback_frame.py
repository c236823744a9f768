"""The frame that a piece of feedback is about: found, made fit to be kept, or gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from feature_transformer.image import DecodeLimits, decode
from inference_graph.gateway.held_frames import HeldFrames
from inference_graph.gateway.kept_image import image_is_sampled, kept_image

Kept = Literal["stored", "logged", "gone"]

_SENTENCES: dict[Kept, str] = {
    "stored": "the frame is stored beside the feedback",
    "logged": "the prediction log keeps the frame of this answer",
    "gone": "the frame is not there any more, so nothing can be trained on this; give feedback "
    "sooner, or import annotated images",
}


@dataclass(frozen=True)
class FeedbackFrame:
    """Whether the frame of an answer was found, and where.

    Attributes:
        kept: "stored" beside the feedback, "logged" with its answer, or "gone".
        width: of the frame as it was sent, pixels; None where only the log knows.
        height: likewise.
        image: JPEG at most 640 pixels wide; None unless stored.
    """

    kept: Kept
    width: int | None = None
    height: int | None = None
    image: bytes | None = None

    @property
    def sentence(self) -> str:
        """The same for people."""
        return _SENTENCES[self.kept]


class FeedbackFrames:
    """Finds frames.

    Attributes:
        held: the newest ones.
    """

    def __init__(self, held: HeldFrames, limits: DecodeLimits, image_share: float) -> None:
        """Find frames in memory.

        Args:
            held: the newest ones.
            limits: of an image.
            image_share: share of the answers whose frame the log keeps anyway.
        """
        self.held = held
        self._limits = limits
        self._image_share = image_share

    def find(self, event_id: str) -> FeedbackFrame:
        """The frame of an answer; decodes it, so call it on a thread.

        Args:
            event_id: key of the answer.
        """
        data = self.held.get(event_id)
        if data is not None:
            frame = decode(data, self._limits)
            height, width = frame.shape[:2]
            image = kept_image(frame).get("image")
            if image is not None:
                return FeedbackFrame("stored", width, height, image)
        return FeedbackFrame("logged" if image_is_sampled(event_id, self._image_share) else "gone")
