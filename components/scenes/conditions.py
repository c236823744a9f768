"""What light and weather do to a rendered frame: day, night, fog, rain, blur.

A condition's strength is drawn once per world and stays for the whole clip; only noise and rain
streaks change from frame to frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

Condition = Literal["day", "night", "fog", "rain", "blur"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)

_NOISE_MARGIN = 64
"""One noise field per world, larger than the frame, is cut at a new offset for each frame: a
tenth of the cost of drawing new normals, and no two frames share their noise."""


@dataclass(frozen=True)
class Atmosphere:
    """Light and weather of one world.

    Attributes:
        condition: the named condition.
        lut: uint8 ``[256, 3]``, brightness and tint per channel.
        fog: share of fog at the horizon, 0..1; it thins towards the viewer.
        fog_grey: the fog's grey level, 0..255.
        streaks: rain streaks per frame.
        slant: horizontal drift of a streak per pixel of fall.
        kernel: float32 blur kernel, or None.
        noise: int16 ``[H + margin, W + margin, 3]``.
    """

    condition: Condition
    lut: np.ndarray
    fog: float
    fog_grey: float
    streaks: int
    slant: float
    kernel: np.ndarray | None
    noise: np.ndarray


def _motion_kernel(length: int, angle: float) -> np.ndarray:
    """A line of the given length (pixels) and angle (radians), summing to 1."""
    size = max(3, length | 1)
    kernel = np.zeros((size, size), np.float32)
    centre = size // 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * centre
    start = (round(centre - reach[0]), round(centre - reach[1]))
    end = (round(centre + reach[0]), round(centre + reach[1]))
    cv2.line(kernel, start, end, (1.0,), 1)
    return kernel / kernel.sum()


def sample_atmosphere(
    condition: Condition, width: int, height: int, rng: np.random.Generator
) -> Atmosphere:
    """Draw the strength of a condition.

    Args:
        condition: one of `CONDITIONS`.
        width: frame width in pixels.
        height: frame height in pixels.
        rng: the world's own generator.

    Returns:
        What `apply` needs for each frame of this world.
    """
    gain, lift = rng.uniform(0.65, 1.2), rng.uniform(-12.0, 12.0)
    tint = 1.0 + rng.uniform(-0.06, 0.06, 3)
    sigma = rng.uniform(2.0, 10.0)
    fog = grey = slant = 0.0
    streaks = 0
    kernel: np.ndarray | None = None
    if condition == "day" and rng.random() < 0.3:  # an ordinary camera is a little out of focus
        soft = rng.uniform(0.001, 0.0025) * width
        column = cv2.getGaussianKernel(5, soft).astype(np.float32)
        kernel = column @ column.T
    elif condition == "night":
        gain, lift = rng.uniform(0.16, 0.34), rng.uniform(0.0, 8.0)
        tint = tint * np.array([1.15, 1.0, 0.9])
        sigma = rng.uniform(6.0, 14.0)
    elif condition == "fog":
        fog, grey = rng.uniform(0.72, 0.94), rng.uniform(150.0, 215.0)
    elif condition == "rain":
        gain = rng.uniform(0.5, 0.8)
        streaks, slant = int(rng.integers(250, 600)), rng.uniform(-0.4, 0.4)
        fog, grey = rng.uniform(0.25, 0.5), rng.uniform(110.0, 160.0)
    elif condition == "blur":
        kernel = _motion_kernel(round(rng.uniform(0.014, 0.03) * width), rng.uniform(-0.35, 0.35))
    levels = np.arange(256, dtype=np.float64)[:, None] * gain * tint + lift
    shape = (height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3)
    noise = np.rint(rng.standard_normal(shape, np.float32) * np.float32(sigma)).astype(np.int16)
    lut = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return Atmosphere(condition, lut, fog, grey, streaks, slant, kernel, noise)


def apply(
    frame: np.ndarray, atmosphere: Atmosphere, horizon: int, rng: np.random.Generator
) -> np.ndarray:
    """Put light and weather on a clean frame.

    Args:
        frame: uint8 ``[H, W, 3]`` BGR, as rendered.
        atmosphere: the world's light and weather.
        horizon: row of the horizon, where fog is thickest.
        rng: the frame's own generator.

    Returns:
        A new uint8 ``[H, W, 3]`` BGR frame.
    """
    height, width = frame.shape[:2]
    out = cv2.LUT(frame, atmosphere.lut[None])
    if atmosphere.fog > 0.0:
        rows = np.arange(height, dtype=np.float32)
        below = np.clip((rows - horizon) / max(1, height - horizon), 0.0, 1.0)
        alpha = (atmosphere.fog * (1.0 - 0.75 * below)).astype(np.float32)[:, None, None]
        out = np.rint(out * (1.0 - alpha) + atmosphere.fog_grey * alpha).astype(np.uint8)
    if atmosphere.streaks:
        rain = out.copy()
        starts = rng.integers(0, (width, height), (atmosphere.streaks, 2))
        falls = rng.integers(height // 40, height // 14, atmosphere.streaks)
        for (x, y), fall in zip(starts.tolist(), falls.tolist(), strict=True):
            cv2.line(
                rain,
                (x, y),
                (x + round(fall * atmosphere.slant), y + fall),
                (205, 200, 195),
                1,
                cv2.LINE_AA,
            )
        out = cv2.addWeighted(out, 0.45, rain, 0.55, 0.0)
    if atmosphere.kernel is not None:
        out = cv2.filter2D(out, -1, atmosphere.kernel)
    dy, dx = rng.integers(0, _NOISE_MARGIN, 2).tolist()
    noise = atmosphere.noise[dy : dy + height, dx : dx + width]
    return cv2.add(out, noise, dtype=cv2.CV_8U)
