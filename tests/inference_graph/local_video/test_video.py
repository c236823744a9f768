from __future__ import annotations

import json
import re
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_models import MakeDetector, MakePolicy, drawn

from feature_transformer.observation import FRAME_FEATURES, LOOK_NAMES, OBSERVATION_SIZE
from foundation.errors import ConfigurationError, ModelError, StorageError, VideoError
from inference_graph.local_video import files as video_io
from inference_graph.local_video.route import RouteVideoConfig, route_video
from inference_graph.local_video.writer import Mp4Writer

FRAMES = 9


def film(path: Path, count: int = FRAMES, size: tuple[int, int] = (96, 128)) -> str:
    fourcc = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), fourcc, 12.5, size[::-1])
    for index in range(count):
        writer.write(drawn(*size, seed=index))
    writer.release()
    return str(path)


@pytest.fixture
def ladder(make_detector: MakeDetector) -> dict[str, Path]:
    """Nano sees one object, small two, large three; input 96x128, so pixels stay."""
    rows = [[20, 30, 20, 40, 0.1, 0.8], [70, 30, 20, 40, 0.6, 0.1], [100, 70, 20, 10, 0.3, 0.1]]
    return {
        rung: make_detector(rows[: index + 1], size=(96, 128), name=f"{rung}.onnx")
        for index, rung in enumerate(("nano", "small", "large"))
    }


@pytest.fixture
def climbing(make_policy: MakePolicy) -> Path:
    """Nano first, then the rung above the previous one, and nano again after large."""
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    for index, rung in enumerate(("nano", "small", "large")):
        weights[FRAME_FEATURES + LOOK_NAMES.index(f"previous_is_{rung}"), (index + 1) % 3] = 5
    return make_policy(weights, (0.1, 0, 0))


def quick(**options: object) -> RouteVideoConfig:
    return RouteVideoConfig(threads=1, reference_repeats=3, **options)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_routed(
    tmp_path: Path, ladder: dict[str, Path], climbing: Path, suffix: str
) -> None:
    source = film(tmp_path / f"street{suffix}")
    out, lines = tmp_path / "out" / "routed.mp4", tmp_path / "out" / "routed.jsonl"
    progress: list[tuple[int, int | None]] = []
    received: list[object] = []
    summary = route_video(
        source,
        climbing,
        ladder,
        out,
        quick(records=lines),
        on_frame=lambda done, total: progress.append((done, total)),
        on_record=received.append,
    )
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert records == received
    # The context is what the chosen rung saw on the frame before.
    assert [record["rung"] for record in records] == ["nano", "small", "large"] * 3
    assert [record["frame"] for record in records] == list(range(FRAMES))
    assert [len(record["detections"]) for record in records] == [1, 2, 3] * 3
    assert records[0]["detections"] == [
        {"box": [10.0, 10.0, 30.0, 50.0], "score": 0.8, "label": 1, "category_id": 3, "name": "car"}
    ]
    for record in records:
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert max(record["probabilities"], key=record["probabilities"].get) == record["rung"]
        stages = dict(record["milliseconds"])
        total = stages.pop("total")
        assert set(stages) == {"observe", "decide", "preprocess", "inference", "postprocess"}
        assert sum(stages.values()) == pytest.approx(total, abs=0.01)
    assert progress == [(done, FRAMES) for done in range(1, FRAMES + 1)]

    totals = [record["milliseconds"]["total"] for record in records]
    assert summary.frames == FRAMES
    assert (summary.width, summary.height, summary.fps) == (128, 96, 12.5)
    assert summary.shares == {"nano": 1 / 3, "small": 1 / 3, "large": 1 / 3}
    assert summary.mean_ms == pytest.approx(np.mean(totals), abs=0.01)
    assert summary.p95_ms == pytest.approx(np.percentile(totals, 95), abs=0.01)
    assert summary.saving == pytest.approx(1 - summary.mean_ms / summary.reference_ms)
    assert records[-1]["saving"] == pytest.approx(summary.saving, abs=1e-3)
    assert 0 < summary.router_ms < summary.mean_ms
    assert (summary.out, summary.records) == (out, lines)
    assert sorted(path.name for path in out.parent.iterdir()) == ["routed.jsonl", "routed.mp4"]


