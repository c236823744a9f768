from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gateway_samples import Rungs, Served, again, gateway_settings, jpeg, served
from tiny_models import drawn
from websockets.asyncio.server import serve

from foundation.errors import (
    AccessError,
    ConfigurationError,
    Forbidden,
    ImageError,
    InvalidInput,
    Unavailable,
    VideoError,
)
from inference_graph.clients.gateway import StreamClient, StreamOptions, encode, stream_video
from inference_graph.clients.stream import stream_url
from inference_graph.gateway.access import add_token


def film(path: Path, count: int, fps: float = 25.0) -> str:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (128, 96))
    for index in range(count):
        writer.write(drawn(96, 128, seed=index))
    writer.release()
    return str(path)


def collected(
    url: str, frames: Any, token: str | None = None, **options: Any
) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        async with StreamClient(url, token, StreamOptions(**options)) as client:
            return [dict(message) async for message in client.stream(frames)]

    return asyncio.run(asyncio.wait_for(run(), 120))


@pytest.mark.parametrize("window", [1, 2])
def test_a_source_that_waits_loses_nothing(gateway: Served, window: int) -> None:
    frames = [jpeg(0), drawn(96, 128, 1), jpeg(2), drawn(96, 128, 3)]
    messages = collected(gateway.url, frames, window=window)
    assert [message["frame"] for message in messages] == [0, 1, 2, 3]
    assert {message["type"] for message in messages} == {"detections"}
    assert [len(message["detections"]) for message in messages] == [1, 2, 3, 1]


def test_a_source_that_does_not_wait_receives_the_fate_of_every_frame(
    gateway: Served, rungs: Rungs
) -> None:
    for rung in rungs.values():
        rung.delay = 0.2

    async def camera() -> AsyncIterator[bytes]:
        for index in range(30):
            yield jpeg(index)
            await asyncio.sleep(0.02)

    messages = collected(gateway.url, camera(), window=0)
    reported: list[int] = []
    for message in messages:
        reported += message["frames"] if message["type"] == "dropped" else [message["frame"]]
    assert reported == list(range(30))
    assert messages[-1]["frame"] == 29
    assert "dropped" in {message["type"] for message in messages}


def test_no_frames_no_messages(gateway: Served) -> None:
    assert collected(gateway.url, []) == []


def test_frames_that_are_refused_are_reported(gateway: Served) -> None:
    messages = collected(gateway.url, [b"no image", jpeg()])
    assert [(message["type"], message["frame"]) for message in messages] == [
        ("error", 0),
        ("detections", 1),
    ]
    with pytest.raises(ImageError):
        collected(gateway.url, [np.zeros((5, 5), np.uint8)])


def test_a_video_of_which_every_frame_is_refused_fails_and_states_why(
    rungs: Rungs, tmp_path: Path
) -> None:
    video = film(tmp_path / "a.avi", 5)
    with (
        served(gateway_settings(max_pixels=1000), rungs) as gateway,
        pytest.raises(InvalidInput, match=r"none of 5 frames; the first error: .*128x96"),
    ):
        stream_video(video, gateway.url)
    failing = again(rungs)
    with served(gateway_settings(), failing) as gateway:
        for rung in failing.values():
            rung.failing = True
        with pytest.raises(Unavailable, match="none of 5 frames"):
            stream_video(video, gateway.url)


def test_a_video_of_which_every_frame_is_dropped_is_an_error(
    gateway: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dropped(client: StreamClient, frames: object) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "dropped", "frames": [0, 1], "reason": "newer"}
        yield {"type": "dropped", "frames": [2], "reason": "rate"}

    monkeypatch.setattr(StreamClient, "stream", dropped)
    with pytest.raises(Unavailable, match="none of 3 frames, it dropped them all"):
        stream_video(film(tmp_path / "a.avi", 3), gateway.url)


