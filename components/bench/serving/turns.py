"""One frame at a time over a stream: sent, waited for, and timed by the clock of the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from foundation.errors import Unavailable
from inference_graph.clients.gateway import Message, StreamClient, StreamOptions


@dataclass(frozen=True)
class Turn:
    """One frame's answer.

    Attributes:
        milliseconds: from handing the frame to the client until its answer was read.
        message: the gateway's message.
    """

    milliseconds: float
    message: Message

    @property
    def answered(self) -> bool:
        """Whether the frame got detections, not an error."""
        return bool(self.message["type"] == "detections")


class Turns:
    """A stream whose next frame is sent when the answer to the last one has come."""

    def __init__(self, client: StreamClient) -> None:
        """Take turns over an open client."""
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._messages = client.stream(self._each())

    async def ask(self, frame: bytes) -> Turn:
        """Send a frame and wait for its answer, or for the error in its place.

        Args:
            frame: an encoded image.

        Raises:
            Unavailable: the gateway ended the stream.
        """
        start = time.perf_counter()
        self._frames.put_nowait(frame)
        message = await anext(self._messages)
        return Turn((time.perf_counter() - start) * 1e3, message)

    async def answer(self, frame: bytes) -> Turn:
        """The same for a caller who cannot do without.

        Raises:
            Unavailable: the frame got an error.
        """
        turn = await self.ask(frame)
        if not turn.answered:
            raise Unavailable(f"a frame got no answer: {turn.message.get('detail', 'dropped')}")
        return turn

    async def end(self) -> None:
        """Signal that no frame follows."""
        self._frames.put_nowait(None)
        async for _ in self._messages:
            pass

    async def _each(self) -> AsyncIterator[bytes]:
        while (frame := await self._frames.get()) is not None:
            yield frame


@asynccontextmanager
async def turns(url: str, options: StreamOptions | None = None) -> AsyncIterator[Turns]:
    """A new stream session at a gateway.

    Args:
        url: of the gateway.
        options: of the client.

    Raises:
        Unavailable: no service answers there.
    """
    async with StreamClient(url, options=options) as client:
        stream = Turns(client)
        yield stream
        await stream.end()
