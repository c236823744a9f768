"""A WebSocket within its limits: what a peer sends is parsed bit by bit, and counted.

The library below parses all that a read from the socket brings in one go, ten thousand empty
fragments or pings if need be, and no other stream is served meanwhile. Here it gets a small piece
at a time; the next one waits until the application has taken the message that the last one ended.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from inference_graph.gateway.limits import RateLimiter
from inference_graph.gateway.problems import problem_body
from serving_kit.connection_limits import Connections, refusal

_PIECE = 2048
"""Bytes parsed at once: 340 frames at most, a few milliseconds."""
_CONTROLS_PER_SECOND, _CONTROLS_AT_ONCE = 10.0, 60.0
"""Pings and pongs; clients send one every few seconds."""
_FRAGMENTS, _FRAGMENT_BYTES = 64, 512
"""Fragments of a message beyond the first ones have to be of so many bytes on average."""
_POLICY, _TRY_AGAIN = 1008, 1013
_CLOSING_SECONDS, _CLOSING_BYTES = 2.0, 1024 * 1024
"""How long, and how much, a peer may still send after the stream was closed: it
would not read the reason if the connection ended at once."""
_ANSWER_BYTES = 4096
"""So much of it is looked at, for the peer's own close; the rest is thrown away."""


class LimitedSocket(WebSocketsSansIOProtocol):
    """One WebSocket; :func:`limited_socket` makes the class of a server."""

    connections_of_server: ClassVar[Connections]
    message_seconds: ClassVar[float]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Begin; see uvicorn."""
        super().__init__(*arguments, **options)
        self.close_timeout = _CLOSING_SECONDS
        self.arriving = 0
        self.idle_since: float | None = None  # streams have places of their own
        self._held = bytearray()
        self._controls = RateLimiter(_CONTROLS_PER_SECOND, burst=_CONTROLS_AT_ONCE)
        self._fragments = 0
        self._after_close = 0
        self._too_long: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take over from the HTTP connection that asked for the upgrade."""
        super().connection_made(transport)
        self.connections_of_server.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of all that was held."""
        self._message_ended()
        self.connections_of_server.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as the application keeps up."""
        if not self.close_sent:
            self._held += data
            self._parse()
            return
        self._after_close += len(data)
        if self._after_close > _CLOSING_BYTES:
            self.transport.abort()
        elif self._after_close <= _ANSWER_BYTES and not self._held:
            super().data_received(data)

    async def receive(self) -> Any:
        """The next message; those behind it are parsed now."""
        message = await super().receive()
        self._parse()
        return message

    async def send(self, message: Any) -> None:
        """Send; once the stream is accepted, what came meanwhile is parsed."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.transport.resume_reading()
            self._parse()
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # a refusal is an answer; uvicorn logs it as an error

    def handle_ping(self) -> None:
        """Answer a ping, one of a few."""
        if self._count_control():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Take a pong, one of a few."""
        if self._count_control():
            super().handle_pong(event)

    def handle_text(self, event: Frame) -> None:
        """Take a text, or the first part of one."""
        if self._count_fragment(event):
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """Take a frame of the stream, or the first part of one."""
        if self._count_fragment(event):
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """Take a further part."""
        if self._count_fragment(event):
            super().handle_cont(event)

    def cut(self, status: int, text: str) -> None:
        """Close the stream; called where its unfinished message is the largest of all."""
        self._end(_TRY_AGAIN, text)

    def _parse(self) -> None:
        while self._held and not (self.read_paused or self.close_sent or self.disconnected):
            if self.handshake_initiated and not self.handshake_complete:
                self.transport.pause_reading()
                return
            piece = bytes(self._held[:_PIECE])
            del self._held[:_PIECE]
            if self.handshake_complete:
                self.connections_of_server.hold(self, len(piece))
            super().data_received(piece)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse_handshake()
        elif self.arriving and self._too_long is None and not self.close_sent:
            seconds = self.message_seconds
            text = f"a message did not arrive whole within {seconds:g} s"
            self._too_long = self.loop.call_later(seconds, self._end, _POLICY, text)

    def _refuse_handshake(self) -> None:
        body = problem_body("a header is longer than a WebSocket's may be, or they are too many")
        self.transport.write(refusal(431, body))
        self.close_sent = self.handshake_complete = True
        self.transport.close()

    def _count_control(self) -> bool:
        if not self._fragments:
            self._message_ended()
        if self._controls.wait("", time.monotonic()):
            self._end(_POLICY, "too many pings; send one every few seconds")
        return not self.close_sent

    def _count_fragment(self, frame: Frame) -> bool:
        self._fragments += 1
        if self._fragments > _FRAGMENTS + self.arriving // _FRAGMENT_BYTES:
            self._end(_POLICY, "a message in too many fragments; send larger ones")
        elif frame.fin:
            self._message_ended()
        return not self.close_sent

    def _message_ended(self) -> None:
        self._fragments = 0
        self.connections_of_server.release(self)
        if self._too_long is not None:
            self._too_long.cancel()
            self._too_long = None

    def _end(self, code: int, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        self._message_ended()
        self._after_close = _ANSWER_BYTES  # the parser is in the middle of something
        self.frames = []
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)


def limited_socket(
    connections: Connections, message_seconds: float
) -> type[WebSocketsSansIOProtocol]:
    """The class of a server's WebSockets, as uvicorn takes it.

    Args:
        connections: of the server.
        message_seconds: in which a message has to arrive, from its first byte.
    """
    members = {"connections_of_server": connections, "message_seconds": message_seconds}
    return type("LimitedSocket", (LimitedSocket,), members)
