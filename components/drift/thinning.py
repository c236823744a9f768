"""Frames far enough apart to count as independent.

A stream's frames resemble each other, and a test that takes each of them for a new observation
finds drift everywhere. For a stationary series the mean of N values is as uncertain as that of
N / tau independent ones, with the integrated autocorrelation time ``tau = 1 + 2 sum_k rho_k``
(A. Sokal, "Monte Carlo methods in statistical mechanics", 1997, doi 10.1007/978-1-4899-0319-8_6).
So one frame of each ``tau`` is kept; where the correlation falls off exponentially, neighbours of
those that are kept correlate by e^-2 = 0.14.

Deviations are taken from the mean over all streams: where a whole session is dark, its frames are
that alike, and a short session ends up with one frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.drift.frames import Frames

_LAGS = 20_000


def autocorrelation_time(values: NDArray[np.float64], stream: NDArray[np.int64]) -> float:
    """Integrated autocorrelation time in frames, pooled over streams; 1 for independent ones.

    Args:
        values: float64 [N], in order within each stream; NaN where not known.
        stream: int64 [N], rising.

    Returns:
        1 to the length of the longest stream.
    """
    known = np.isfinite(values)
    if known.sum() < 2:
        return 1.0
    centred = np.where(known, values - values[known].mean(), 0.0)
    starts = np.flatnonzero(np.diff(stream, prepend=stream[0] - 1))
    ends = np.append(starts[1:], len(stream))
    lags = min(int((ends - starts).max()), _LAGS)
    products, pairs = np.zeros(lags), np.zeros(lags)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        products += _self_products(centred[start:end], lags)
        pairs += _self_products(known[start:end].astype(np.float64), lags)
    if products[0] <= 0:
        return float(lags)  # nothing ever changes: every frame is the same
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(pairs > 0.5, products / pairs, 0.0) / (products[0] / pairs[0])
    # A fixed number of lags would add up noise. C. Geyer's initial positive sequence ends with the
    # first pair of lags whose sum is not above zero (Statistical Science 7, 1992).
    tau = -1.0
    for lag in range(0, lags, 2):
        pair = float(correlation[lag : lag + 2].sum())
        if pair <= 0:
            break
        tau += 2.0 * pair
    return min(max(tau, 1.0), float(lags))


def spacing_of(frames: Frames) -> int:
    """Frames of a stream between two that count as independent.

    The longest time among brightness, edge density and the number of objects, which every answer
    has; at least 1.
    """
    if not len(frames):
        return 1
    series = (frames.statistics[:, 0], frames.statistics[:, 1], frames.objects)
    return max(round(autocorrelation_time(values, frames.stream)) for values in series)


def thinned(
    frames: Frames, known: NDArray[np.bool_], spacing: int, most: int, seed: int = 0
) -> NDArray[np.int64]:
    """Frames to test on: of each run of ``spacing`` frames of a stream one at random.

    At random, because a fixed place would be a special one where streams are short: a stream's
    first frame has no context, and is routed otherwise than all others.

    Args:
        frames: the frames.
        known: bool [N], where the figure to test was measured; only these are taken.
        spacing: frames of a run.
        most: how many are taken at most, evenly over all.
        seed: of the choice.

    Returns:
        Rising positions, int64 [n].
    """
    rows = np.flatnonzero(known)
    if spacing > 1 and len(rows):
        run = frames.place[rows] // spacing
        # By stream, run, and in a run by chance: the first of each run is the one taken.
        order = np.lexsort(
            (np.random.default_rng(seed).random(len(rows)), run, frames.stream[rows])
        )
        run, stream = run[order], frames.stream[rows][order]
        first = np.append(True, (np.diff(run) != 0) | (np.diff(stream) != 0))
        rows = np.sort(rows[order[first]])
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return rows


def _self_products(values: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    """Sum over i of values[i] values[i + k] for k below ``lags``, by Fourier transforms."""
    size = 1 << (2 * len(values) - 1).bit_length()
    spectrum = np.fft.rfft(values, size)
    products = np.fft.irfft(spectrum * spectrum.conj(), size)[: min(lags, len(values))]
    found = np.zeros(lags)
    found[: len(products)] = products
    return found
