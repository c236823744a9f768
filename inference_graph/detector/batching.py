"""Dynamic micro-batching: requests that wait at the same time share a run, none waits for long.

A free worker takes what waits at once, up to the batch's size; only with a wait configured does
it hold back for more. While all workers are busy, requests gather by themselves. A network that
takes one image at a time has batches of one, and the workers run them side by side in the order
they came.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from pydantic import Field

from foundation.configuration import configuration
from foundation.errors import DeadlineExceeded, Unavailable

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@configuration
class BatchOptions:
    """How requests are gathered.

    Attributes:
        batch_size: most images of one inference; more than 1 needs weights with a free batch axis.
        batch_wait_ms: longest time a request is held back for others to share its batch.
        lanes: inferences that may run at once.
        max_waiting: requests that may wait; more are refused with 503.
        max_wait_ms: a request that waited longer is answered 504 and not run.
    """

    batch_size: Annotated[int, Field(ge=1, le=256)] = 1
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    lanes: Annotated[int, Field(ge=1, le=64)] = 2
    max_waiting: Annotated[int, Field(ge=1, le=100_000)] = 64
    max_wait_ms: Annotated[float, Field(ge=1, le=600_000)] = 10_000.0


@dataclass(frozen=True)
class Batched(Generic[_Result]):
    """A result and how long it was waited for.

    Attributes:
        value: the result.
        queue_ms: milliseconds between the request and the start of its run.
    """

    value: _Result
    queue_ms: float


@dataclass(eq=False)  # an entry is itself, whatever its item is equal to
class _Waiting(Generic[_Item, _Result]):
    item: _Item
    since: float
    answer: asyncio.Future[Batched[_Result]]


class MicroBatcher(Generic[_Item, _Result]):
    """Gathers items on an event loop and runs them in threads.

    Make it and call it on one event loop.
    """

    def __init__(
        self,
        run: Callable[[Sequence[_Item]], Sequence[_Result | Exception]],
        options: BatchOptions,
        on_waiting: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Start without work.

        Args:
            run: called in a thread with 1 to ``batch_size`` items; gives, in their order, each
                one's result or the exception that is its own.
            options: how items are gathered.
            on_waiting: called with the number of waiting items whenever it changes.
        """
        self._run = run
        self._options = options
        self._on_waiting = on_waiting
        self._waiting: deque[_Waiting[_Item, _Result]] = deque()
        self._free = options.lanes
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._pool = ThreadPoolExecutor(options.lanes, thread_name_prefix="inference")
        self._closed = False

    async def submit(self, item: _Item) -> Batched[_Result]:
        """Run an item, together with others or alone.

        A caller that is cancelled while its item waits takes it out of the queue.

        Raises:
            Unavailable: too many items wait, or the batcher is closed.
            DeadlineExceeded: the item waited too long.
        """
        if self._closed:
            raise Unavailable("the server is stopping; ask another one")
        if len(self._waiting) >= self._options.max_waiting:
            raise Unavailable(
                f"{len(self._waiting)} requests are waiting already; try again in a moment"
            )
        loop = asyncio.get_running_loop()
        entry = _Waiting[_Item, _Result](item, time.perf_counter(), loop.create_future())
        self._waiting.append(entry)
        self._on_waiting(len(self._waiting))
        self._dispatch()
        limit = loop.call_later(self._options.max_wait_ms / 1e3, self._give_up, entry)
        try:
            return await entry.answer
        except asyncio.CancelledError:
            self._forget(entry)
            raise
        finally:
            limit.cancel()

    async def close(self) -> None:
        """Refuse what waits, finish what runs, end the threads."""
        self._closed = True
        while self._waiting:
            entry = self._waiting.popleft()
            if not entry.answer.done():
                entry.answer.set_exception(Unavailable("the server is stopping; ask another one"))
        if self._timer is not None:
            self._timer.cancel()
        if self._free < self._options.lanes:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self._pool.shutdown()

    def _dispatch(self) -> None:
        """Give free workers what waits, unless it shall wait for more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        options = self._options
        while self._free and self._waiting:
            waited = time.perf_counter() - self._waiting[0].since
            left = options.batch_wait_ms / 1e3 - waited
            if len(self._waiting) < options.batch_size and left > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(left, self._dispatch)
                return
            count = min(options.batch_size, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            self._on_waiting(len(self._waiting))
            self._free -= 1
            # Handed to the thread itself and back by one call: a task and a future of asyncio's
            # in between cost as much as the whole way over gRPC.
            self._pool.submit(self._work, batch, asyncio.get_running_loop())

    def _work(
        self, batch: Sequence[_Waiting[_Item, _Result]], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Run a batch in a thread."""
        started = time.perf_counter()
        results: Sequence[_Result | Exception]
        try:
            results = self._run([entry.item for entry in batch])
        except Exception as error:
            results = [error] * len(batch)
        loop.call_soon_threadsafe(self._finish, batch, results, started)

    def _finish(
        self,
        batch: Sequence[_Waiting[_Item, _Result]],
        results: Sequence[_Result | Exception],
        started: float,
    ) -> None:
        """Answer a batch and go on."""
        for entry, result in zip(batch, results, strict=True):
            if entry.answer.done():
                continue  # its caller has gone
            if isinstance(result, Exception):
                entry.answer.set_exception(result)
            else:
                entry.answer.set_result(Batched(result, (started - entry.since) * 1e3))
        self._free += 1
        self._dispatch()
        if self._idle is not None and self._free == self._options.lanes:
            self._idle.set_result(None)

    def _give_up(self, entry: _Waiting[_Item, _Result]) -> None:
        """Answer an item that still waits; one that runs is left to finish."""
        if self._forget(entry) and not entry.answer.done():
            entry.answer.set_exception(
                DeadlineExceeded(
                    f"the request waited longer than {self._options.max_wait_ms:g} ms for a "
                    "worker; send fewer at once"
                )
            )

    def _forget(self, entry: _Waiting[_Item, _Result]) -> bool:
        """Take an item out of the queue; whether it was still there."""
        try:
            self._waiting.remove(entry)
        except ValueError:
            return False
        self._on_waiting(len(self._waiting))
        return True
