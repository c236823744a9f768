"""New revisions of rungs beside those in use: each has a share of its rung's frames.

A canary has a backend of its own, with its own circuit, so its failures do not count
against the stable revision, which answers a frame that the canary fails at. Traffic moves first and
processes follow: a canary that is removed, and a stable revision whose place is taken, get no more
frames at once and are let go when they have answered.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass

from foundation.errors import Conflict, InvalidInput, Unavailable
from inference_graph.gateway.backend import DetectorBackend
from inference_graph.gateway.rungs import AsyncRung

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 30.0
"""How long a backend that gets no more frames may take to answer those it has."""
_REACH_SECONDS = 10.0
"""How long a stable revision is looked for before it gets all frames again."""
_FULL = 100


@dataclass
class Canary:
    """A new revision of a rung.

    Attributes:
        backend: the way to it.
        target: its address, or its weights.
        weight: its share of the rung's frames, whole per cent.
        looks: shares of its frames and of the stable revision's at which the reference looks.
    """

    backend: DetectorBackend
    target: str
    weight: int = 0
    looks: tuple[float, float] | None = None

    @property
    def revision(self) -> str:
        """First 12 digits of the digest of its weights."""
        return "" if self.backend.facts is None else self.backend.facts.revision


class CanaryBackends:
    """The canaries of a gateway, and who watches its backends; use it on one event loop."""

    def __init__(
        self,
        backends: MutableMapping[str, DetectorBackend],
        open_rung: Callable[[str, str], AsyncRung],
        failures: int = 3,
        probe_seconds: float = 1.0,
        timeout: float = 1.0,
        rng: random.Random | None = None,
    ) -> None:
        """Begin without canaries.

        Args:
            backends: the way to each rung in use; a promotion replaces one.
            open_rung: from a rung and a target to who answers there.
            failures: failures in a row after which a revision is left alone.
            probe_seconds: pause between probes of one that is not used.
            timeout: seconds of a probe's steps.
            rng: draws the revision for a frame; seeded by the system without it.
        """
        self._backends, self._open = backends, open_rung
        self._failures, self._probe_seconds, self._timeout = failures, probe_seconds, timeout
        self._rng = rng or random.Random()
        self._canaries: dict[str, Canary] = {}
        self._watches: dict[DetectorBackend, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()

    @property
    def all(self) -> Mapping[str, Canary]:
        """Every canary, by rung."""
        return self._canaries

    def watch(self, backend: DetectorBackend) -> None:
        """Probe a backend whenever its circuit is not closed, until it is let go."""
        self._watches[backend] = asyncio.ensure_future(
            backend.watch(self._probe_seconds, self._timeout)
        )

    def drawn(self, rung: str) -> DetectorBackend | None:
        """The canary's backend if this frame is its; drawn by its weight, as a Splitter does."""
        canary = self._canaries.get(rung)
        if canary is None or self._rng.randrange(_FULL) >= canary.weight:
            return None
        return canary.backend

    def look_share(self, rung: str, backend: DetectorBackend | None) -> float | None:
        """Share of the frames given to a backend at which the reference looks; None: as always."""
        canary = self._canaries.get(rung)
        if canary is None or canary.looks is None or not canary.weight:
            return None
        return canary.looks[0] if backend is canary.backend else canary.looks[1]

    def mixed_wait_ms(self, stable: Mapping[str, float]) -> dict[str, float]:
        """Expected waits of the rungs that have a canary, by the shares of both.

        Args:
            stable: milliseconds of the stable revisions.
        """
        return {
            rung: (
                one.weight * one.backend.expected_wait_ms() + (_FULL - one.weight) * stable[rung]
            )
            / _FULL
            for rung, one in self._canaries.items()
        }

    async def add(self, rung: str, target: str) -> Canary:
        """Take a new revision beside the one in use, without frames; the same again is no change.

        Args:
            rung: whose.
            target: HOST:PORT of its gRPC service, or its weights.

        Raises:
            Conflict: another canary is there, or its revision is the one in use.
            ConfigurationError: the target is no address and no file.
            InvalidInput: there is no such rung, or the classes are others.
            ModelError: unusable weights.
            Unavailable: it does not answer.
        """
        async with self._changing:
            stable = self._backends.get(rung)
            if stable is None:
                raise InvalidInput(
                    f"there is no rung {rung}; there are {', '.join(self._backends)}"
                )
            there = self._canaries.get(rung)
            if there is not None:
                if there.target == target:
                    return there
                raise Conflict(f"{rung} has the canary {there.revision}; remove it first")
            backend = DetectorBackend(rung, self._open(rung, target), self._failures)
            try:
                await self._examine(backend, stable, target)
            except BaseException:
                await backend.rung.close()
                raise
            self.watch(backend)
            canary = self._canaries[rung] = Canary(backend, target)
            _log.info("%s has the canary %s, without frames", rung, canary.revision)
            return canary

    def shift(self, rung: str, weight: int, looks: tuple[float, float] | None = None) -> Canary:
        """Give a canary a share of the rung's frames, from the next one on.

        Args:
            rung: whose.
            weight: whole per cent, 0 to 100.
            looks: shares of its frames and of the stable ones at which the reference looks.

        Raises:
            Conflict: there is none.
        """
        canary = self._there(rung)
        canary.weight, canary.looks = weight, looks
        _log.info("%s: the canary %s has %d %% of the frames", rung, canary.revision, weight)
        return canary

    async def promote(self, rung: str) -> Canary:
        """Put a canary in the place of the revision in use, which then ends when it has answered.

        Raises:
            Conflict: there is no canary.
        """
        async with self._changing:
            canary = self._there(rung)
            before = self._backends[rung]
            self._backends[rung] = canary.backend
            del self._canaries[rung]
            _log.info("%s: revision %s is in use", rung, canary.revision)
            await self._let_go(before)
            return canary

    async def remove(self, rung: str) -> None:
        """Take all frames from a canary, and let it go when it has answered; none is no error."""
        async with self._changing:
            if rung not in self._canaries:
                return
            if self._canaries[rung].weight == _FULL:
                await self._reach(self._backends[rung])
            canary = self._canaries.pop(rung)
            _log.info("%s: the canary %s is taken away", rung, canary.revision)
            await self._let_go(canary.backend)

    async def close(self) -> None:
        """Stop watching, and let the canaries go."""
        for task in self._watches.values():
            task.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        self._watches.clear()
        await asyncio.gather(
            *(one.backend.rung.close() for one in self._canaries.values()), return_exceptions=True
        )
        self._canaries.clear()

    async def _examine(
        self, backend: DetectorBackend, stable: DetectorBackend, target: str
    ) -> None:
        """Raise unless the backend's revision can take the stable one's place."""
        if not await backend.probe(max(self._timeout, 10.0)) or backend.facts is None:
            raise Unavailable(
                f"the new revision at {target} does not answer ({backend.breaker.reason}); "
                "see its log"
            )
        if stable.facts is None:
            raise Unavailable(
                f"the stable revision of {backend.name} was not seen yet; wait for it"
            )
        classes = (stable.facts.class_names, stable.facts.category_ids)
        if (backend.facts.class_names, backend.facts.category_ids) != classes:
            raise InvalidInput(
                f"the new revision of {backend.name} has other classes than the one in use; "
                "start the gateway anew with it"
            )
        if backend.facts.revision == stable.facts.revision:
            raise Conflict(f"revision {backend.facts.revision} is in use already")

    def _there(self, rung: str) -> Canary:
        canary = self._canaries.get(rung)
        if canary is None:
            raise Conflict(f"{rung} has no canary; add one first")
        return canary

    async def _reach(self, backend: DetectorBackend) -> None:
        """See a service again that was asked nothing for a while, and may have been started anew.

        Its connection is to pods that have ended. The first frames would find that out.
        """
        end = asyncio.get_running_loop().time() + _REACH_SECONDS
        while not await backend.probe(self._timeout) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.1)

    async def _let_go(self, backend: DetectorBackend) -> None:
        task = self._watches.pop(backend, None)
        if task is not None:
            task.cancel()
        end = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        while (backend.waiting or backend.holders) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        await backend.rung.close()
