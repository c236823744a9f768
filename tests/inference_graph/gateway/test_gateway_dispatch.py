from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from gateway_samples import FRAME, SIZE, Rungs, TroubledRung

from feature_transformer.image import Frame
from foundation.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    Unavailable,
)
from inference_graph.contract import LADDER, Answer, Detections
from inference_graph.detector.wire import DetectorFacts
from inference_graph.gateway.backend import DetectorBackend
from inference_graph.gateway.breaker import Breaker, Circuit
from inference_graph.gateway.dispatch import Dispatcher, DispatchResult
from inference_graph.gateway.rungs import open_rungs

Body = Callable[[Dispatcher, dict[str, DetectorBackend]], Awaitable[Any]]


def dispatched(rungs: dict[str, Any], body: Body, deadline_ms: float = 2000.0) -> Any:
    """Runs ``body`` with backends that a probe has found well."""

    async def run() -> Any:
        backends = {name: DetectorBackend(name, rung, failures=3) for name, rung in rungs.items()}
        for backend in backends.values():
            assert await backend.probe(30.0)
        return await body(Dispatcher(backends, 0.5, deadline_ms), backends)

    return asyncio.run(run())


async def ask(dispatcher: Dispatcher, chosen: str, seconds: float = 20.0) -> DispatchResult:
    return await dispatcher.detect(chosen, FRAME, time.monotonic() + seconds, "e")


def who(outcome: DispatchResult) -> tuple[str, str, int]:
    return outcome.answered_by, outcome.fallback, len(outcome.answer.detections)


