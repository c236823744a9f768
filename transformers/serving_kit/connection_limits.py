"""Limits of HTTP connections, the same before every service: gateway, graph, rungs, transformer.

They hold before an application sees a request: how many connections there are, of one address and
of all, how long and how many the headers are, how long they and the answer may take, into how many
pieces a body is cut, and how many bytes of unfinished requests are held. A peer beyond a limit gets
one answer, and nothing more is read from it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LINGER_SECONDS, _LINGER_BYTES = 1.0, 256 * 1024
"""A peer that is still sending loses the refusal if its connection is closed at once (RFC 9112,
section 9.6), so what it sends is thrown away for a moment."""
_PIPELINED = 64
"""Requests of one connection that may wait for their turn."""
_CHUNKS, _CHUNK_BYTES = 1024, 16
"""Pieces of a body beyond the first thousand have to be of so many bytes on average."""
_HTTP2 = b"PRI * HTTP/2"
_AGAIN = (429, 503)


@dataclass(frozen=True)
class ConnectionLimits:
    """What one peer may have, and all of them together.

    Attributes:
        connections: open at once; half of the process's file descriptors at most. At the limit
            the connection that is longest without a request in work is closed for the next one.
        address_share: share of them that one address may have.
        proxies: addresses or networks, separated by commas, that stand for many clients and may
            have all connections; ``*`` for every address.
        headers: of a request at most.
        header_bytes: of a request's line and headers.
        header_seconds: in which a request's headers have to arrive.
        write_seconds: an answer that is not taken for so long ends its connection.
        arriving_bytes: of all unfinished requests together; beyond that the largest is refused.
    """

    connections: int = 1000
    address_share: float = 0.5
    proxies: str = ""
    headers: int = 100
    header_bytes: int = 32 * 1024
    header_seconds: float = 15.0
    write_seconds: float = 30.0
    arriving_bytes: int = 256 * 1024 * 1024


class Connection(Protocol):
    """What :class:`Connections` knows of a connection."""

    transport: Any
    client: tuple[str, int] | None
    arriving: int
    """Bytes held of a request or message that is not whole yet."""
    idle_since: float | None
    """Since when nothing is asked on it, seconds of the loop's clock; None while something is."""

    def cut(self, status: int, text: str) -> None:
        """Refuse what it asks, and close it."""
        ...


class Connections:
    """The open connections of one server.

    Attributes:
        limits: what they may have.
        draining: whether the answer to a request that comes from now on is the last of its
            connection. Its client then knows that it must send the next one elsewhere; a
            connection that is closed between two requests may lose the second.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        """None is open yet."""
        self.limits = limits
        self.draining = False
        self._most = max(min(limits.connections, _descriptors() // 2), 1)
        self._of_address = max(int(self._most * limits.address_share), 1)
        self._open: set[Connection] = set()
        self._addresses: Counter[str] = Counter()
        self._arriving = 0
        self._proxies = [
            ipaddress.ip_network(one.strip(), strict=False)
            for one in limits.proxies.split(",")
            if one.strip() not in ("", "*")
        ]
        self._all_are_proxies = "*" in limits.proxies

    def add(self, connection: Connection) -> None:
        """Take a connection in, or refuse it."""
        address = _address(connection)
        self._open.add(connection)
        self._addresses[address] += 1
        if len(self._open) > self._most:
            refusal = 503, f"{self._most} connections are open, as many as are allowed"
            rivals = self._open
        elif self._addresses[address] > self._of_address and not self._is_proxy(address):
            refusal = 429, f"{address} has {self._of_address} connections, as many as one may have"
            rivals = {one for one in self._open if _address(one) == address}
        else:
            return
        idle = [one for one in rivals if one.idle_since is not None and one is not connection]
        if idle:
            # The address with the most loses one, and of its connections the longest idle.
            max(idle, key=self._dispensable).transport.close()
        else:
            connection.cut(refusal[0], f"{refusal[1]}; try again in a moment")

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed, or goes on as another protocol."""
        if connection in self._open:
            self.release(connection)
            self._open.discard(connection)
            address = _address(connection)
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def hold(self, connection: Connection, length: int) -> None:
        """Hold more bytes of what is not whole yet; when they are too many the largest goes."""
        connection.arriving += length
        self._arriving += length
        if self._arriving > self.limits.arriving_bytes:
            largest = max(self._open, key=lambda one: one.arriving)
            self.release(largest)
            largest.cut(
                503, "too many bytes of unfinished requests are held; try again in a moment"
            )

    def release(self, connection: Connection) -> None:
        """What was held is whole, or given up."""
        self._arriving -= connection.arriving
        connection.arriving = 0

    def _dispensable(self, connection: Connection) -> tuple[int, float]:
        return self._addresses[_address(connection)], -(connection.idle_since or 0.0)

    def _is_proxy(self, address: str) -> bool:
        if self._all_are_proxies:
            return True
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(known in network for network in self._proxies)


