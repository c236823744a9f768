"""Five times more frames than the rungs can look at: what they work on must become answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from typing import Any

import numpy as np
import orjson
import pytest
from gateway_samples import FRAME, gateway_settings, jpeg, served
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from foundation.errors import DeadlineExceeded, Unavailable
from inference_graph.contract import LADDER, Answer, Detections
from inference_graph.detector.wire import DetectorFacts
from inference_graph.gateway.fair_scheduler import FairScheduler

MILLISECONDS = {"nano": 10.0, "small": 30.0, "large": 120.0}


class Processor:
    """What all rungs share, as on a small machine; a frame that began is worked on to its end."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()
        self.spent: Counter[str] = Counter()


class StubRung:
    """A rung that takes a known time of the one processor."""

    def __init__(self, name: str, processor: Processor) -> None:
        self.name = name
        self.processor = processor

    async def facts(self) -> DetectorFacts:
        return DetectorFacts(("car",), (3,), FRAME.shape[:2], "a" * 12)

    async def detect(self, frame: Any, timeout: float, frame_id: str = "") -> Answer:
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(timeout):
                await self.processor.free.acquire()
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self.name} was late") from error
        queue = (time.perf_counter() - asked) * 1e3
        work = MILLISECONDS[self.name] if frame_id != "probe" else 0.0
        self.processor.spent[frame_id] += int(work)
        await asyncio.shield(self._work(work / 1e3))
        nothing = Detections(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        )
        return Answer(nothing, {"infer": work, "queue": queue}, self.name, "a" * 12)

    async def _work(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            self.processor.free.release()

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        pass


def measured(streams: int, seconds: float, **options: Any) -> tuple[Counter[str], Counter[str]]:
    """Fates of frames, and the processor's milliseconds, of use and of none."""
    processor = Processor()
    rungs = {name: StubRung(name, processor) for name in LADDER}
    settings = gateway_settings(
        **{"deadline_ms": 1000.0, "max_streams": 128, "shadow_share": 0.5, **options}
    )
    fates: Counter[str] = Counter()
    of_use: Counter[str] = Counter()
    image = jpeg()

    async def one(url: str, end: float) -> None:
        async with connect(url, compression=None) as stream:
            while time.monotonic() < end:
                await stream.send(image)
                reported = orjson.loads(await stream.recv())
                fates[reported["type"]] += 1
                if reported["type"] == "detections":
                    of_use[reported["event_id"]] += int(MILLISECONDS[reported["answered_by"]])

    async def all_of(url: str) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(one(url, end) for _ in range(streams)))

    with served(settings, rungs) as gateway:
        asyncio.run(all_of(gateway.stream))
    spent = processor.spent
    worked: Counter[str] = Counter()
    for event, milliseconds in spent.items():
        useful = min(of_use[event], milliseconds)
        worked["of use"] += useful
        worked["of none"] += milliseconds - useful
    return fates, worked


@pytest.mark.parametrize(("streams", "deadline"), [(12, 1000.0), (64, 400.0)])
def test_work_becomes_answers_however_many_streams_there_are(streams: int, deadline: float) -> None:
    fates, worked = measured(streams, 4.0, deadline_ms=deadline)
    print(streams, dict(fates), dict(worked))
    assert worked["of use"] >= 0.9 * worked.total()
    assert fates["detections"] > 0


def test_a_new_stream_learns_what_it_can_have() -> None:
    """One that could have nothing in time is refused; another one is sent its frames a second."""
    processor = Processor()
    rungs = {name: StubRung(name, processor) for name in LADDER}

    async def session(url: str, scheduler: FairScheduler) -> tuple[str, Any]:
        async with connect(url, compression=None) as stream:
            alone = stream.response.headers["gearshift-frames-per-second"]
        streams = [await connect(f"{url}?deadline_ms=2000", compression=None) for _ in range(30)]
        try:
            for stream in streams:
                await stream.send(jpeg())
            while not scheduler.expected_wait_ms("local"):
                await asyncio.sleep(0.005)
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{url}?deadline_ms=20", compression=None)
            async with connect(f"{url}?deadline_ms=2000", compression=None) as stream:
                beside = stream.response.headers["gearshift-frames-per-second"]
        finally:
            for stream in streams:
                await stream.close()
        assert float(beside) < float(alone) == 10.0
        return beside, refused.value.response

    with served(gateway_settings(), rungs) as gateway:
        scheduler = gateway.runtime.scheduler
        scheduler._hold_ms = 100.0  # as if it had answered before
        scheduler._limit = 4.0
        reported, response = asyncio.run(session(gateway.stream, scheduler))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert b"for its turn, longer than its 20 ms" in response.body


def in_turn(*clients: str, places: int = 4) -> list[str]:
    """In which order clients get their turns, when they ask at once and all are taken."""

    async def run() -> list[str]:
        scheduler, order = FairScheduler(), []
        scheduler._limit = float(places)
        held = [await scheduler.enter_before("first", time.monotonic() + 9) for _ in range(places)]

        async def one(client: str) -> None:
            turn = await scheduler.enter_before(client, time.monotonic() + 9)
            order.append(client)
            scheduler.leave(turn)

        tasks = [asyncio.ensure_future(one(client)) for client in clients]
        await asyncio.sleep(0)
        assert scheduler.waiting == len(clients)
        scheduler.leave(held.pop())
        await asyncio.gather(*tasks)
        for turn in held:
            scheduler.leave(turn)
        assert (scheduler._at_work, scheduler.waiting) == (0, 0)
        return order

    return asyncio.run(run())


def test_turns_go_round_by_client() -> None:
    assert in_turn("a", "a", "a", "a", "b", "c") == ["a", "b", "c", "a", "a", "a"]


def test_who_waits_in_vain_gets_an_error_and_is_forgotten() -> None:
    async def run() -> None:
        scheduler = FairScheduler()
        scheduler._limit = 1.0
        held = await scheduler.enter_before("a", time.monotonic() + 9)
        with pytest.raises(Unavailable, match="busy with other frames"):
            await scheduler.enter_before("b", time.monotonic() + 0.02)
        gone = asyncio.ensure_future(scheduler.enter_before("c", time.monotonic() + 9))
        await asyncio.sleep(0)
        scheduler.leave(held)  # it is c's turn, and c goes in the same moment
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (scheduler._at_work, scheduler.waiting) == (0, 0)

    asyncio.run(run())


def test_the_number_at_work_follows_the_delay() -> None:
    async def run(hold: float, work_ms: float) -> float:
        scheduler = FairScheduler()
        for _ in range(400):
            turn = await scheduler.enter_before("a", time.monotonic() + 9)
            scheduler._waiting["b"] = deque([asyncio.get_running_loop().create_future()])
            scheduler._at_work = 1
            scheduler.leave(time.monotonic() - hold, work_ms)
            scheduler._waiting.clear()
            assert turn
        return scheduler._limit

    assert asyncio.run(run(0.1, 10.0)) == 4.0  # ten times its work: fewer, down to the least
    assert asyncio.run(run(0.015, 10.0)) > 20.0  # hardly more than its work: more