def test_the_chosen_rung_answers(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> list[Any]:
        return [who(await ask(dispatcher, rung)) for rung in LADDER]

    assert dispatched(rungs, body) == [("nano", "", 1), ("small", "", 2), ("large", "", 3)]
    assert [rungs[rung].asked for rung in LADDER] == [1, 1, 1]


@pytest.mark.parametrize(
    ("chosen", "failing", "answers"),
    [
        ("large", "large", "small"),
        ("small", "small", "nano"),  # cheaper first: it needs the least of what time is left
        ("nano", "nano", "small"),
        ("large", "large small", "nano"),
        ("small", "small nano", "large"),
        ("nano", "nano small", "large"),
    ],
)
def test_a_failing_rung_is_replaced_by_its_neighbour(
    rungs: Rungs, chosen: str, failing: str, answers: str
) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> list[Any]:
        for name in failing.split():
            rungs[name].failing = True
        failed = who(await ask(dispatcher, chosen))
        for _ in range(3):
            await ask(dispatcher, chosen)
        return [failed, who(await ask(dispatcher, chosen)), backends[chosen].breaker.circuit]

    first, later, circuit = dispatched(rungs, body)
    seen = LADDER.index(answers) + 1
    assert first == (answers, "failed", seen)
    assert later == (answers, "open", seen)  # after three failures it is not asked any more
    assert circuit is Circuit.OPEN
    assert rungs[chosen].asked == 3


def test_a_late_rung_is_replaced_and_stopped(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> list[Any]:
        rungs["large"].hanging = True
        start = time.monotonic()
        outcome = await ask(dispatcher, "large", 2.0)
        took = time.monotonic() - start
        waiting = backends["large"].waiting
        async with asyncio.timeout(60):
            while dispatcher._abandoned:
                await asyncio.sleep(0.005)
        return [who(outcome), took, waiting, backends["large"].waiting, len(dispatcher._abandoned)]

    outcome, took, waiting, later, abandoned = dispatched(rungs, body)
    assert outcome == ("small", "late", 2)
    assert 0.45 <= took < 2.0  # the neighbour was asked when half of the time had passed
    assert (waiting, later, abandoned) == (1, 0, 0)


def test_the_chosen_rung_may_still_win_after_its_neighbour_was_asked(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        rungs["large"].delay, rungs["small"].delay = 2.0, 5.0
        outcome = await ask(dispatcher, "large", 3.0)
        return who(outcome), rungs["small"].asked, backends["large"].breaker.circuit

    assert dispatched(rungs, body) == (("large", "", 3), 1, Circuit.CLOSED)


def test_a_neighbour_that_fails_as_well_gives_way_to_the_next(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        rungs["large"].hanging = rungs["small"].failing = True
        return who(await ask(dispatcher, "large", 4.0))

    assert dispatched(rungs, body) == ("nano", "late", 1)


def test_no_answer_in_time(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> float:
        for rung in rungs.values():
            rung.hanging = True
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="no rung answered in time"):
            await ask(dispatcher, "small", 0.4)
        return time.monotonic() - start

    assert 0.35 <= dispatched(rungs, body) < 5


def test_a_deadline_that_has_passed_asks_no_one(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> None:
        with pytest.raises(DeadlineExceeded):
            await ask(dispatcher, "small", -1.0)

    dispatched(rungs, body)
    assert rungs["small"].asked == 0


def test_when_every_rung_fails_the_last_failure_is_reported(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> None:
        for rung in rungs.values():
            rung.failing = True
        with pytest.raises(Unavailable, match="the plug is pulled"):
            await ask(dispatcher, "small")

    dispatched(rungs, body)
    assert [rungs[rung].asked for rung in LADDER] == [1, 1, 1]


def test_with_every_circuit_open_the_rungs_are_asked_all_the_same(rungs: Rungs) -> None:
    async def run() -> Any:
        backends = {name: DetectorBackend(name, rung, failures=1) for name, rung in rungs.items()}
        rungs["small"].failing = True
        # No probe has looked yet, so all circuits are open and no classes are known.
        return await ask(Dispatcher(backends), "small")

    outcome = asyncio.run(run())
    assert who(outcome) == ("nano", "failed", 1)
    assert outcome.facts.class_names == ("person", "car")


def test_a_client_in_a_hurry_does_not_close_a_rung_for_the_others(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        rungs["large"].delay = 0.2
        for _ in range(6):
            with pytest.raises(DeadlineExceeded):
                for rung in rungs.values():
                    rung.delay = 0.2
                await ask(dispatcher, "large", 0.05)
        return [backend.breaker.circuit for backend in backends.values()]

    assert dispatched(rungs, body) == [Circuit.CLOSED] * 3


def test_a_rung_late_by_the_operators_measure_is_left_alone(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        rungs["large"].hanging = True
        outcomes = [who(await ask(dispatcher, "large", 0.4)) for _ in range(4)]
        return outcomes, backends["large"].breaker.circuit

    outcomes, circuit = dispatched(rungs, body, deadline_ms=400)
    assert outcomes == [("small", "late", 2)] * 3 + [("small", "open", 2)]
    assert circuit is Circuit.OPEN


class Refusing(TroubledRung):
    """A rung that refuses every frame, as one would whose limits are narrower."""

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        if frame_id == "probe":
            return await super().detect(frame, timeout, frame_id)
        self.asked += 1
        raise InvalidInput("this frame is not to my taste")


def test_a_refused_frame_proves_nothing_about_the_rung(rungs: Rungs) -> None:
    picky = {name: Refusing(rung.rung._detector) for name, rung in rungs.items()}

    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        for _ in range(5):
            with pytest.raises(InvalidInput, match="taste"):
                await ask(dispatcher, "small")
        return [backend.breaker.circuit for backend in backends.values()]

    assert dispatched(picky, body) == [Circuit.CLOSED] * 3


class Changing(TroubledRung):
    """A rung whose service comes back with other weights."""

    revision = "a"

    async def facts(self) -> DetectorFacts:
        return DetectorFacts((f"of {self.revision}",), (1,), SIZE, self.revision)

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        one = np.zeros(1, np.float32)
        found = Detections(np.zeros((1, 4), np.float32), one, one.astype(np.int32))
        return Answer(found, {"inference": 4.0}, "nano", self.revision)


def test_other_weights_have_other_classes(rungs: Rungs) -> None:
    rung = Changing(rungs["nano"].rung._detector)

    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        before = (await ask(dispatcher, "nano")).facts.class_names
        rung.revision = "b"
        return before, (await ask(dispatcher, "nano")).facts.class_names

    assert dispatched({"nano": rung}, body) == (("of a",), ("of b",))


class Timed(Changing):
    milliseconds = {"preprocess": 1.0, "inference": 8.0, "queue": 0.0, "wire": 99.0}
    goes_on: asyncio.Event

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        await self.goes_on.wait()
        answer = await super().detect(frame, timeout, frame_id)
        return Answer(answer.detections, self.milliseconds, "nano", self.revision)


def test_the_expected_wait_by_hand(rungs: Rungs) -> None:
    rung = Timed(rungs["nano"].rung._detector)
    rung.goes_on = asyncio.Event()
    rung.goes_on.set()

    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        assert backends["nano"].service_ms == 9.0  # the way there is no work of the rung
        rung.milliseconds = {"inference": 19.0, "queue": 0.0}
        await ask(dispatcher, "nano")
        assert backends["nano"].service_ms == pytest.approx(9.0 + 0.2 * 10.0)
        assert dispatcher.load_ms() == (0.0, 0.0, 0.0)
        rung.goes_on.clear()
        asked = [asyncio.ensure_future(ask(dispatcher, "nano")) for _ in range(3)]
        while backends["nano"].waiting < 3:
            await asyncio.sleep(0.005)
        busy = dispatcher.load_ms()
        rung.goes_on.set()
        await asyncio.gather(*asked)
        rung.milliseconds = {"inference": 10.0, "queue": 80.0}
        begun = time.monotonic()
        await ask(dispatcher, "nano")
        return busy, dispatcher.load_ms(), time.monotonic() - begun

    busy, queued, age = dispatched({"nano": rung}, body)
    assert busy == pytest.approx((33.0, 0.0, 0.0))  # three under way, 11 ms each
    # What the service reported of its queue fades: half of it is left after a second.
    assert 80 * 0.5**age <= queued[0] <= 80


def test_the_circuit_by_hand() -> None:
    breaker = Breaker(failures=2)
    assert (breaker.circuit, breaker.usable) == (Circuit.OPEN, False)
    breaker.probing()
    assert (breaker.circuit, breaker.usable) == (Circuit.HALF_OPEN, False)
    breaker.probed(False, "away")
    assert (breaker.circuit, breaker.reason) == (Circuit.OPEN, "away")
    breaker.succeeded()  # an answer to an old question
    assert not breaker.usable
    breaker.probing()
    breaker.probed(True)
    assert (breaker.usable, breaker.reason) == (True, "")
    breaker.failed("once")
    breaker.succeeded()
    breaker.failed("twice, but not in a row")
    assert breaker.usable
    breaker.failed("in a row")
    assert (breaker.circuit, breaker.reason) == (Circuit.OPEN, "in a row")


def test_a_rung_that_comes_back_is_used_again(rungs: Rungs) -> None:
    async def body(dispatcher: Dispatcher, backends: dict[str, DetectorBackend]) -> Any:
        backend, rung = backends["large"], rungs["large"]
        watch = asyncio.ensure_future(backend.watch(0.05, 0.5))
        rung.failing = True
        for _ in range(3):
            await ask(dispatcher, "large")
        assert not backend.breaker.usable
        await asyncio.sleep(0.3)
        away = who(await ask(dispatcher, "large"))
        rung.failing, rung.hanging = False, True  # it accepts, and does not answer
        await asyncio.sleep(0.3)
        stuck = backend.breaker.usable
        rung.hanging = False
        end = time.monotonic() + 20
        while not backend.breaker.usable and time.monotonic() < end:
            await asyncio.sleep(0.02)
        back = who(await ask(dispatcher, "large"))
        watch.cancel()
        return away, stuck, back

    away, stuck, back = dispatched(rungs, body)
    assert (away, stuck, back) == (("small", "open", 2), False, ("large", "", 3))


@pytest.mark.parametrize("target", ["", "somewhere", "host:", "host:port"])
def test_a_target_that_is_none(target: str) -> None:
    with pytest.raises(ConfigurationError, match="target of nano"):
        open_rungs({"nano": target})
