"""Images that take long leave room for all others, and waiting counts as time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hostile_pictures import jpeg_of_scans
from odd_pictures import RGB, saved

from feature_transformer.decoding import places as decoding_places
from feature_transformer.decoding.places import DecodedFrame, DecodingPlaces
from feature_transformer.image import ExaminedImage, examined
from foundation.errors import DeadlineExceeded, ImageError, Unavailable

USUAL, HEAVY = examined(saved(RGB, "PNG")), examined(jpeg_of_scans(2000, 1500, 10))


class Blocked:
    """Decodes heavy images only when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let, self.begun = threading.Event(), threading.Semaphore(0)
        decode = ExaminedImage.decode

        def slow(image: ExaminedImage, deadline: float = 0.0) -> Any:
            if image.heavy:
                self.begun.release()
                assert self.let.wait(60)
                return np.zeros((1500, 2000, 3), np.uint8)
            return decode(image, deadline)

        monkeypatch.setattr(decoding_places.ExaminedImage, "decode", slow)


def shape(frame: DecodedFrame) -> tuple[int, ...]:
    return frame.pixels.shape


def run(body: Callable[[DecodingPlaces], Any], *options: Any) -> Any:
    async def main() -> Any:
        places = DecodingPlaces(*options)
        try:
            return await body(places)
        finally:
            places.close()

    return asyncio.run(main())


def test_what_is_heavy_is_known_before_it_is_decoded() -> None:
    assert (USUAL.heavy, HEAVY.heavy) == (False, True)


def test_heavy_images_leave_every_place_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = Blocked(monkeypatch)

    async def body(places: DecodingPlaces) -> list[Any]:
        heavy = [asyncio.create_task(places.run(lambda: HEAVY, shape)) for _ in range(8)]
        await asyncio.to_thread(blocked.begun.acquire)
        usual = await asyncio.gather(*(places.run(lambda: USUAL, shape) for _ in range(20)))
        assert not any(task.done() for task in heavy)
        assert not blocked.begun.acquire(blocking=False)  # one of them at a time
        blocked.let.set()
        return [*usual, *await asyncio.gather(*heavy)]

    assert run(body, 2) == [(41, 67, 3)] * 20 + [(1500, 2000, 3)] * 8


def test_waiting_counts_as_time(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = Blocked(monkeypatch)

    async def body(places: DecodingPlaces) -> None:
        first = asyncio.create_task(places.run(lambda: HEAVY, shape))
        await asyncio.to_thread(blocked.begun.acquire)
        with pytest.raises(DeadlineExceeded, match="waited for its decoding longer"):
            await places.run(lambda: HEAVY, shape, time.monotonic() + 0.05)
        with pytest.raises(DeadlineExceeded):
            await places.run(lambda: USUAL, shape, time.monotonic() - 0.01)
        blocked.let.set()
        assert await first == (1500, 2000, 3)
        assert await places.run(lambda: HEAVY, shape, time.monotonic() + 60) == (1500, 2000, 3)

    run(body, 1)


def test_more_may_not_wait_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked, reported = Blocked(monkeypatch), []

    async def body(places: DecodingPlaces) -> None:
        tasks = [asyncio.create_task(places.run(lambda: HEAVY, shape)) for _ in range(3)]
        await asyncio.to_thread(blocked.begun.acquire)
        with pytest.raises(Unavailable, match="3 requests wait already"):
            await places.run(lambda: USUAL, shape)
        blocked.let.set()
        await asyncio.gather(*tasks)

    run(body, 1, 2, reported.append)
    assert reported == [1, 2, 3, 2, 1, 0]


def test_a_failure_frees_its_place() -> None:
    def refuse() -> ExaminedImage:
        raise ImageError("no image; send one")

    async def body(places: DecodingPlaces) -> None:
        for _ in range(5):
            with pytest.raises(ImageError, match="no image"):
                await places.run(refuse, shape)
        pixels = np.zeros((2, 3, 3), np.uint8)
        assert await places.run(lambda: pixels, shape) == (2, 3, 3)

    run(body, 1)
