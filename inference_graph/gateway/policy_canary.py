"""A new policy beside the one in use: which frames it decides for."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from inference_graph.router import Policy


@dataclass(frozen=True)
class PolicyCanary:
    """A new policy that decides for a share of the frames.

    Attributes:
        policy: it.
        weight: its share, whole per cent.
        salt: what its draws depend on beside stream and segment.
        segment_frames: frames of a stream for which one draw counts.
        looks: shares of its frames and of the others at which the reference looks.
    """

    policy: Policy
    weight: int = 0
    salt: str = ""
    segment_frames: int = 100
    looks: tuple[float, float] | None = None

    def decides(self, session: str, frame_id: int | None) -> bool:
        """Whether it decides for a frame.

        A stream's segment has one draw, which stays when the weight rises; a single image has one
        of its own.

        Args:
            session: the stream's name.
            frame_id: number of the frame there; None for a single image.
        """
        if frame_id is None:
            return random.randrange(100) < self.weight
        text = f"{self.salt} {session} {frame_id // self.segment_frames}"
        draw = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
        return draw * 100 < self.weight * 2**32
