"""One stream to a gateway: frames go out, and each has an outcome, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode, urlunsplit

import orjson
from pydantic import Field
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
)

from foundation.addresses import split_address
from foundation.configuration import configuration
from foundation.errors import (
    ConfigurationError,
    InvalidInput,
    Unavailable,
    error_class,
)

if TYPE_CHECKING:
    from feature_transformer.image import Frame

Message = Mapping[str, Any]
"""A message of the gateway; ``type`` is "detections", "dropped" or "error"."""

_STREAM = "/v1/stream"
_PARAMETERS = ("session", "latency_weight", "deadline_ms", "confidence", "classes", "track")
_LARGEST_ANSWER = 16 * 1024 * 1024


@configuration
class StreamOptions:
    """How frames are sent.

    Attributes:
        session: name of the session; the gateway makes one without it.
        latency_weight: operating point; the gateway's own without it.
        deadline_ms: time a frame may take from its arrival to its answer; the gateway's own
            without it.
        confidence: detections below this score are left out, 0..1; the gateway's own without it.
        classes: names of the classes to return, separated by commas; all without it.
        track: whether answers are fused over the frames and hold track ids, on or off; as the
            gateway is set without it.
        window: frames under way at most, 1 or more; a source that waits loses none with up to 2.
            0 sends each frame as it comes, as a camera must, and the gateway drops what is old.
        quality: of the jpeg a frame is sent as, 1 to 100.
        max_frames: stop after so many; all without it.
        timeout: seconds to wait for the connection, and for an answer.
    """

    session: str | None = None
    latency_weight: float | None = None
    deadline_ms: float | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    classes: str | None = None
    track: Literal["on", "off"] | None = None
    window: Annotated[int, Field(ge=0)] = 1
    quality: Annotated[int, Field(ge=1, le=100)] = 92
    max_frames: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, Field(gt=0)] = 30.0


class StreamClient:
    """One stream to a gateway; use it as an async context manager.

    Example::

        async with StreamClient("http://127.0.0.1:8600", token) as client:
            async for message in client.stream(frames):
                print(message["frame"], message["answered_by"])
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        options: StreamOptions | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a stream; it begins with the block.

        Args:
            url: of the gateway, http://, https://, ws:// or wss://.
            token: access token; none where the gateway is open.
            options: how to send.
            tags: kept with every answer in the gateway's log.

        Raises:
            ConfigurationError: no such URL.
        """
        self.options = options or StreamOptions()
        self._url = stream_url(url, self.options)
        self._token = token
        self._tags = tags
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> StreamClient:
        """Connect.

        Raises:
            AccessError: the token is missing or wrong; ``Forbidden`` when it may not stream.
            InvalidInput: the gateway refuses an option.
            Unavailable: no gateway answers at the URL, or the gateway has no place.
        """
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        where = self._url.partition("?")[0]
        try:
            self._socket = await connect(
                self._url,
                additional_headers=headers,
                compression=None,
                max_size=_LARGEST_ANSWER,
                open_timeout=self.options.timeout,
                proxy=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            kind = error_class(status, {404: Unavailable}, server_error=Unavailable)
            raise kind(f"{where} answers {status}: {_detail(error.response.body)}") from error
        except (OSError, TimeoutError, InvalidHandshake, InvalidMessage) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(
                f"no gateway answers at {where} ({reason}); check that it runs"
            ) from error
        if self._tags:
            await self._send(orjson.dumps({"type": "hello", "tags": dict(self._tags)}).decode())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def stream(
        self, frames: Iterable[bytes | Frame] | AsyncIterable[bytes | Frame]
    ) -> AsyncIterator[Message]:
        """Send frames and yield the gateway's messages about them, in their order.

        Args:
            frames: encoded images, or frames uint8 [height, width, 3] in BGR. A generator that
                waits for a camera must be an async one.

        Yields:
            Messages until every frame has an outcome: an answer ("detections"), named among
            the "dropped", or an "error" with its status and sentence.

        Raises:
            InvalidInput: a frame that is none.
            Unavailable: the gateway ended the stream, or sends nothing for too long.
        """
        in_flight = _InFlight(self.options.window)
        sender = asyncio.ensure_future(self._send_all(frames, in_flight))
        receiver: asyncio.Task[Message] | None = None
        try:
            # The last frame may have its outcome before the source ends.
            while not (sender.done() and in_flight.settled):
                if receiver is None:
                    receiver = asyncio.ensure_future(self._receive())
                done, _ = await asyncio.wait(
                    {receiver} if sender.done() else {receiver, sender},
                    timeout=self.options.timeout,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if sender.done():
                    sender.result()
                if receiver.done():
                    message, receiver = receiver.result(), None
                    in_flight.received(message)
                    yield message
                elif not done and not in_flight.settled:
                    raise Unavailable(f"the gateway sent nothing for {self.options.timeout:g} s")
        finally:
            tasks = [task for task in (sender, receiver) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_all(
        self, frames: Iterable[bytes | Frame] | AsyncIterable[bytes | Frame], in_flight: _InFlight
    ) -> None:
        count = 0
        async for frame in _each(frames):
            data = frame if isinstance(frame, bytes) else encode(frame, self.options.quality)
            await in_flight.room()
            in_flight.sent()
            await self._send(data)
            count += 1
            if count == self.options.max_frames:
                return

    async def _send(self, message: str | bytes) -> None:
        if self._socket is None:
            raise ConfigurationError("the stream is not open; use the client in `async with`")
        try:
            async with asyncio.timeout(self.options.timeout):
                await self._socket.send(message)
        except ConnectionClosed as error:
            raise Unavailable(_ended(error)) from error
        except TimeoutError as error:
            raise Unavailable(
                f"the gateway took no frame for {self.options.timeout:g} s"
            ) from error

    async def _receive(self) -> Message:
        if self._socket is None:
            raise ConfigurationError("the stream is not open; use the client in `async with`")
        try:
            text = await self._socket.recv()
        except ConnectionClosed as error:
            raise Unavailable(_ended(error)) from error
        try:
            message = orjson.loads(text)
            kind = message["type"]
        except (ValueError, TypeError, KeyError) as error:
            raise Unavailable("what answers there is no gateway; check the URL") from error
        if kind == "error" and message.get("frame") is None:
            raise InvalidInput(f"the gateway refuses a message: {message.get('detail')}")
        return dict(message)


class _InFlight:
    """Frames sent that have no outcome yet; at most as many as the window allows."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._under_way = 0
        self._changed = asyncio.Event()

    @property
    def settled(self) -> bool:
        return self._under_way == 0

    def sent(self) -> None:
        self._under_way += 1

    def received(self, message: Message) -> None:
        self._under_way -= len(message["frames"]) if message["type"] == "dropped" else 1
        self._changed.set()

    async def room(self) -> None:
        while self._window and self._under_way >= self._window:
            self._changed.clear()
            await self._changed.wait()


