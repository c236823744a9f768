"""Recordings: as WAV, as frames, and as what people see."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from feature_transformer.image import DecodeLimits, check_frame, decode, read_header
from feature_transformer.sound import (
    SAMPLE_RATE,
    frame_of_sound,
    holds_sound,
    log_power,
    seen,
    sound_of_frame,
    wav_of,
)
from foundation.errors import ImageError

CHIRP = (12_000 * np.sin(np.arange(16_123) ** 1.5 / 900)).astype(np.int16)


def wav(
    stored: bytes, kind: int, channels: int, rate: int, bits: int, before: bytes = b""
) -> bytes:
    form = struct.pack("<HHIIHH", kind, channels, rate, 0, channels * bits // 8, bits)
    chunks = before + b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(stored)) + stored
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_nothing_is_lost_between_wav_and_frame() -> None:
    data = wav_of(CHIRP)
    assert (header := read_header(data)).format == "wav"
    frame = decode(data)
    assert frame.shape == (400, 41, 3) == (header.height, header.width, 3)
    np.testing.assert_array_equal(sound_of_frame(frame)[: len(CHIRP)], CHIRP)
    assert not sound_of_frame(frame)[len(CHIRP) :].any()
    extremes = np.array([-32768, -1, 0, 1, 32767], np.int16)
    np.testing.assert_array_equal(sound_of_frame(frame_of_sound(extremes))[:5], extremes)


@pytest.mark.parametrize(
    ("kind", "bits", "stored", "tolerance"),
    [
        (1, 8, lambda tone: np.round(tone * 127 + 128).astype(np.uint8).tobytes(), 0.01),
        (1, 16, lambda tone: np.round(tone * 32767).astype("<i2").tobytes(), 1e-4),
        (
            1,
            24,
            lambda tone: b"".join(
                int(v * 8388607).to_bytes(3, "little", signed=True) for v in tone
            ),
            1e-4,
        ),
        (1, 32, lambda tone: np.round(tone * 2147483647).astype("<i4").tobytes(), 1e-4),
        (3, 32, lambda tone: tone.astype("<f4").tobytes(), 1e-4),
        (3, 64, lambda tone: tone.astype("<f8").tobytes(), 1e-4),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_every_kind_of_sample_is_the_same_tone(
    kind: int, bits: int, stored: object, tolerance: float, rate: int
) -> None:
    # Whole periods, so that resampling has no edge to smear.
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    both = np.repeat(tone, 2)  # two channels
    assert callable(stored)
    found = sound_of_frame(decode(wav(stored(both), kind, 2, rate, bits)))[:SAMPLE_RATE]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    np.testing.assert_allclose(found / 32768, expected, atol=tolerance + 1e-4)


def test_other_chunks_and_an_unknown_length_are_read() -> None:
    whole = wav_of(CHIRP)
    listed = wav(CHIRP.tobytes(), 1, 1, SAMPLE_RATE, 16, b"LIST" + struct.pack("<I", 3) + b"abc\0")
    np.testing.assert_array_equal(decode(listed), decode(whole))
    piped = whole.replace(b"data" + struct.pack("<I", 2 * len(CHIRP)), b"data\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(piped), decode(whole))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wav_of(CHIRP)[:20], "ends within its header"),
        (wav_of(CHIRP)[:-1], "cut short or damaged"),
        (wav(b"", 1, 1, 16_000, 16), "no sample"),
        (wav(b"\0" * 64, 2, 1, 16_000, 4), "4 bits at 16000 Hz in format 2"),
        (wav(b"\0" * 64, 1, 0, 16_000, 16), "0 channels"),
        (wav(b"\0" * 64, 1, 1, 0, 16), "at 0 Hz"),
        (b"RIFF\x04\0\0\0WAVE", "ends within its header"),
        (wav(b"\0" * 4_000 * 61, 1, 1, 4_000, 8), "lasts 61 s, more than the 60 s"),
    ],
)
def test_what_is_no_whole_recording_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode(data)


def test_damage_anywhere_is_a_recording_or_a_refusal() -> None:
    rng, whole = np.random.default_rng(5), wav_of(CHIRP[:2_000])
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, 60, 3):
            data[int(place)] = int(rng.integers(256))
        try:
            assert holds_sound(decode(bytes(data[: rng.integers(20, len(data))])))
        except ImageError:
            continue


def test_pictures_and_recordings_are_distinguished() -> None:
    recording = frame_of_sound(CHIRP)
    colour = np.random.default_rng(0).integers(0, 256, (400, 30, 3)).astype(np.uint8)
    grey = np.repeat(colour[..., :1], 3, axis=2)
    assert holds_sound(recording)
    assert not any(holds_sound(one) for one in (colour, grey, recording[:399], colour[..., 0]))
    check_frame(recording, sound=True)
    check_frame(grey, sound=False)
    for frame, sound in ((recording, False), (grey, True)):
        with pytest.raises(ImageError, match="is expected; send"):
            check_frame(frame, sound=sound)
    with pytest.raises(ImageError, match="not accepted here"):
        decode(wav_of(CHIRP), DecodeLimits(formats=("jpeg", "png")))


def test_a_tone_is_seen_where_it_is() -> None:
    tone = np.sin(2 * np.pi * 3000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    power = log_power((32767 * tone).astype(np.int16))
    assert power.shape == (64, 40)
    # 3 kHz is band 24 of 64 up to 8 kHz; a full-scale sine has the greatest power there is.
    assert (power[:, 5:35].argmax(axis=0) == 23).all() | (power[:, 5:35].argmax(axis=0) == 24).all()
    picture = seen(frame_of_sound((32767 * tone).astype(np.int16)))
    assert picture.shape == (128, 256, 3)
    brightness = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).mean(axis=1)
    assert brightness.argmax() == pytest.approx(128 * (1 - 3000 / 8000), abs=3)
    grey = np.zeros((10, 10, 3), np.uint8)
    assert seen(grey) is grey
