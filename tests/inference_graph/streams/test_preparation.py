"""What becomes of a frame, and what is known of a minute; neither needs Flink."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from PIL import Image

from feature_transformer.frame_statistics import pixel_statistics, seen_statistics
from feature_transformer.image import decode
from feature_transformer.observation import frame_features
from feature_transformer.sound import wav_of
from foundation.errors import ImageError
from inference_graph.streams.messages import FrameMessage, read_frame, read_headers
from inference_graph.streams.minutes import (
    MINUTE_MS,
    CameraState,
    MinuteEvent,
    minute_message,
    sample_row,
)
from inference_graph.streams.preparation import (
    OBSERVATION_HEADER,
    PreparationConfig,
    prepare,
    prepared_message,
)

START = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
LONG_AGO = -(2**63)


def frame_at(seconds: float, number: int = 0, camera: str = "cam") -> FrameMessage:
    when = START + timedelta(seconds=seconds)
    return FrameMessage(camera, str(number), "/cameras/cam", when, b"", False)


def picture(seed: int, width: int = 96, height: int = 64) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
    return cv2.imencode(".jpg", image)[1].tobytes()


RECORDING = wav_of(np.arange(800, dtype=np.int16))
"""A JPEG of it would be no recording."""


class TestFrame:
    def test_it_is_upright_small_and_without_metadata(self) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "taken at the front door"
        pixels = np.zeros((480, 1280, 3), np.uint8)
        pixels[:, :640] = 200
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", exif=exif, comment=b"a comment")
        prepared = prepare(stream.getvalue(), PreparationConfig(longer_side=320))
        assert b"Exif" in stream.getvalue() and b"front door" in stream.getvalue()
        for text in (b"Exif", b"front door", b"a comment"):
            assert text not in prepared.image
        shown = decode(prepared.image)
        assert shown.shape == (320, 120, 3)  # turned by a quarter: 1280 high, 480 wide
        assert shown[:150].mean() > 195 and shown[170:].mean() < 5

    def test_a_small_one_keeps_its_size_in_every_format(self) -> None:
        image = np.full((40, 60, 3), 90, np.uint8)
        for suffix in (".png", ".jpg", ".webp", ".bmp"):
            prepared = prepare(cv2.imencode(suffix, image)[1].tobytes(), PreparationConfig())
            assert decode(prepared.image).shape == (40, 60, 3)

    def test_what_is_measured_is_of_the_frame_that_is_published(self) -> None:
        prepared = prepare(picture(1, 1280, 720), PreparationConfig(jpeg_quality=30))
        shown = decode(prepared.image)
        np.testing.assert_array_equal(prepared.features, frame_features(shown))
        assert prepared.statistics == {
            **seen_statistics(frame_features(shown)),
            **pixel_statistics(shown),
        }

    @pytest.mark.parametrize("given", [b"", b"no image", picture(1)[:200], RECORDING])
    def test_what_cannot_be_decoded_is_refused(self, given: bytes) -> None:
        with pytest.raises(ImageError):
            prepare(given, PreparationConfig())

    def test_limits_hold(self) -> None:
        with pytest.raises(ImageError, match="6144 pixels|pixels"):
            prepare(picture(1), PreparationConfig(max_pixels=6143))
        with pytest.raises(ImageError):
            prepare(picture(1), PreparationConfig(max_bytes=100))

    def test_a_worker_reads_its_message_as_the_same_frame(self) -> None:
        came = frame_at(3.25, 7)
        prepared = prepare(picture(1), PreparationConfig())
        message = prepared_message("prepared", came, prepared)
        headers = read_headers(message.headers)
        read = read_frame(message.key, message.value, headers, 10**6)
        assert (read.identity, read.time) == (came.identity, came.time)
        seen = np.frombuffer(base64.b64decode(headers[OBSERVATION_HEADER]), "<f4")
        np.testing.assert_array_equal(seen, frame_features(decode(read.data)))


def run(
    frames: list[tuple[float, bytes]], config: PreparationConfig, watermark_ms: int = LONG_AGO
) -> tuple[list[bool], CameraState]:
    """Frames of one camera; its state is written and read before each."""
    state, published = CameraState(), []
    for number, (seconds, data) in enumerate(frames):
        state = CameraState.model_validate_json(state.model_dump_json())
        frame = frame_at(seconds, number)
        minute = state.minute_of(frame, int(frame.time.timestamp() * 1000), watermark_ms)
        published.append(state.add(minute, frame, prepare(data, config), config))
    return published, state


class TestRepeats:
    def test_one_that_nearly_repeats_is_dropped_until_its_time_is_over(self) -> None:
        same, other = picture(1), picture(2)
        at = [(0, same), (0.5, same), (1.9, same), (2.0, same), (2.1, other), (2.2, same)]
        published, state = run(at, PreparationConfig(repeat_seconds=2))
        assert published == [True, False, False, True, True, True]
        event = state.close(START_MS)
        assert event is not None
        assert (event.frames, event.published, event.repeats) == (6, 4, 2)

    def test_the_level_is_that_of_the_thumbnails_cell_that_differs_most(self) -> None:
        flat = np.full((64, 64, 3), 100, np.uint8)
        spot = flat.copy()
        spot[:2, :2] = 103  # one cell of 2x2 pixels
        first, second = (cv2.imencode(".png", one)[1].tobytes() for one in (flat, spot))
        quality = {"jpeg_quality": 100}
        dropped, _ = run([(0, first), (0.1, second)], PreparationConfig(repeat_level=4, **quality))
        kept, _ = run([(0, first), (0.1, second)], PreparationConfig(repeat_level=1, **quality))
        assert (dropped, kept) == ([True, False], [True, True])

    def test_no_time_drops_none(self) -> None:
        published, _ = run([(0, picture(1))] * 3, PreparationConfig(repeat_seconds=0))
        assert published == [True] * 3


class TestMinutes:
    def test_figures_are_those_of_its_frames(self) -> None:
        config = PreparationConfig(samples=2)
        frames = [(second, picture(second)) for second in range(0, 70, 10)]
        _, state = run(frames, config)
        first, second = state.close(START_MS), state.close(START_MS + MINUTE_MS)
        assert first is not None and second is not None
        assert (first.frames, second.frames) == (6, 1)
        blur = [prepare(picture(number), config).statistics["blur"] for number in range(0, 60, 10)]
        found = first.figures["blur"]
        assert found.mean == pytest.approx(np.mean(blur))
        assert found.deviation == pytest.approx(np.std(blur))
        assert (found.least, found.most) == (min(blur), max(blur))
        assert set(first.figures) == {"brightness", "edge_density", "blur", "noise"}
        assert len(first.samples) == 2 and state.close(START_MS) is None

    def test_samples_are_the_same_in_any_order_and_hold_the_observation(self) -> None:
        config = PreparationConfig(samples=3)
        kept = []
        for order in (range(8), reversed(range(8))):
            state = CameraState()
            for number in order:
                frame = frame_at(number, number)
                minute = state.minute_of(frame, START_MS, LONG_AGO)
                state.add(minute, frame, prepare(picture(number), config), config)
            event = state.close(START_MS)
            assert event is not None
            kept.append([sample.frame for sample in event.samples])
        assert kept[0] == kept[1] and len(set(kept[0])) == 3
        sample = event.samples[0]
        row = sample_row(event, sample)
        prepared = prepare(picture(int(sample.frame)), config)
        np.testing.assert_array_equal(row["observation"], prepared.features)
        assert row["session"] == "cam" and row["blur"] == prepared.statistics["blur"]

    def test_a_frame_after_its_minute_is_counted_late_and_published(self) -> None:
        over = START_MS + MINUTE_MS
        published, state = run([(59.9, picture(1))], PreparationConfig(), watermark_ms=over)
        assert published == [True] and state.minutes == {} and state.late == 1
        published, state = run([(59.9, picture(1))], PreparationConfig(), watermark_ms=over - 1)
        assert state.late == 0 and list(state.minutes) == [START_MS]

    def test_a_minute_that_is_published_is_not_begun_anew_by_a_job_without_a_watermark(
        self,
    ) -> None:
        state = CameraState()
        assert state.minute_of(frame_at(1), START_MS, LONG_AGO) == START_MS
        state.close(START_MS)
        state = CameraState.model_validate_json(state.model_dump_json())
        assert state.minute_of(frame_at(2), START_MS, LONG_AGO) is None and state.late == 1
        assert state.minute_of(frame_at(60), START_MS, LONG_AGO) == START_MS + MINUTE_MS

    def test_late_frames_are_reported_once_with_the_next_minute(self) -> None:
        state = CameraState(late=3)
        state.minute_of(frame_at(0), START_MS, LONG_AGO)
        state.minute_of(frame_at(60), START_MS, LONG_AGO)
        events = [state.close(START_MS), state.close(START_MS + MINUTE_MS)]
        assert [event.late for event in events if event is not None] == [3, 0]

    def test_a_clock_ahead_counts_for_the_minute_it_came_in(self) -> None:
        state = CameraState()
        assert state.minute_of(frame_at(3600), START_MS + 1, LONG_AGO) == START_MS
        assert state.minute_of(frame_at(59), START_MS, LONG_AGO) == START_MS
        event = state.close(START_MS)
        assert event is not None and event.clock_ahead == 1

    def test_messages_without_pixels_are_counted(self) -> None:
        state = CameraState()
        minute = state.minute_of(frame_at(0), START_MS, LONG_AGO)
        state.count(minute, "refused")
        state.count(minute, "references")
        state.count(None, "refused")  # late
        event = state.close(START_MS)
        assert event is not None and (event.frames, event.refused, event.references) == (0, 1, 1)
        message = minute_message("minutes", event, "/gearshift/job")
        headers = read_headers(message.headers)
        assert headers["ce_type"] == "dev.gearshift.minute.v1"
        assert headers["ce_id"] == "cam 20261129T1200" and message.key == b"cam"
        assert MinuteEvent.model_validate_json(message.value or b"") == event
