"""Frames at work at once: as many as the rungs keep up with; the others wait for their turn.

More frames at work than that only wait in the rungs' queues, where they grow too old to be of use
while they are being worked on. So the number follows what is measured: it grows while a frame's
answer takes less than twice its work, and shrinks otherwise (additive increase and decrease, as
TCP Vegas does it by delay). Turns go round by client, so that one with many streams does not delay
one with a single stream.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque

from foundation.errors import Unavailable

_LEAST, _FIRST, _MOST = 4.0, 8.0, 512.0
_SMOOTHING = 0.1
"""Weight of the newest frame in the mean time that a frame is at work."""
_MARGIN = 2.0
"""A frame must have so many times the mean left, or its answer would come too late after all."""
_SHORTEST_WORK = 5.0
"""Milliseconds; below that the measure is the event loop's own delay."""


class FairScheduler:
    """Who works on a frame now, and who is next; for one event loop."""

    def __init__(self) -> None:
        """No client is at work."""
        self._limit = _FIRST
        self._at_work = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._hold_ms: float | None = None

    @property
    def waiting(self) -> int:
        """Frames that wait for their turn."""
        return sum(map(len, self._waiting.values()))

    def expected_wait_ms(self, client: str) -> float:
        """Milliseconds that the client's next frame would wait for its turn; 0 if it would not."""
        if not self._waiting or self._hold_ms is None:
            return 0.0
        own = len(self._waiting.get(client, ())) + 1
        before = own + sum(
            min(len(queue), own) for name, queue in self._waiting.items() if name != client
        )
        return before * self._hold_ms / self._limit

    def frames_per_second(self, client: str, most: float) -> float:
        """Frames a second that the client's next stream can have, of ``most`` allowed."""
        if self._hold_ms is None:
            return most
        return min(most, 1e3 / max(self.expected_wait_ms(client) + self._hold_ms, 1e-3))

    async def enter_before(self, client: str, deadline: float) -> float:
        """Wait for a turn that leaves time to work; it is held until :meth:`leave`.

        Args:
            client: whose frame it is.
            deadline: of its answer, seconds of ``time.monotonic``.

        Returns:
            When it began, seconds of ``time.monotonic``.

        Raises:
            Unavailable: there was none in time.
        """
        left = deadline - time.monotonic()
        needed = min(_MARGIN * (self._hold_ms or 0.0) / 1e3, left / 2)
        try:
            async with asyncio.timeout(left - needed):
                return await self._enter(client)
        except TimeoutError:
            raise Unavailable(
                f"the rungs are busy with other frames ({self.waiting} wait); send fewer, or allow "
                "more time"
            ) from None

    async def _enter(self, client: str) -> float:
        if self._at_work < int(self._limit) and not self._waiting:
            self._at_work += 1
            return time.monotonic()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._at_work -= 1
                self._call_next()
            else:
                self._forget(client, turn)
            raise
        return time.monotonic()

    def leave(self, began: float, work_ms: float | None = None) -> None:
        """Give the turn to the next one.

        Args:
            began: what :meth:`enter_before` gave.
            work_ms: milliseconds of the frame that were work and no waiting; None where no answer
                came of it.
        """
        self._at_work -= 1
        if work_ms is not None:
            hold = (time.monotonic() - began) * 1e3
            mean = self._hold_ms
            self._hold_ms = hold if mean is None else mean + _SMOOTHING * (hold - mean)
            step = 1 / self._limit
            if hold > 2 * max(work_ms, _SHORTEST_WORK):
                self._limit = max(self._limit - 2 * step, _LEAST)
            elif self._waiting:
                self._limit = min(self._limit + step, _MOST)
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting and self._at_work < int(self._limit):
            client, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            if not turn.done():
                self._at_work += 1
                turn.set_result(None)

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(client)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[client]
