from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from components.scenes.conditions import CONDITIONS, Condition, apply, sample_atmosphere

HEIGHT, WIDTH, HORIZON = 240, 320, 100


def picture() -> np.ndarray:
    """Squares of all greys and sharp edges everywhere."""
    rng = np.random.default_rng(0)
    small = rng.integers(30, 226, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)


def measured(condition: Condition, figure: Callable[[np.ndarray], float]) -> float:
    """Mean of a figure over a dozen drawn strengths, over that of the clean picture."""
    clean = picture()
    values = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        atmosphere = sample_atmosphere(condition, WIDTH, HEIGHT, rng)
        assert atmosphere.condition == condition
        values.append(figure(apply(clean, atmosphere, HORIZON, rng)))
    return float(np.mean(values)) / figure(clean)


def brightness(frame: np.ndarray) -> float:
    return float(frame.mean())


def contrast(frame: np.ndarray) -> float:
    # Of block means, so that noise is no contrast.
    return float(cv2.resize(frame, (WIDTH // 8, HEIGHT // 8), interpolation=cv2.INTER_AREA).std())


def upper_contrast(frame: np.ndarray) -> float:
    return contrast(np.ascontiguousarray(frame[HORIZON - 60 : HORIZON]))


def steepness(frame: np.ndarray) -> float:
    """Steepness of vertical edges at the borders of the squares, noise averaged away."""
    grey = frame.astype(np.float64).mean(axis=2).reshape(HEIGHT // 8, 8, WIDTH).mean(axis=1)
    return float(np.abs(np.diff(grey, axis=1))[:, 7::8].mean())


def test_night_is_dark() -> None:
    assert measured("night", brightness) < 0.4
    assert 0.75 < measured("day", brightness) < 1.15


def test_fog_takes_contrast_most_at_the_horizon() -> None:
    assert measured("fog", upper_contrast) < 0.3 < 0.6 < measured("day", upper_contrast)
    assert measured("fog", upper_contrast) < 0.8 * measured("fog", contrast)
    assert measured("fog", brightness) > 0.95


def test_rain_is_dull_and_streaked() -> None:
    assert measured("rain", brightness) < 0.95 * measured("day", brightness)
    assert measured("rain", contrast) < 0.75 * measured("day", contrast)
    rng = np.random.default_rng(0)
    atmosphere = sample_atmosphere("rain", WIDTH, HEIGHT, rng)
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    first, second = (apply(flat, atmosphere, HORIZON, rng).astype(int) for _ in range(2))
    streaks = cv2.blur(first.max(axis=2).astype(np.float32), (1, 9))
    assert streaks.max() - np.median(streaks) > 15
    assert np.abs(first - second).max() > 20  # every frame has streaks of its own


def test_blur_softens_edges() -> None:
    assert measured("blur", steepness) < 0.6 * measured("day", steepness)
    assert measured("blur", brightness) == pytest.approx(measured("day", brightness), abs=0.15)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_strength_stays_for_a_clip_and_noise_changes(condition: Condition) -> None:
    clean = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    rng = np.random.default_rng(1)
    atmosphere = sample_atmosphere(condition, WIDTH, HEIGHT, rng)
    frames = [apply(clean, atmosphere, HORIZON, rng) for _ in range(4)]
    assert clean.min() == clean.max() == 128  # the frame given is not touched
    means = [brightness(frame) for frame in frames]
    assert max(means) - min(means) < 2.0
    assert all((frames[0] != frame).mean() > 0.3 for frame in frames[1:])
    assert all(frame.dtype == np.uint8 and frame.shape == clean.shape for frame in frames)


def test_one_seed_draws_one_atmosphere() -> None:
    for condition in CONDITIONS:
        one, other = (
            sample_atmosphere(condition, 64, 64, np.random.default_rng(7)) for _ in range(2)
        )
        np.testing.assert_array_equal(one.lut, other.lut)
        np.testing.assert_array_equal(one.noise, other.noise)
        assert (one.fog, one.streaks, one.slant) == (other.fog, other.streaks, other.slant)
