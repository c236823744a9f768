"""A camera that never stops: one stream session whose frames are chosen while it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import GearshiftError, Unavailable
from foundation.event_loop import run
from inference_graph.clients.gateway import StreamClient, StreamOptions

_IDLE = 0.02
"""Seconds between two looks for a frame to send."""
_PATIENCE = 120.0
"""Seconds without any answer after which the stream counts as broken."""


@dataclass(frozen=True)
class Shot:
    """One frame to send.

    Attributes:
        phase: what it is part of, for the report.
        folder: name of the data set that it comes from.
        index: its position there.
        file: the encoded image.
    """

    phase: str
    folder: str
    index: int
    file: Path


@dataclass(frozen=True)
class Sent:
    """A frame's fate.

    Attributes:
        number: of the frame in its session.
        shot: what was sent.
        time: when its answer or refusal came, seconds since 1970.
        event_id: key of the answer; empty where there was none.
        answered_by: the rung that answered; empty likewise.
    """

    number: int
    shot: Shot
    time: float
    event_id: str
    answered_by: str


class DriftTraffic:
    """Streams on a thread of its own; use it as a context manager.

    Attributes:
        sent: the fate of every frame so far, in order.
        played: how many of them were asked for by :meth:`play`.
        fps: frames per second at most; each waits for the answer to the one before.
    """

    def __init__(self, gateway: str, session: str, fps: float) -> None:
        """Prepare a stream.

        Args:
            gateway: its address.
            session: name of the session.
            fps: frames per second at most; each waits for the answer to the one before.
        """
        self.sent: list[Sent] = []
        self.played = 0
        self._gateway, self._session, self.fps = gateway, session, fps
        self._wanted: deque[Shot] = deque()
        self._between: Sequence[Shot] = ()
        self._turn = 0
        self._under_way: deque[tuple[Shot, bool]] = deque()
        self._ended = threading.Event()
        self._failure: GearshiftError | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> DriftTraffic:
        """Connect."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the stream."""
        self._ended.set()
        self._thread.join(_PATIENCE)

    def play(self, shots: Sequence[Shot]) -> None:
        """Send frames before any others, and return when the last one had its fate.

        Raises:
            GearshiftError: the stream broke.
        """
        goal = self.played + len(shots)
        self._wanted.extend(shots)
        before, since = len(self.sent), time.monotonic()
        while self.played < goal:
            self.check()
            if len(self.sent) > before:
                before, since = len(self.sent), time.monotonic()
            if time.monotonic() - since > _PATIENCE:
                raise Unavailable(
                    f"the stream stands still after {before} frames; see the services' logs"
                )
            time.sleep(_IDLE)

    def between(self, shots: Sequence[Shot]) -> None:
        """Send these again and again whenever nothing else is to be played; none pauses."""
        self._between, self._turn = tuple(shots), 0

    def check(self) -> None:
        """Raise what broke the stream, if anything did."""
        if self._failure is not None:
            raise self._failure
        if not self._thread.is_alive() and not self._ended.is_set():
            raise Unavailable("the stream ended by itself; see the gateway's log")

    def _run(self) -> None:
        try:
            run(self._stream())
        except GearshiftError as error:
            self._failure = error

    async def _stream(self) -> None:
        options = StreamOptions(session=self._session, timeout=_PATIENCE)
        async with StreamClient(self._gateway, None, options) as client:
            async for message in client.stream(self._frames()):
                numbers = message.get("frames") or [message["frame"]]
                for number in numbers:
                    shot, asked_for = self._under_way.popleft()
                    identity = str(message.get("event_id", "")), str(message.get("answered_by", ""))
                    self.sent.append(Sent(int(number), shot, time.time(), *identity))
                    self.played += asked_for

    async def _frames(self) -> AsyncIterator[bytes]:
        due = time.monotonic()
        while not self._ended.is_set():
            chosen = self._next()
            if chosen is None:
                await asyncio.sleep(_IDLE)
                continue
            data = chosen[0].file.read_bytes()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1 / self.fps) + 1 / self.fps
            self._under_way.append(chosen)
            yield data

    def _next(self) -> tuple[Shot, bool] | None:
        """The next frame, and whether it was asked for."""
        if self._wanted:
            return self._wanted.popleft(), True
        between = self._between
        if not between:
            return None
        shot = between[self._turn % len(between)]
        self._turn += 1
        return shot, False
