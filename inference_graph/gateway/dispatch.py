"""A frame gets its answer in time: from the rung chosen, or from a neighbour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from feature_transformer.image import Frame
from foundation.errors import (
    DeadlineExceeded,
    GearshiftError,
    Unavailable,
)
from inference_graph.contract import LADDER, Answer
from inference_graph.detector.wire import DetectorFacts
from inference_graph.gateway.backend import DetectorBackend
from inference_graph.gateway.canary_backends import CanaryBackends

FAILED, LATE, OPEN = "failed", "late", "open"
"""Why another rung answered: the chosen one failed, took too long, or was left alone."""

_SOONEST_HEDGE = 0.25
"""The neighbour is never asked before this share of the time left has passed."""
_LOOK_AGAIN = 0.01
"""Seconds after which it is looked again, at least, whether a neighbour would help."""
_PATIENCE = 0.9
"""Share of the operator's own hedge time from which on a rung without answer counts as late; a
client in a greater hurry must not close a rung for everybody."""


@dataclass(frozen=True)
class DispatchResult:
    """Who answered.

    Attributes:
        answer: what it saw.
        answered_by: the rung.
        fallback: empty when it is who was asked first, the rung chosen or its canary; else why that
            one did not answer: "failed", "late" or "open".
        facts: the classes of the rung that answered.
    """

    answer: Answer
    answered_by: str
    fallback: str
    facts: DetectorFacts


class Dispatcher:
    """Asks the chosen rung, and its neighbours when that does not answer.

    Cheaper neighbours come first, the nearest before the others, for they need the least time;
    then the dearer ones. Rungs whose circuit is open come last, in case no other is left. The
    nearest neighbour of a canary is the stable revision of its rung.
    """

    def __init__(
        self,
        backends: Mapping[str, DetectorBackend],
        hedge_share: float = 0.5,
        deadline_ms: float = 1000.0,
        canaries: CanaryBackends | None = None,
        backlog: Callable[[], int] = lambda: 0,
    ) -> None:
        """Dispatch over the backends.

        Args:
            backends: the way to each rung there is.
            hedge_share: share of the time left after which a neighbour is asked as well.
            deadline_ms: the operator's deadline, by which a rung's lateness is judged.
            canaries: new revisions that have a share of a rung's frames.
            backlog: returns the number of frames that wait for their turn.
        """
        self.backends = backends
        self._canaries = canaries
        self._backlog = backlog
        self._hedge_share = hedge_share
        self._patience = _PATIENCE * hedge_share * deadline_ms / 1e3
        self._abandoned: set[asyncio.Task[Answer]] = set()

    def load_ms(self) -> tuple[float, ...]:
        """Expected wait of every rung in milliseconds; 0 for a rung that is not there.

        Frames that wait for their turn count for every rung: whichever is chosen works on this one
        while they wait.
        """
        backlog = self._backlog()
        waits = {
            rung: backend.expected_wait_ms() + backlog * (backend.service_ms or 0.0)
            if backend
            else 0.0
            for rung, backend in ((rung, self.backends.get(rung)) for rung in LADDER)
        }
        if self._canaries is not None:
            waits |= self._canaries.mixed_wait_ms(waits)
        return tuple(waits.values())

    def first(self, chosen: str) -> DetectorBackend | None:
        """The backend that is asked first for a frame of this rung; drawn for each frame.

        None where the rung is not there.
        """
        canary = None if self._canaries is None else self._canaries.drawn(chosen)
        return canary or self.backends.get(chosen)

    async def detect(
        self,
        chosen: str,
        frame: Frame,
        deadline: float,
        frame_id: str = "",
        first: DetectorBackend | None = None,
    ) -> DispatchResult:
        """Get an answer before the deadline.

        The chosen rung is asked first. When it fails the next is asked at once; when part of the
        time has passed without an answer the next is asked as well, and the first answer counts.

        Args:
            chosen: the rung the policy chose.
            frame: uint8 [height, width, 3], BGR.
            deadline: when the answer must be there, seconds of ``time.monotonic``.
            frame_id: for the detectors' logs.
            first: result of :meth:`first`; it is called here without it.

        Raises:
            DeadlineExceeded: no answer came in time.
            Unavailable: every rung failed.
            GearshiftError: every rung refused, for the reason of the last.
        """
        first = first or self.first(chosen)
        waiting = self._order(chosen, first, deadline - time.monotonic())
        held = tuple(waiting)
        reason = ""
        if first is None or (waiting and waiting[0] is not first):
            reason = LATE if first is not None and first.breaker.usable else OPEN
        running: dict[asyncio.Task[Answer], tuple[DetectorBackend, float]] = {}
        failure: GearshiftError | None = None
        for backend in held:
            backend.holders += 1
        try:
            while True:
                now = time.monotonic()
                if deadline - now <= 0:
                    raise DeadlineExceeded(
                        f"no rung answered in time ({self._reasons(running, failure)}); allow more "
                        "time or send fewer frames"
                    )
                if not running:
                    if not waiting:
                        raise failure or Unavailable("no rung is known; start the detectors")
                    hedge = self._ask(waiting.pop(0), frame, deadline, frame_id, running, waiting)
                until = min(hedge, deadline) if waiting else deadline
                done, _ = await asyncio.wait(
                    running, timeout=max(until - now, 0), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    backend, asked = running.pop(task)
                    error = task.exception()
                    if error is None:
                        why = "" if backend is first else reason
                        return await self._outcome(backend, task.result(), why, deadline)
                    if not isinstance(error, GearshiftError):
                        raise error
                    failure = error
                    if isinstance(error, DeadlineExceeded):
                        self._judge(backend, asked)
                    if backend is first:
                        reason = LATE if isinstance(error, DeadlineExceeded) else FAILED
                if not done and waiting and time.monotonic() >= hedge:
                    left = deadline - time.monotonic()
                    if self._is_of_use(waiting[0], running, left):
                        reason = reason or LATE
                        hedge = self._ask(
                            waiting.pop(0), frame, deadline, frame_id, running, waiting
                        )
                    else:
                        hedge = time.monotonic() + max(left * self._hedge_share, _LOOK_AGAIN)
        finally:
            for backend in held:
                backend.holders -= 1
            for task, (backend, asked) in running.items():
                self._abandon(task, backend, asked)

    def _is_of_use(
        self,
        backend: DetectorBackend,
        running: Mapping[asyncio.Task[Answer], tuple[DetectorBackend, float]],
        left: float,
    ) -> bool:
        """Whether to ask a rung for a frame that another one is late with.

        Not one that would be late as well; and not while others wait for their turn, unless those
        asked have answered nothing since: then they hang, else they are only busy.
        """
        if not backend.fits(left):
            return False
        busy = any(asked.answered_at > since for asked, since in running.values())
        return not (busy and self._backlog())

    def _order(
        self, chosen: str, first: DetectorBackend | None, left: float
    ) -> list[DetectorBackend]:
        place = LADDER.index(chosen)
        names = (chosen, *reversed(LADDER[:place]), *LADDER[place + 1 :])
        backends = [self.backends[name] for name in names if name in self.backends]
        if first is not None and first not in backends:
            backends.insert(0, first)  # a canary
        # Stable. A rung that cannot make it would only take the time of the frames behind.
        return sorted(
            backends, key=lambda backend: (not backend.breaker.usable, not backend.fits(left))
        )

    def _ask(
        self,
        backend: DetectorBackend,
        frame: Frame,
        deadline: float,
        frame_id: str,
        running: dict[asyncio.Task[Answer], tuple[DetectorBackend, float]],
        waiting: list[DetectorBackend],
    ) -> float:
        """Ask a rung; when to ask the next one, seconds of ``time.monotonic``."""
        now = time.monotonic()
        left = deadline - now
        task = asyncio.get_running_loop().create_task(backend.ask(frame, left, frame_id))
        running[task] = (backend, now)
        share = left * self._hedge_share
        if waiting:
            after = waiting[0]
            needed = 2 * ((after.service_ms or 0.0) + after.expected_wait_ms()) / 1e3
            share = max(min(share, left - needed), left * _SOONEST_HEDGE)
        return now + share

    async def _outcome(
        self, backend: DetectorBackend, answer: Answer, reason: str, deadline: float
    ) -> DispatchResult:
        facts = backend.facts
        # Asked as a last resort before any probe has seen it, or started again with other weights.
        if facts is None or facts.revision != answer.revision:
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.01)):
                    facts = backend.facts = await backend.rung.facts()
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"{backend.name} did not report its classes in time"
                ) from error
        return DispatchResult(answer, backend.name, reason, facts)

    def _abandon(self, task: asyncio.Task[Answer], backend: DetectorBackend, asked: float) -> None:
        self._judge(backend, asked)
        task.cancel()
        self._abandoned.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Answer]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # its result is not needed any more

    def _judge(self, backend: DetectorBackend, asked: float) -> None:
        took = time.monotonic() - asked
        if took >= self._patience and backend.answered_at < asked:
            backend.breaker.failed(f"no answer within {took * 1e3:.0f} ms")

    @staticmethod
    def _reasons(
        running: Mapping[asyncio.Task[Answer], tuple[DetectorBackend, float]],
        failure: GearshiftError | None,
    ) -> str:
        names = [backend.name for backend, _ in running.values()]
        reasons = [f"still waiting for {', '.join(names)}"] if names else []
        if failure is not None:
            reasons.append(failure.for_clients)
        return "; ".join(reasons) or "none was asked"
