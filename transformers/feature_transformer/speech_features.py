"""What a policy sees of a recording: how loud, how noisy, how fast, and how much of it there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from feature_transformer.context import Features
from feature_transformer.image import Frame, check_frame
from feature_transformer.observation import FRAME_FEATURES, SCHEMA, THUMBNAIL, schema_hash
from feature_transformer.sound import COLUMNS_PER_SECOND, SAMPLE_RATE, log_power, sound_of_frame

FLOOR_DB, RANGE_DB = -90.0, 80.0
LONGEST_SECONDS = 15.0
MOST_SYLLABLES = 8.0
"""A second; people seldom speak faster."""
_SNR_DB = 40.0
_ROLL_OFF_DB = 3.0
"""How far a band has to rise above its own floor to count as heard."""

SPEECH_SCHEMA: Mapping[str, Any] = {
    **SCHEMA,
    "task": "speech",
    "frame": {
        "map": {
            "shape": [THUMBNAIL, THUMBNAIL],
            "of": "dB of 32 bands to 8 kHz, lowest first, in 32 spans of time; (dB + 90) / 80",
            "resize": "INTER_AREA",
        },
        "numbers": ["signal to noise", "bandwidth", "speaking rate", "length"],
        "sample_rate": SAMPLE_RATE,
    },
}
SPEECH_SCHEMA_HASH = schema_hash(SPEECH_SCHEMA)


def speech_features(frame: Frame) -> Features:
    """The recording's own part of the observation of the task ``speech``.

    Args:
        frame: a recording, as ``feature_transformer.sound`` lays it out.

    Returns:
        float32 [1028] in 0..1: the spectrogram in decibels of full scale, -90 as 0 and -10 as 1,
        as means of 32 bands (lowest first) in 32 spans of time, then

        - signal to noise: the 95th percentile of the loudness of 25 ms less the 10th, over 40 dB;
        - bandwidth: highest band in which speech rises 3 dB above the pauses, over 8 kHz;
        - speaking rate: rises of the loudness below 4 kHz, as syllables make them, a second, over
          8;
        - length in seconds, over 15.

    Raises:
        ImageError: the frame is no recording.
    """
    check_frame(frame, sound=True)
    power = log_power(sound_of_frame(frame))
    features = np.empty(FRAME_FEATURES, np.float32)
    cells = cv2.resize(power, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    features[:-4] = (cells.ravel() - FLOOR_DB) / RANGE_DB
    loudness = 10 * np.log10((10 ** (power / 10)).sum(axis=0))
    quiet, loud = np.percentile(loudness, (10, 95))
    seconds = power.shape[1] / COLUMNS_PER_SECOND
    features[-4] = (loud - quiet) / _SNR_DB
    features[-3] = _bandwidth(power, loudness)
    features[-2] = _syllables(power, float(quiet), float(loud)) / seconds / MOST_SYLLABLES
    features[-1] = seconds / LONGEST_SECONDS
    return np.clip(features, 0.0, 1.0, out=features)


def _bandwidth(power: Features, loudness: Features) -> float:
    """Share of the bands up to the highest that speech is heard in."""
    middle = np.median(loudness)
    speech, pause = power[:, loudness >= middle], power[:, loudness <= middle]
    rise = speech.mean(axis=1) - pause.mean(axis=1)
    audible = np.flatnonzero(rise > _ROLL_OFF_DB)
    return float(audible[-1] + 1) / len(power) if len(audible) else 0.0


def _syllables(power: Features, quiet: float, loud: float) -> int:
    """How often the smoothed loudness of the lower bands rises through its own middle."""
    lower = 10 * np.log10((10 ** (power[: len(power) // 2] / 10)).sum(axis=0))
    smooth, slow = (cv2.blur(lower[None], (columns, 1))[0] for columns in (3, 11))
    above = (smooth > slow) & (smooth > quiet + 0.3 * (loud - quiet))
    return int(np.count_nonzero(above[1:] & ~above[:-1]))