def test_the_annotated_video_is_enlarged_and_shows_the_boxes(
    tmp_path: Path, ladder: dict[str, Path]
) -> None:
    source = film(tmp_path / "street.mp4")
    out = tmp_path / "routed.mp4"
    route_video(source, None, ladder, out, quick(always="large"))
    capture = cv2.VideoCapture(str(out))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    got, frame = capture.read()
    capture.release()
    assert got
    # 128x96 is enlarged 8 times to 1024x768, below a strip of 56 rows.
    assert frame.shape == (768 + 56, 1024, 3)
    plain = cv2.resize(drawn(96, 128), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    changed = np.abs(frame[56:].astype(int) - plain).max(axis=2) > 90
    # The left side of the box 10..30 x 10..50 is drawn at column 80, from row 80 to 400.
    assert changed[150:380, 79:82].mean() > 0.5
    assert changed[600:, :500].mean() < 0.05


@pytest.mark.parametrize("rung", ["nano", "small", "large"])
def test_a_fixed_rung_needs_no_policy(tmp_path: Path, ladder: dict[str, Path], rung: str) -> None:
    received: list[dict[str, object]] = []
    needed = {name: path for name, path in ladder.items() if name in (rung, "large")}
    summary = route_video(
        film(tmp_path / "a.mp4", 4),
        None,
        needed,
        None,
        quick(always=rung),
        on_record=received.append,
    )
    assert summary.shares[rung] == 1
    assert summary.router_ms == 0
    assert {record["rung"] for record in received} == {rung}
    assert received[0]["probabilities"] == {name: float(name == rung) for name in summary.shares}
    assert (summary.out, summary.records) == (None, None)


def test_only_the_first_frames(tmp_path: Path, ladder: dict[str, Path], climbing: Path) -> None:
    progress: list[tuple[int, int | None]] = []
    summary = route_video(
        film(tmp_path / "a.mp4"),
        climbing,
        ladder,
        None,
        quick(max_frames=2),
        on_frame=lambda done, total: progress.append((done, total)),
    )
    assert summary.frames == 2
    assert progress == [(1, 2), (2, 2)]


def test_what_was_routed_until_it_is_stopped_is_kept(
    tmp_path: Path, ladder: dict[str, Path], climbing: Path
) -> None:
    out, lines, stop = tmp_path / "routed.mp4", tmp_path / "routed.jsonl", threading.Event()

    def note(done: int, total: int | None) -> None:
        if done == 3:
            stop.set()

    summary = route_video(
        film(tmp_path / "a.mp4"), climbing, ladder, out, quick(records=lines), note, stop=stop
    )
    assert summary.frames == 3
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == [0, 1, 2]
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_videos_that_are_none(tmp_path: Path, ladder: dict[str, Path]) -> None:
    def refused(path: Path) -> str:
        out = tmp_path / "routed.mp4"
        with pytest.raises(VideoError) as caught:
            route_video(str(path), None, ladder, out, quick(always="nano"))
        assert not out.exists()
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "there is no video" in refused(tmp_path / "missing.mp4")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "text.mp4").write_text("this is no video, but a text of some length" * 50)
    assert "cannot open" in refused(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "is empty" in refused(tmp_path / "empty.mp4")
    film(tmp_path / "no_frames.mp4", 0)
    refused(tmp_path / "no_frames.mp4")
    whole = Path(film(tmp_path / "whole.mp4")).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    assert "cannot open" in refused(tmp_path / "half.mp4")


def test_a_frame_of_another_size() -> None:
    class Changing:
        """What cv2.VideoCapture does on a stream whose camera changes its mode."""

        sizes = iter(((96, 128), (50, 60)))

        def read(self) -> tuple[bool, np.ndarray]:
            return True, drawn(*next(self.sizes))

        def get(self, name: int) -> float:
            return 0.0

        def set(self, name: int, value: float) -> bool:
            return False

    video = video_io.Video("rtsp://camera", Changing())  # type: ignore[arg-type] # all that is called
    stream = video.frames()
    next(stream)
    with pytest.raises(VideoError, match="frame 1 of rtsp://camera is 60x50"):
        next(stream)


def test_what_is_missing(tmp_path: Path, ladder: dict[str, Path], climbing: Path) -> None:
    source = film(tmp_path / "a.mp4", 2)
    with pytest.raises(ConfigurationError, match="no policy given"):
        route_video(source, None, ladder, None, quick())
    del ladder["small"]
    with pytest.raises(ConfigurationError, match="lacks small"):
        route_video(source, climbing, ladder, None, quick())
    with pytest.raises(ConfigurationError, match="another ending"):
        route_video(source, None, ladder, tmp_path / "out.gif", quick(always="nano"))
    with pytest.raises(ModelError, match="cannot read"):
        route_video(source, tmp_path / "no.onnx", ladder | {"small": climbing}, None, quick())
    for options in ({"always": "tiny"}, {"reference_repeats": 0}, {"max_frames": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            RouteVideoConfig(**options)


def test_nothing_half_written_stays(
    tmp_path: Path, ladder: dict[str, Path], climbing: Path
) -> None:
    source = film(tmp_path / "a.mp4")
    out, lines = tmp_path / "out" / "routed.mp4", tmp_path / "out" / "routed.jsonl"

    def stop(done: int, total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route_video(source, climbing, ladder, out, quick(records=lines), on_frame=stop)
    assert list(out.parent.iterdir()) == []


def test_a_video_that_lost_frames_is_not_taken_for_whole(tmp_path: Path) -> None:
    # OpenCV's writer reports nothing when the disk is full; the missing bytes are found afterwards.
    path = tmp_path / "a.mp4"
    video = Mp4Writer(path, 10, (96, 128))
    for index in range(3):
        video.write(drawn(96, 128, index))
    video.count += 1
    with pytest.raises(StorageError, match="only 3 of 4 frames"):
        video.finish()


def test_a_place_that_cannot_be_written(tmp_path: Path, ladder: dict[str, Path]) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out.mp4"
    with pytest.raises(StorageError, match="choose another place"):
        route_video(film(tmp_path / "a.mp4", 2), None, ladder, out, quick(always="nano"))


def test_a_varying_rate_loses_nothing_and_what_is_absent_is_counted(tmp_path: Path) -> None:
    """Matroska keeps no count: OpenCV's is the length times the rate, 35 instead of 12 here."""
    whole, uneven_times = tmp_path / "whole.mkv", tmp_path / "uneven.mkv"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (128, 96))
    for number in range(12):
        writer.write(np.full((96, 128, 3), 20 * number, np.uint8))
    writer.release()
    data = bytearray(whole.read_bytes())
    blocks = [found.start() + 1 for found in re.finditer(rb"\x81..\x80\xff\xd8\xff", data, re.S)]
    assert [struct.unpack_from(">h", data, at)[0] for at in blocks] == [*range(0, 1200, 100)]
    for number, at in enumerate(blocks):
        struct.pack_into(">h", data, at, 10 * number * (number + 18))  # ever longer intervals
    length = data.index(b"\x44\x89\x88") + 3
    struct.pack_into(">d", data, length, 3500.0)
    uneven_times.write_bytes(data)

    def read(path: Path) -> tuple[int, int]:
        with video_io.opened(str(path)) as video:
            return sum(1 for _ in video.frames()), video.lost

    assert read(whole) == (12, 0)
    assert read(uneven_times) == (12, 0)
    # A frame that is not there between two others, and a file that is cut off.
    for number, at in enumerate(blocks):
        struct.pack_into(">h", data, at, 100 * (number + (number > 4)))
    struct.pack_into(">d", data, length, 1300.0)
    (tmp_path / "holed.mkv").write_bytes(data)
    assert read(tmp_path / "holed.mkv") == (12, 1)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: blocks[6] + 200])
    delivered, lost = read(tmp_path / "cut.mkv")
    assert delivered + lost == 12 and lost in (5, 6)
