from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from foundation.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    ModelError,
    Unavailable,
)
from inference_graph.detector.batching import Batched, BatchOptions, MicroBatcher


class Work:
    """Doubles numbers; each run waits for its turn, so a test decides when it ends."""

    def __init__(self, held: bool = False) -> None:
        self.runs: list[list[int]] = []
        self.go = threading.Semaphore(0 if held else 1000)

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.runs.append(list(items))
        self.go.acquire()
        return [InvalidInput(f"{item} is bad") if item < 0 else 2 * item for item in items]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


async def begun(work: Work, runs: int) -> None:
    while len(work.runs) < runs:
        await asyncio.sleep(0.005)


def test_a_lone_request_runs_at_once() -> None:
    async def test() -> None:
        work = Work()
        batcher = MicroBatcher(work, BatchOptions(batch_size=8))
        answer = await batcher.submit(21)
        assert answer.value == 42
        assert answer.queue_ms >= 0
        assert work.runs == [[21]]
        await batcher.close()

    run(test)


def test_what_waits_while_the_worker_is_busy_shares_the_next_run() -> None:
    async def test() -> None:
        work, waiting = Work(held=True), []
        batcher = MicroBatcher(work, BatchOptions(batch_size=4, lanes=1), waiting.append)
        start = time.perf_counter()
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(6)]
        await begun(work, 1)
        all_wait = time.perf_counter()
        work.go.release()
        await begun(work, 2)
        second = time.perf_counter()
        await asyncio.sleep(0.05)
        third = time.perf_counter()
        work.go.release(2)
        answers = [await task for task in tasks]
        assert [answer.value for answer in answers] == [0, 2, 4, 6, 8, 10]
        assert all(answer.queue_ms <= (second - start) * 1e3 for answer in answers[:5])
        assert answers[5].queue_ms >= (third - all_wait) * 1e3 > 50
        assert work.runs == [[0], [1, 2, 3, 4], [5]]
        assert (max(waiting), waiting[-1]) == (5, 0)
        await batcher.close()

    run(test)


def test_a_network_for_single_images_runs_them_side_by_side_in_order() -> None:
    async def test() -> None:
        work = Work(held=True)
        batcher = MicroBatcher(work, BatchOptions(lanes=2))
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(4)]
        await begun(work, 2)
        assert sorted(work.runs) == [[0], [1]]  # two threads, and no third run
        work.go.release(4)
        assert [(await task).value for task in tasks] == [0, 2, 4, 6]
        assert sorted(work.runs[2:]) == [[2], [3]]
        await batcher.close()

    run(test)


def test_a_request_is_held_back_for_others_but_not_for_ever() -> None:
    async def test() -> None:
        work = Work()
        batcher = MicroBatcher(work, BatchOptions(batch_size=2, batch_wait_ms=1000))
        await asyncio.gather(batcher.submit(1), batcher.submit(2))
        assert work.runs == [[1, 2]]  # a full batch does not wait
        await batcher.close()
        patient = MicroBatcher(work, BatchOptions(batch_size=2, batch_wait_ms=60))
        assert (await patient.submit(3)).queue_ms >= 50
        assert work.runs[1:] == [[3]]
        await patient.close()

    run(test)


def test_a_bad_item_spoils_its_own_answer_only() -> None:
    async def test() -> None:
        batcher = MicroBatcher(Work(), BatchOptions(batch_size=3, batch_wait_ms=1000))
        results = await asyncio.gather(
            *(batcher.submit(item) for item in (1, -7, 3)), return_exceptions=True
        )
        assert [type(one).__name__ for one in results] == ["Batched", "InvalidInput", "Batched"]
        assert str(results[1]) == "-7 is bad"
        await batcher.close()

    run(test)


def test_a_failed_run_fails_all_that_shared_it() -> None:
    def broken(items: Sequence[int]) -> list[int | Exception]:
        raise ModelError("out of memory")

    async def test() -> None:
        batcher = MicroBatcher(broken, BatchOptions(batch_size=2, batch_wait_ms=1000))
        results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
        assert [str(one) for one in results] == ["out of memory"] * 2
        with pytest.raises(ModelError):  # and the thread is free again
            await batcher.submit(3)
        await batcher.close()

    run(test)


def test_too_many_are_refused() -> None:
    async def test() -> None:
        work = Work(held=True)
        batcher = MicroBatcher(work, BatchOptions(lanes=1, max_waiting=2))
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await begun(work, 1)
        with pytest.raises(Unavailable, match="2 requests are waiting already"):
            await batcher.submit(9)
        work.go.release(3)
        assert [(await task).value for task in tasks] == [0, 2, 4]
        await batcher.close()

    run(test)


def test_a_request_that_waited_too_long_is_not_run() -> None:
    async def test() -> None:
        work = Work(held=True)
        batcher = MicroBatcher(work, BatchOptions(lanes=1, max_wait_ms=30))
        first = asyncio.create_task(batcher.submit(1))
        await begun(work, 1)
        with pytest.raises(DeadlineExceeded, match="longer than 30 ms"):
            await batcher.submit(2)
        work.go.release(2)
        assert (await first).value == 2  # what ran past its time is not thrown away
        await batcher.close()
        assert work.runs == [[1]]

    run(test)


def test_a_caller_that_has_gone_is_not_run() -> None:
    async def test() -> None:
        work, waiting = Work(held=True), []
        batcher = MicroBatcher(work, BatchOptions(lanes=1), waiting.append)
        first = asyncio.create_task(batcher.submit(1))
        await begun(work, 1)
        second = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        assert waiting[-1] == 0
        work.go.release(2)
        await first
        await batcher.close()
        assert work.runs == [[1]]

    run(test)


def test_closing_finishes_what_runs_and_refuses_the_rest() -> None:
    async def test() -> None:
        work = Work(held=True)
        batcher = MicroBatcher(work, BatchOptions(lanes=1))
        tasks = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await begun(work, 1)
        work.go.release(1)
        closing = asyncio.create_task(batcher.close())
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await closing
        assert isinstance(results[0], Batched) and results[0].value == 2
        assert isinstance(results[1], Unavailable)
        with pytest.raises(Unavailable, match="stopping"):
            await batcher.submit(3)

    run(test)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_wait_ms": -1},
        {"lanes": 0},
        {"max_waiting": 0},
        {"max_wait_ms": 0.5},
        {"max_wait_ms": float("nan")},
    ],
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        BatchOptions(**options)
