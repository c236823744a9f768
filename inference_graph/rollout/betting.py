"""Testing by betting: evidence that may be looked at after every frame.

Null hypothesis: whatever was seen before, the next value has a mean of at most 0. Values ``h_t``
are at least ``-b_t``, with ``b_t > 0`` known before ``h_t``. A gambler who stakes the share ``f``
of the wealth each time has after ``t`` values::

    K_t(f) = prod_{i <= t} (1 + f * h_i / b_i),   0 < f < 1

which is a nonnegative supermartingale under the null hypothesis, and so is the mean over several
``f``. By Ville's inequality it ever reaches ``1 / alpha`` with probability at most ``alpha``: no
matter how often, or when, one looks. (J. Ville, Étude critique de la notion de collectif, 1939;
I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, JRSS B 86,
2024; A. Ramdas and others, Game-theoretic statistics and safe anytime-valid inference,
Statistical Science 38, 2023.)
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_STAKES = np.geomspace(0.002, 0.9, 12)
"""The stakes mixed: small ones find small effects, large ones find large effects soon."""


class Wealth:
    """A gambler's wealth against "the mean is at most 0".

    Attributes:
        best: the logarithm of the largest wealth so far, 0 at the start.
    """

    def __init__(self) -> None:
        """Start with 1."""
        self._logs = np.zeros(len(_STAKES))
        self.best = 0.0

    def add(self, values: Values, bounds: Values) -> None:
        """Bet on values, in their order.

        Args:
            values: float64 [n].
            bounds: float64 [n], positive; each value is at least minus its bound.
        """
        if not len(values):
            return
        growth = np.log1p(_STAKES[:, None] * (values / bounds)[None])
        logs = self._logs[:, None] + np.cumsum(growth, axis=1)
        top = logs.max(axis=0)
        mixed = top + np.log(np.exp(logs - top).mean(axis=0))
        self.best = max(self.best, float(mixed.max()))
        self._logs = logs[:, -1]

    @property
    def chance(self) -> float:
        """The chance of so much wealth if the null hypothesis holds is at most this, 0..1."""
        return math.exp(-self.best)

    def rejects(self, alpha: float) -> bool:
        """Whether the null hypothesis is rejected at this level; once it is, it stays so."""
        return self.best >= -math.log(alpha)
