"""The reference looks beside the chosen rung, on a sampled share, and nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable

from feature_transformer.errors import GearshiftError
from feature_transformer.image import Frame
from inference_graph.contract import REFERENCE, Answer
from inference_graph.gateway.lane import Lane

_log = logging.getLogger(__name__)

Done = Callable[[Answer | None, float], None]
"""Called with what the reference saw, None when it was given up, and the milliseconds it took."""


def sampled(event_id: str, share: float) -> bool:
    """Whether an event belongs to a share of all; always the same answer for the same event."""
    return zlib.crc32(event_id.encode()) < share * 2**32


class Shadow:
    """Looks of the reference at frames another rung answered.

    A look begins when the answer is there, so the frame it is about is not slowed, and it is left
    out while as many as allowed are at work: on a small machine the stream comes first.
    """

    def __init__(
        self, lane: Lane | None, share: float, concurrency: int = 1, timeout: float = 5.0
    ) -> None:
        """Sample looks of the reference.

        Args:
            lane: the way to it; without one nothing is sampled.
            share: of the answers, 0 to 1.
            concurrency: looks at the same time.
            timeout: seconds after which a look is given up.
        """
        self._lane = lane
        self._share = share
        self._concurrency = concurrency
        self._timeout = timeout
        self._looks: set[asyncio.Task[None]] = set()

    def wanted(self, event_id: str, answered_by: str) -> bool:
        """Whether the reference shall look at the frame of this event, and can."""
        return (
            self._lane is not None
            and answered_by != REFERENCE
            and self._lane.breaker.usable
            and len(self._looks) < self._concurrency
            and sampled(event_id, self._share)
        )

    def start(self, frame: Frame, event_id: str, done: Done) -> asyncio.Task[None]:
        """Begin a look; ``done`` is called when it ended or was given up.

        Args:
            frame: uint8 [height, width, 3], BGR.
            event_id: for the detector's log.
            done: what to do with it; it must not fail.
        """
        task = asyncio.get_running_loop().create_task(self._look(frame, event_id, done))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)
        return task

    async def settle(self) -> None:
        """Wait for the looks that are at work."""
        if self._looks:
            await asyncio.wait(set(self._looks), timeout=self._timeout + 1)

    async def _look(self, frame: Frame, event_id: str, done: Done) -> None:
        start = time.perf_counter()
        answer: Answer | None = None
        try:
            if self._lane is not None:
                answer = await self._lane.ask(frame, self._timeout, event_id)
        except GearshiftError as error:
            _log.info("the shadow of %s was given up: %s", event_id, error)
        finally:
            # Also when the gateway stops: the answer itself must reach the log.
            done(answer, (time.perf_counter() - start) * 1e3)
