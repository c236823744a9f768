"""Places for frames at work, so that images which take long leave room for all others."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from feature_transformer.image import ExaminedImage, Frame
from foundation.errors import DeadlineExceeded, Unavailable

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class DecodedFrame:
    """A frame, and what it took.

    Attributes:
        pixels: uint8 [height, width, 3], BGR.
        wait_ms: milliseconds spent waiting for a place.
        decode_ms: milliseconds spent examining and decoding.
    """

    pixels: Frame
    wait_ms: float
    decode_ms: float


class DecodingPlaces:
    """Decodes and works on frames in threads: so many at once, and one heavy image besides.

    Make it anywhere, call it on one event loop.

    Attributes:
        pool: its threads.
    """

    def __init__(
        self,
        threads: int,
        max_waiting: float = math.inf,
        on_waiting: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Start without work.

        Args:
            threads: frames at work at once, heavy ones not counted.
            max_waiting: frames that may wait.
            on_waiting: called with the frames waiting and at work, whenever that changes.
        """
        self.pool = ThreadPoolExecutor(threads + 1, thread_name_prefix="frame")
        self._usual = asyncio.Semaphore(threads)
        self._heavy = asyncio.Semaphore(1)
        self._most = threads + max_waiting
        self._on_waiting = on_waiting
        self._count = 0

    async def run(
        self,
        image: Callable[[], ExaminedImage | Frame],
        work: Callable[[DecodedFrame], _Result],
        deadline: float = math.inf,
    ) -> _Result:
        """Decode an image and work on its frame, both in a thread.

        Args:
            image: gives it, examined; called in a thread as well.
            work: what to do with the frame.
            deadline: until when, in seconds of ``time.monotonic``; waiting counts.

        Raises:
            ImageError: the image is none, or damaged.
            DeadlineExceeded: not decoded in time.
            Unavailable: too many frames wait.
        """
        if self._count >= self._most:
            raise Unavailable(f"{self._count} requests wait already; try again in a moment")
        self._step(1)
        try:
            return await self._run(image, work, deadline)
        finally:
            self._step(-1)

    def close(self) -> None:
        """Finish what runs and end the threads."""
        self.pool.shutdown()

    async def _run(
        self,
        image: Callable[[], ExaminedImage | Frame],
        work: Callable[[DecodedFrame], _Result],
        deadline: float,
    ) -> _Result:
        asked = time.perf_counter()
        wait = 0.0

        def done(seen: ExaminedImage | Frame, begun: float) -> tuple[_Result]:
            frame = seen.decode(deadline) if isinstance(seen, ExaminedImage) else seen
            return (work(DecodedFrame(frame, wait * 1e3, (time.perf_counter() - begun) * 1e3)),)

        def first() -> tuple[_Result] | ExaminedImage:
            nonlocal wait
            begun = time.perf_counter()
            wait = begun - asked
            seen = image()
            return seen if isinstance(seen, ExaminedImage) and seen.heavy else done(seen, begun)

        def second(seen: ExaminedImage) -> tuple[_Result]:
            nonlocal wait
            begun = time.perf_counter()
            wait = begun - asked
            return done(seen, begun)

        loop = asyncio.get_running_loop()
        await _take(self._usual, deadline)
        try:
            answer = await loop.run_in_executor(self.pool, first)
        finally:
            self._usual.release()
        if isinstance(answer, ExaminedImage):
            await _take(self._heavy, deadline)
            try:
                answer = await loop.run_in_executor(self.pool, second, answer)
            finally:
                self._heavy.release()
        return answer[0]

    def _step(self, step: int) -> None:
        self._count += step
        self._on_waiting(self._count)


async def _take(place: asyncio.Semaphore, deadline: float) -> None:
    left = None if math.isinf(deadline) else deadline - time.monotonic()
    try:
        async with asyncio.timeout(left):
            await place.acquire()
    except TimeoutError as error:
        raise DeadlineExceeded(
            "the frame waited for its decoding longer than its deadline; send fewer at once"
        ) from error