def test_a_video_from_first_to_last_frame(
    gateway: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    received: list[Any] = []
    summary = stream_video(
        film(tmp_path / "a.avi", 9), gateway.url, on_answer=received.append, tags={"place": "gate"}
    )
    assert [message["frame"] for message in received] == list(range(9))
    assert (summary.frames, summary.answered, summary.dropped, summary.errors) == (9, 9, 0, 0)
    assert summary.shares == pytest.approx({"nano": 1 / 3, "small": 1 / 3, "large": 1 / 3})
    assert summary.fallbacks == 0
    times = [message["milliseconds"]["total"] for message in received]
    assert summary.mean_ms == pytest.approx(np.mean(times))
    assert (summary.p50_ms, summary.max_ms) == pytest.approx((np.median(times), max(times)))
    assert 0 < summary.fps == pytest.approx(9 / summary.seconds)
    few = stream_video(
        film(tmp_path / "b.avi", 9), gateway.url, options=StreamOptions(max_frames=4)
    )
    assert few.answered == 4


def test_a_video_played_live_drops_what_is_old(
    gateway: Served, rungs: Rungs, tmp_path: Path
) -> None:
    for rung in rungs.values():
        rung.delay = 0.4
    summary = stream_video(film(tmp_path / "a.avi", 20, fps=20.0), gateway.url, live=True)
    assert summary.frames == 20
    assert summary.dropped > 0
    assert summary.answered + summary.dropped == 20
    assert summary.seconds >= 0.9  # the film's own time


def test_sources_that_are_none(tmp_path: Path) -> None:
    for source in (str(tmp_path / "missing.mp4"), "63"):
        with pytest.raises(VideoError):
            stream_video(source, "http://127.0.0.1:1")


def test_refusals_are_reported_in_one_line(rungs: Rungs, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    token = add_token(tokens, "judge", ["feedback"])
    with served(gateway_settings(tokens=tokens), rungs) as gateway:
        with pytest.raises(AccessError, match="answers 401: no token given"):
            collected(gateway.url, [])
        with pytest.raises(Forbidden, match="answers 403: the token judge"):
            collected(gateway.url, [], token)
    with served(gateway_settings(), again(rungs)) as gateway:
        with pytest.raises(InvalidInput, match="answers 400: latency_weight"):
            collected(gateway.url, [], latency_weight=-1.0)
        with pytest.raises(
            Unavailable, match="answers 404: there is no stream at /elsewhere/v1/stream"
        ):
            collected(f"{gateway.url}/elsewhere", [])
    with pytest.raises(Unavailable, match="no gateway answers"):
        collected(gateway.url, [], timeout=5.0)


def test_a_gateway_that_prints_nothing_or_ends(gateway: Served, rungs: Rungs) -> None:
    rungs["nano"].hanging = True
    with pytest.raises(Unavailable, match=r"sent nothing for 0\.5 s"):
        collected(gateway.url, [jpeg()], timeout=0.5)

    async def against(handler: Any) -> None:
        async with serve(handler, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with StreamClient(f"ws://127.0.0.1:{port}") as client:
                async for _ in client.stream([jpeg(), jpeg()]):
                    pass

    async def leaves(socket: Any) -> None:
        await socket.recv()
        await socket.close(1012, "coming back soon")

    async def babbles(socket: Any) -> None:
        await socket.recv()
        await socket.send("hello?")
        await socket.wait_closed()

    async def objects(socket: Any) -> None:
        await socket.recv()
        await socket.send(json.dumps({"type": "error", "frame": None, "detail": "no, thank you"}))
        await socket.wait_closed()

    with pytest.raises(Unavailable, match="1012 coming back soon"):
        asyncio.run(against(leaves))
    with pytest.raises(Unavailable, match="no gateway"):
        asyncio.run(against(babbles))
    with pytest.raises(InvalidInput, match="no, thank you"):
        asyncio.run(against(objects))


def test_a_client_outside_its_block() -> None:
    client = StreamClient("http://127.0.0.1:1")

    async def run() -> None:
        async for _ in client.stream([jpeg()]):
            pass

    with pytest.raises(ConfigurationError, match="async with"):
        asyncio.run(run())


def test_addresses() -> None:
    options = StreamOptions(session="a b", latency_weight=0.5)
    assert stream_url("http://h:1", StreamOptions()) == "ws://h:1/v1/stream"
    assert stream_url("https://h/base/", options) == (
        "wss://h/base/v1/stream?session=a+b&latency_weight=0.5"
    )
    assert stream_url("ws://h/v1/stream", StreamOptions()) == "ws://h/v1/stream"
    for wrong in ("", "h:1", "ftp://h", "http://"):
        with pytest.raises(ConfigurationError, match="is no gateway"):
            StreamClient(wrong)


@pytest.mark.parametrize(
    "options", [{"window": -1}, {"quality": 0}, {"max_frames": 0}, {"timeout": float("nan")}]
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        StreamOptions(**options)


def test_a_frame_as_jpeg() -> None:
    frame = cv2.GaussianBlur(drawn(96, 128), (0, 0), 4)
    data = encode(frame, 95)
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == frame.shape
    assert np.abs(back.astype(int) - frame).mean() < 3
    with pytest.raises(InvalidInput, match="70000x1"):
        encode(np.zeros((1, 70_000, 3), np.uint8))
