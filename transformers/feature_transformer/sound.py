"""A recording as a frame, so that it travels through everything that carries frames.

The frame has one column for each 25 ms, and a row for each of the 400 samples in them, at 16 kHz,
one channel. A pixel is one sample of 16 bits: its high byte, offset by 128, is the green and the
red value, its low byte the blue one. The last column is filled up with silence. Nothing is lost,
time runs to the right, and a region's x1 and x2 say when something was heard.
"""

from __future__ import annotations

import io
import wave
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foundation.errors import ImageError

SAMPLE_RATE = 16_000
ROWS = 400
"""Samples of a column."""
COLUMNS_PER_SECOND = SAMPLE_RATE // ROWS

Samples = npt.NDArray[np.float32]
"""float32 [n] in -1..1, 16 kHz, one channel."""

_FFT = 512
_BANDS = 64
_FLOOR_DB, _RANGE_DB = -90.0, 80.0
_PICTURE_HEIGHT, _PICTURE_WIDTHS = 128, (256, 1280)


def frame_of_sound(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """A recording, int16 [n] at 16 kHz, as a frame: uint8 [400, columns, 3].

    Raises:
        ImageError: it has no sample.
    """
    if not len(samples):
        raise ImageError("the recording has no sample; send a longer one")
    columns = -(-len(samples) // ROWS)
    padded = np.zeros(columns * ROWS, np.uint16)
    padded[: len(samples)] = samples.view(np.uint16)
    padded ^= 0x8000  # offset binary: silence is 128 and 0
    frame = np.empty((ROWS, columns, 3), np.uint8)
    by_row = padded.reshape(columns, ROWS).T
    frame[..., 0] = by_row & 0xFF
    frame[..., 1] = frame[..., 2] = by_row >> 8
    return frame


def holds_sound(frame: npt.NDArray[Any]) -> bool:
    """Whether a frame is a recording: 400 rows, and green equal to red in every pixel."""
    return (
        frame.dtype == np.uint8
        and frame.ndim == 3
        and frame.shape[0] == ROWS
        and frame.shape[2] == 3
        and frame.size > 0
        and bool((frame[..., 1] == frame[..., 2]).all())
        and not bool((frame[..., 0] == frame[..., 1]).all())  # a grey picture
    )


def sound_of_frame(frame: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """The samples of a recording, int16 [n].

    Raises:
        ImageError: the frame is a picture.
    """
    if not holds_sound(frame):
        raise ImageError("a picture where a recording is expected; send WAV")
    words = frame[..., 1].T.astype(np.uint16) << 8 | frame[..., 0].T
    return (words ^ 0x8000).reshape(-1).view(np.int16)


def resampled(samples: Samples, rate: int) -> Samples:
    """A recording at 16 kHz; what it holds above the lower of both Nyquist frequencies is lost."""
    if rate == SAMPLE_RATE or not len(samples):
        return samples
    count = max(round(len(samples) * SAMPLE_RATE / rate), 1)
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(count // 2 + 1, spectrum.dtype)
    both = min(len(kept), len(spectrum))
    kept[:both] = spectrum[:both]
    return (np.fft.irfft(kept, count) * (count / len(samples))).astype(np.float32)


def wav_of(samples: npt.NDArray[np.int16]) -> bytes:
    """A recording at 16 kHz as a WAV file."""
    content = io.BytesIO()
    with wave.open(content, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(SAMPLE_RATE)
        stream.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()


def as_integers(samples: Samples) -> npt.NDArray[np.int16]:
    """Samples in -1..1 as int16; louder ones are clipped."""
    return np.clip(np.round(samples * 32767.0), -32768, 32767).astype(np.int16)


def log_power(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Power of a recording in decibels of full scale, float32 [64 bands, columns of 25 ms].

    Bands are evenly wide up to 8 kHz. Windows are Hann's, of 32 ms.
    """
    values = samples.astype(np.float32) / 32768.0
    columns = max(-(-len(values) // ROWS), 1)
    padded = np.zeros((columns - 1) * ROWS + _FFT, np.float32)
    padded[: len(values)] = values
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::ROWS]
    window = np.hanning(_FFT).astype(np.float32)
    spectrum = np.fft.rfft(windows * window, axis=1)[:, 1:]
    power = np.abs(spectrum) ** 2 / np.float32(window.sum() ** 2 / 4)
    bands = power.reshape(columns, _BANDS, -1).mean(axis=2).T
    return (10 * np.log10(bands + 1e-12)).astype(np.float32)


def seen(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What people see of a frame: a picture as it is, a recording as its spectrogram.

    Time runs to the right, low notes are at the bottom, loud ones are bright.
    """
    if not holds_sound(frame):
        return frame
    levels = (log_power(sound_of_frame(frame)) - _FLOOR_DB) / _RANGE_DB
    grey = (np.clip(levels, 0, 1) * 255).astype(np.uint8)[::-1]
    width = min(max(4 * grey.shape[1], _PICTURE_WIDTHS[0]), _PICTURE_WIDTHS[1])
    large = cv2.resize(grey, (width, _PICTURE_HEIGHT), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.applyColorMap(large, cv2.COLORMAP_MAGMA), np.uint8)
