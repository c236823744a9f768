from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import SIZE, TURNED, damaged, film, turned, uneven
from tiny_models import MakeDetector

from foundation.errors import VideoError
from inference_graph.control.edge.cameras import camera_frames
from inference_graph.local_video.files import opened
from inference_graph.local_video.h264_size import announced_size
from inference_graph.local_video.route import RouteVideoConfig, VideoSummary, route_video
from inference_graph.local_video.writer import mp4_writer, writable_rate

SHARED = Path(os.environ.get("GEARSHIFT_SHARED") or Path(__file__).parents[4] / "shared")
CHANGES = SHARED / "cases" / "23-size-changes" / "changes.h264"


@pytest.fixture
def route(make_detector: MakeDetector, tmp_path: Path) -> Any:
    ladder = {"large": make_detector([[20, 30, 20, 40, 0.1, 0.8]], size=SIZE, name="large.onnx")}

    def routed(source: Path, **more: Any) -> tuple[VideoSummary, list[Any]]:
        lines = tmp_path / "records.jsonl"
        config = RouteVideoConfig(
            threads=1, reference_repeats=1, always="large", records=lines, **more
        )
        summary = route_video(str(source), None, ladder, tmp_path / "out.mp4", config)
        return summary, [json.loads(line) for line in lines.read_text().splitlines()]

    return routed


@pytest.mark.parametrize("degrees", TURNED)
def test_frames_are_upright(tmp_path: Path, route: Any, degrees: int) -> None:
    source = turned(film(tmp_path / "phone.mp4"), degrees)
    with opened(str(source)) as video:
        frame = video.first.frame
    # The blue edge on the left goes to the top, to the right, or to the bottom.
    edges = {90: frame[4], 180: frame[:, -4], 270: frame[-4]}
    assert np.abs(edges[degrees].astype(int) - (255, 0, 0)).max() < 60
    upright = SIZE if degrees == 180 else SIZE[::-1]
    assert frame.shape[:2] == upright
    seen = list(camera_frames(str(source), threading.Event(), 1))
    assert {one.frame.shape[:2] for one in seen} == {upright}
    summary, _ = route(source)
    assert (summary.height, summary.width) == upright


@pytest.mark.parametrize(
    "fps", [0.5, 1 / 3, 12.5, 24000 / 1001, 30000 / 1001, 105.611, 119.944, 239.76, 655.359, 999.9]
)
def test_every_rate_can_be_written(tmp_path: Path, fps: float) -> None:
    assert writable_rate(fps) == pytest.approx(fps, abs=max(0.0005, fps * 1e-4))
    path = tmp_path / "out.mp4"
    with mp4_writer(path, fps, SIZE) as video:
        for number in range(3):
            video.write(np.full((*SIZE, 3), number, np.uint8))
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)
    capture.release()


def test_times_are_the_containers(tmp_path: Path, route: Any) -> None:
    summary, records = route(uneven(film(tmp_path / "uneven.mp4")))
    expected = [0.05 * number for number in range(6)] + [0.3 + 0.15 * k for k in range(6)]
    assert [record["seconds"] for record in records] == pytest.approx(expected, abs=1e-3)
    assert summary.seconds == pytest.approx(expected[-1], abs=1e-3)
    assert (summary.frames, summary.lost, summary.fps) == (12, 0, pytest.approx(10.0, rel=1e-3))


def test_a_damaged_frame_is_not_the_end(tmp_path: Path, route: Any) -> None:
    source = damaged(damaged(film(tmp_path / "scratched.mp4"), 4), 5)
    summary, records = route(source)
    assert (summary.frames, summary.lost) == (10, 2)
    assert [record["frame"] for record in records] == list(range(10))
    times = [record["seconds"] for record in records]
    assert times == pytest.approx([0.1 * k for k in range(12) if k not in (4, 5)], abs=1e-3)
    lost: list[int] = []
    assert len(list(camera_frames(str(source), threading.Event(), 1, lost.append))) == 10
    assert lost == [2]


def test_a_file_that_is_cut_short_is_reported(tmp_path: Path, route: Any) -> None:
    source = film(tmp_path / "cut.avi")
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 3 // 5])
    summary, _ = route(source)
    assert 0 < summary.frames < 12 and summary.frames + summary.lost == 12
    assert route(source, max_frames=2)[0].lost == 0  # the others were not asked for


def bits_of(*values: tuple[str, int]) -> bytes:
    """A bit string of fixed ("u8") and Exp-Golomb ("ue", "se") numbers."""
    text = ""
    for kind, value in values:
        if kind.startswith("u") and kind != "ue":
            text += f"{value:0{int(kind[1:])}b}"
            continue
        number = (2 * value - 1 if value > 0 else -2 * value) if kind == "se" else value
        text += f"{'0' * ((number + 1).bit_length() - 1)}{number + 1:b}"
    text += "1"
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.mark.parametrize("profile", [66, 100])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("frames_only", [0, 1])
def test_the_size_in_a_parameter_set(profile: int, order: int, frames_only: int) -> None:
    """1920x1080: 120 by 68 blocks of 16, the last 8 rows cut off (4 units of two rows)."""
    high = [("ue", 1), ("ue", 0), ("ue", 0), ("u1", 0), ("u1", 0)] if profile == 100 else []
    orders = {0: [("ue", 2)], 1: [("u1", 0), ("se", -3), ("se", 2), ("ue", 1), ("se", 5)], 2: []}
    rows = 68 if frames_only else 34
    unit = bits_of(
        ("u8", profile),
        ("u16", 40),
        ("ue", 0),
        *high,
        ("ue", 4),
        ("ue", order),
        *orders[order],
        ("ue", 1),
        ("u1", 0),
        ("ue", 119),
        ("ue", rows - 1),
        ("u1", frames_only),
        *(() if frames_only else (("u1", 1),)),
        ("u1", 1),
        ("u1", 1),
        ("ue", 0),
        ("ue", 0),
        ("ue", 0),
        ("ue", 4 if frames_only else 2),
        ("u1", 0),
    )
    packet = b"\0\0\0\1\x09\xf0" + b"\0\0\1\x67" + unit + b"\0\0\1\x65rest"
    assert announced_size(packet) == (1920, 1080)
    assert announced_size(b"\0\0\1\x65" + unit) is None  # a picture, no parameter set
    assert announced_size(b"\0\0\1\x67\0") is None


@pytest.mark.skipif(not CHANGES.is_file(), reason="the stream is not on this machine")
def test_a_size_that_changes_is_refused(route: Any, tmp_path: Path) -> None:
    words = "frame 10 of .* is 176x144, those before 160x120; cut the video"
    with pytest.raises(VideoError, match=words):
        route(CHANGES)
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(VideoError, match=words):
        list(camera_frames(str(CHANGES), threading.Event(), 1))
    assert route(CHANGES, max_frames=10)[0].frames == 10