def stream_url(url: str, options: StreamOptions) -> str:
    """The stream's address at a gateway.

    Raises:
        ConfigurationError: no http://, https://, ws:// or wss:// URL.
    """
    parts = split_address(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigurationError(f"{url!r} is no gateway; give http://HOST:PORT")
    path = parts.path.rstrip("/")
    given = {name: getattr(options, name) for name in _PARAMETERS}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return urlunsplit(
        (scheme, parts.netloc, path if path.endswith(_STREAM) else path + _STREAM, query, "")
    )


def encode(frame: Frame, quality: int = 92) -> bytes:
    """A frame as jpeg.

    Args:
        frame: uint8 [height, width, 3], BGR.
        quality: 1 to 100.

    Raises:
        ImageError: the array is no frame.
        InvalidInput: it is too large for a jpeg (65535 pixels a side).
    """
    # Encoded images need neither OpenCV nor NumPy, so a client of those alone goes without.
    import cv2

    from feature_transformer.image import check_frame

    check_frame(frame)
    try:
        done, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise InvalidInput(f"a frame of {frame.shape[1]}x{frame.shape[0]} does not become a jpeg")
    return data.tobytes()


async def _each(
    frames: Iterable[bytes | Frame] | AsyncIterable[bytes | Frame],
) -> AsyncIterator[bytes | Frame]:
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
        return
    for frame in frames:
        yield frame


def _detail(body: bytes | bytearray | None) -> str:
    try:
        return str(orjson.loads(body or b"")["detail"])
    except (ValueError, TypeError, KeyError):
        return "no reason given"


def _ended(error: ConnectionClosed) -> str:
    closing = error.rcvd
    if closing is None:
        return "the connection to the gateway broke; connect again"
    return f"the gateway ended the stream ({closing.code} {closing.reason or 'no reason given'})"
