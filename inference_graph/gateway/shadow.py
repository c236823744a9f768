"""The reference is run beside the chosen rung on a sampled share; no answer waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Mapping

from feature_transformer.image import Frame
from foundation.errors import GearshiftError
from inference_graph.contract import REFERENCE, Answer
from inference_graph.gateway.backend import DetectorBackend

_log = logging.getLogger(__name__)

Done = Callable[[Answer | None, float], None]
"""Called with what the reference saw, None when it was given up, and the milliseconds it took."""


def sampled(event_id: str, share: float) -> bool:
    """Whether an event belongs to a share of all; always the same answer for the same event."""
    return zlib.crc32(event_id.encode()) < share * 2**32


class Shadow:
    """Looks of the reference at frames another rung answered.

    A look begins when the answer is there, so the frame it is about is not slowed, and it is left
    out while as many as allowed are at work, or frames wait for their turn: the stream comes first.
    """

    def __init__(
        self,
        backends: Mapping[str, DetectorBackend],
        share: float,
        concurrency: int = 1,
        timeout: float = 5.0,
        pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        """Sample looks of the reference.

        Args:
            backends: the way to each rung in use; without the reference nothing is sampled.
            share: of the answers, 0 to 1.
            concurrency: looks at the same time.
            timeout: seconds after which a look is given up.
            pressed: whether frames wait for their turn; then no look begins.
        """
        self._pressed = pressed
        self._backends = backends
        self._share = share
        self._concurrency = concurrency
        self._timeout = timeout
        self._looks: set[asyncio.Task[None]] = set()

    def wanted(
        self, event_id: str, answered_by: str, revision: str = "", share: float | None = None
    ) -> bool:
        """Whether the reference shall look at the frame of this event, and can.

        Args:
            event_id: decides whether it is in the sample.
            answered_by: the rung that answered.
            revision: of its weights; another revision of the reference is looked after, too.
            share: of the answers in place of the usual one, 0 to 1.
        """
        backend = self._backends.get(REFERENCE)
        return (
            backend is not None
            and (answered_by != REFERENCE or _is_another(backend, revision))
            and backend.breaker.usable
            and len(self._looks) < self._concurrency
            and not self._pressed()
            and sampled(event_id, self._share if share is None else share)
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
            backend = self._backends.get(REFERENCE)
            if backend is not None:
                answer = await backend.ask(frame, self._timeout, event_id)
        except GearshiftError as error:
            _log.info("the shadow of %s was given up: %s", event_id, error)
        finally:
            # Also when the gateway stops: the answer itself must reach the log.
            done(answer, (time.perf_counter() - start) * 1e3)


def _is_another(backend: DetectorBackend, revision: str) -> bool:
    return bool(revision) and backend.facts is not None and backend.facts.revision != revision
