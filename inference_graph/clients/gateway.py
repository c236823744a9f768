"""The client of the gateway: a video, a camera or any frames streamed to it, answers back."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import numpy as np

from feature_transformer.image import Frame
from foundation.errors import InvalidInput, Unavailable
from foundation.event_loop import run
from inference_graph.clients.stream import Message, StreamClient, StreamOptions, encode
from inference_graph.contract import GEARS, LADDER
from inference_graph.local_video.files import Shown, Video, opened

__all__ = [
    "Message",
    "StreamClient",
    "StreamOptions",
    "StreamSummary",
    "encode",
    "stream_video",
]


@dataclass(frozen=True)
class StreamSummary:
    """Totals of a finished stream.

    Attributes:
        frames: frames sent.
        answered: of them, those answered.
        lost: frames of the source that could not be read, and were not sent.
        dropped: those dropped because a newer one came.
        errors: those refused or not answered in time.
        shares: share of the answers each rung gave, and "reuse" if any, 0..1.
        fallbacks: answers by another rung than the one chosen.
        seconds: from the first frame to the last answer.
        fps: answers per second.
        mean_ms: mean of the gateway's time from a frame's arrival to its answer.
        p50_ms: its median.
        p95_ms: its 95th percentile.
        max_ms: its longest.
    """

    frames: int
    lost: int
    answered: int
    dropped: int
    errors: int
    shares: Mapping[str, float]
    fallbacks: int
    seconds: float
    fps: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


def stream_video(
    source: str,
    url: str,
    token: str | None = None,
    on_answer: Callable[[Message], None] | None = None,
    options: StreamOptions | None = None,
    tags: Mapping[str, str] | None = None,
    live: bool | None = None,
) -> StreamSummary:
    """Stream a video, a camera or a network stream to a gateway, and wait for the last answer.

    Args:
        source: a file, an URL that OpenCV opens (rtsp://, http://), or a camera's number.
        url: of the gateway.
        token: access token.
        on_answer: called with every message of the gateway, in the order of the frames.
        options: how to send; with ``live`` the window is 0.
        tags: kept with every answer in the gateway's log.
        live: send each frame at its time and let the gateway drop old ones; cameras and network
            streams are live, files are not, unless set here.

    Raises:
        VideoError: the source cannot be opened or holds no frame.
        AccessError: the token is missing or wrong.
        InvalidInput: the gateway refuses an option, or every frame.
        Unavailable: no gateway answers at the URL, the gateway ended the stream, or answered no
            frame because none could be or all were dropped.
    """
    options = options or StreamOptions()
    comes_by_itself = source.isdecimal() or "://" in source
    live = comes_by_itself if live is None else live
    if live:
        options = dataclasses.replace(options, window=0)
    paced = live and not comes_by_itself
    return run(_stream_video(source, url, token, on_answer, options, tags, paced))


async def _stream_video(
    source: str,
    url: str,
    token: str | None,
    on_answer: Callable[[Message], None] | None,
    options: StreamOptions,
    tags: Mapping[str, str] | None,
    paced: bool,
) -> StreamSummary:
    times: list[float] = []
    gears: list[str] = []
    dropped = errors = fallbacks = 0
    refusal: Message | None = None
    with opened(source) as video:
        async with StreamClient(url, token, options, tags) as client:
            start = time.monotonic()
            async for message in client.stream(_frames(video, paced)):
                if message["type"] == "detections":
                    times.append(float(message["milliseconds"]["total"]))
                    gears.append(message["answered_by"])
                    fallbacks += bool(message["fallback"])
                elif message["type"] == "dropped":
                    dropped += len(message["frames"])
                else:
                    errors += 1
                    refusal = refusal or message
                if on_answer is not None:
                    on_answer(message)
            seconds = time.monotonic() - start
    if not times and refusal is None:
        raise Unavailable(
            f"the gateway answered none of {dropped} frames, it dropped them all: they come faster "
            "than it answers or allows; send fewer a second"
        )
    if not times and refusal:
        kind = InvalidInput if refusal["status"] < 500 else Unavailable
        raise kind(
            f"the gateway answered none of {dropped + errors} frames; the first error: "
            f"{refusal['detail']}"
        )
    return StreamSummary(
        frames=len(times) + dropped + errors,
        lost=video.lost,
        answered=len(times),
        dropped=dropped,
        errors=errors,
        shares={
            gear: gears.count(gear) / max(len(gears), 1)
            for gear in GEARS
            if gear in LADDER or gear in gears
        },
        fallbacks=fallbacks,
        seconds=seconds,
        fps=len(times) / max(seconds, 1e-9),
        mean_ms=float(np.mean(times)),
        p50_ms=float(np.percentile(times, 50)),
        p95_ms=float(np.percentile(times, 95)),
        max_ms=float(np.max(times)),
    )


async def _frames(video: Video, paced: bool) -> AsyncIterator[Frame]:
    """Frames as they come; reading waits on a thread, so that answers are received meanwhile."""
    shown: Shown | None = video.first
    start, due = time.monotonic(), 0.0
    while shown is not None:
        yield shown.frame
        reading = asyncio.ensure_future(asyncio.to_thread(video.read))
        try:
            shown = await asyncio.shield(reading)
        except asyncio.CancelledError:
            await reading  # a source must not be released while a thread reads it
            raise
        if paced and shown is not None:
            # Without a time stamp, or with one that goes back, the rate determines when it is due.
            due = shown.seconds if shown.seconds > due else due + 1 / video.fps
            await asyncio.sleep(max(start + due - time.monotonic(), 0))
