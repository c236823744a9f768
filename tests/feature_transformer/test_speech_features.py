"""What a policy sees of a recording."""

from __future__ import annotations

import numpy as np
import pytest

from feature_transformer.makers import maker_of_schema
from feature_transformer.observation import FRAME_FEATURES
from feature_transformer.sound import SAMPLE_RATE, frame_of_sound
from feature_transformer.speech_features import SPEECH_SCHEMA_HASH, speech_features
from foundation.errors import ImageError


def syllables(
    rate: float, seconds: float = 4.0, noise: float = 0.001, band: float = 7_000.0
) -> np.ndarray:
    """Bursts of tones up to ``band``, ``rate`` a second, as a frame."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * pitch * times) for pitch in np.arange(200, band, 300))
    loudness = np.clip(np.sin(2 * np.pi * rate * times), 0, None) ** 2
    rng = np.random.default_rng(0)
    sound = 0.01 * tones * loudness + noise * rng.normal(size=len(times))
    return frame_of_sound((32767 * np.clip(sound, -1, 1)).astype(np.int16))


def numbers(frame: np.ndarray) -> tuple[float, ...]:
    return tuple(speech_features(frame)[-4:].tolist())


def test_each_number_moves_with_what_it_is_named_for() -> None:
    plain = numbers(syllables(4))
    assert numbers(syllables(4, noise=0.03))[0] < 0.6 * plain[0]
    assert plain[1] > 0.8 and numbers(syllables(4, band=3_000))[1] == pytest.approx(3 / 8, abs=0.08)
    assert plain[2] * 8 == pytest.approx(4, abs=0.5)
    assert numbers(syllables(2))[2] * 8 == pytest.approx(2, abs=0.5)
    assert plain[3] * 15 == pytest.approx(4, abs=0.03)


def test_a_louder_recording_has_a_brighter_map() -> None:
    quiet, loud = (
        speech_features(syllables(4) if half else frame_of_sound(np.ones(9_000, np.int16)))[:-4]
        for half in (False, True)
    )
    assert loud.mean() > quiet.mean() + 0.2


@pytest.mark.parametrize("length", [1, 399, 400, 401, 100_000])
@pytest.mark.parametrize("level", [0, 1, 32_767])
def test_any_recording_gives_finite_numbers_in_range(length: int, level: int) -> None:
    rng = np.random.default_rng(length)
    found = speech_features(
        frame_of_sound(rng.integers(-level, level + 1, length).astype(np.int16))
    )
    assert found.shape == (FRAME_FEATURES,) and found.dtype == np.float32
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_a_picture_is_refused_and_the_schema_names_its_task() -> None:
    with pytest.raises(ImageError, match="send WAV"):
        speech_features(np.zeros((40, 40, 3), np.uint8))
    assert maker_of_schema(SPEECH_SCHEMA_HASH).task == "speech"
    # Changing it makes every trained policy of the task unusable.
    assert SPEECH_SCHEMA_HASH.startswith("c31787b09f08")