class LimitedHttp(HttpToolsProtocol):
    """An HTTP connection within its limits; :func:`limited_http` makes the class of a server."""

    connections_of_server: ClassVar[Connections]
    refusal_body: ClassVar[Callable[[str], bytes]]

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        self.arriving = 0
        self.idle_since: float | None = self.loop.time()
        self._limits = self.connections_of_server.limits
        self._head_bytes: int | None = 0
        self._header_count = self._chunk_count = self._body_bytes = 0
        self._refusal: tuple[int, str] | None = None
        self._linger: int | None = None
        self._unwritten: asyncio.TimerHandle | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._wait_for_headers()
        self.connections_of_server.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of all that was held."""
        self._stop_waiting()
        if self._unwritten is not None:
            self._unwritten.cancel()
        self.connections_of_server.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, with headers in pieces that cannot be too long."""
        if self._linger is not None:
            self._linger += len(data)
            if self._linger > _LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        while data and self._linger is None and not self.transport.is_closing():
            piece = data
            if self._head_bytes is not None:
                room = self._limits.header_bytes - self._head_bytes
                if room <= 0:
                    limit = self._limits.header_bytes
                    self.cut(431, f"the headers are longer than the {limit} bytes allowed")
                    return
                piece = data[:room]
                self._head_bytes += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self._stop_waiting()
                    self.connections_of_server.remove(self)
                    self.handle_websocket_upgrade()
                    return
                data = self._head_without_offer() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                continue
            except httptools.HttpParserError:
                http2 = data.startswith(_HTTP2)
                unread = (505, "HTTP/2 is not spoken here; send HTTP/1.1") if http2 else None
                self.cut(*self._refusal or unread or (400, "this is no HTTP request"))
                return
            data = data[len(piece) :]

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._header_count = self._chunk_count = self._body_bytes = 0
        if self._waiting is None:
            self._wait_for_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, or a trailer."""
        self._header_count += 1
        if self._header_count > self._limits.headers:
            self._stop(431, f"more than {self._limits.headers} headers; send fewer")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request can be answered."""
        if self._is_other_offer():
            return
        self._stop_waiting()
        self._head_bytes = None
        self.idle_since = None
        if len(self.pipeline) >= _PIPELINED:
            self._stop(400, f"more than {_PIPELINED} requests wait; read their answers first")
        super().on_headers_complete()
        if self.connections_of_server.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count the pieces of a body and their bytes."""
        self._chunk_count += 1
        self._body_bytes += len(body)
        if self._chunk_count > _CHUNKS + self._body_bytes // _CHUNK_BYTES:
            self._stop(400, "the body comes in too many pieces; send larger ones")
        self.connections_of_server.hold(self, len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._is_other_offer():
            return
        self._head_bytes = 0
        self.connections_of_server.release(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The connection is idle, unless more requests wait."""
        if not self.pipeline:
            self.idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer does not read; it has its time to begin."""
        super().pause_writing()
        if self._unwritten is None:
            seconds = self._limits.write_seconds
            self._unwritten = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer reads."""
        if self._unwritten is not None:
            self._unwritten.cancel()
            self._unwritten = None
        super().resume_writing()

    def cut(self, status: int, text: str) -> None:
        """Refuse the request at work, and read nothing more."""
        if self._linger is not None or self.transport.is_closing():
            return
        self._stop_waiting()
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and (self.cycle.response_started or not self.cycle.more_body):
            self.transport.close()  # a second answer would be taken for part of the first
            return
        if answering:
            self.cycle.disconnected = True  # its application must not answer as well
            self.cycle.message_event.set()
        self.transport.write(refusal(status, type(self).refusal_body(text)))
        self._linger = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _is_other_offer(self) -> bool:
        """Whether the request offers another protocol than WebSockets, as Java's client does.

        The parser takes its body for the other protocol's. So it is parsed again without the offer.
        """
        if not self.parser.should_upgrade() or self._should_upgrade():
            return False
        if self.parser.get_method() == b"CONNECT":
            self._stop(405, "this is no proxy; send the request itself")
        return True

    def _head_without_offer(self) -> bytes:
        self._head_bytes = 0
        line = b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
        kept = [
            b"%b: %b\r\n" % (name, b"close" if name == b"connection" else value)
            for name, value in self.headers
            if name not in (b"connection", b"upgrade", b"http2-settings")
            or (name == b"connection" and b"close" in value.lower())
        ]
        return b"".join((line, *kept, b"\r\n"))

    def _stop(self, status: int, text: str) -> None:
        self._refusal = (status, text)
        raise ValueError(text)  # the parser stops with its own error for a failed callback

    def _wait_for_headers(self) -> None:
        seconds = self._limits.header_seconds
        text = f"the headers did not arrive within {seconds:g} s; send the request again"
        self._waiting = self.loop.call_later(seconds, self.cut, 408, text)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def limited_http(
    connections: Connections, refusal_body: Callable[[str], bytes]
) -> type[HttpToolsProtocol]:
    """The class of a server's HTTP connections, as uvicorn takes it.

    Args:
        connections: of the server.
        refusal_body: makes the JSON of a refusal of its sentence.
    """
    members = {
        "connections_of_server": connections,
        "refusal_body": staticmethod(refusal_body),
    }
    return type("LimitedHttp", (LimitedHttp,), members)


def refusal(status: int, body: bytes) -> bytes:
    """A whole answer that refuses, as it goes over the wire."""
    more = "retry-after: 1\r\n" if status in _AGAIN else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"{more}connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _descriptors() -> int:
    """Files and sockets that the process may have open."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return 2**31
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def _address(connection: Connection) -> str:
    return "" if connection.client is None else connection.client[0]
