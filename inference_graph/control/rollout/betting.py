"""Testing by betting: evidence that may be looked at after every frame.

Null hypothesis: whatever was seen before, the next value has a mean of at most 0. Values ``h_t``
are at least ``-b_t``, with ``b_t > 0`` known before ``h_t``. A gambler who stakes the share ``f_t``
of the wealth each time, ``0 < f_t < 1`` and known before ``h_t`` too, has after ``t`` values::

    K_t = prod_{i <= t} (1 + f_i * h_i / b_i)

which is a nonnegative supermartingale under the null hypothesis, and so is the mean over several
gamblers. By Ville's inequality it ever reaches ``1 / alpha`` with probability at most ``alpha``: no
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
"""The fixed stakes: small ones find small effects, large ones find large effects soon."""
LARGEST_STAKE = 0.9


class Wealth:
    """Gamblers' wealth against "the mean is at most 0".

    Twelve have a fixed stake each. One more stakes the caller's choice, and has half of
    the wealth at the start: where the caller knows what to expect, that costs a factor of 2, and
    the search among the others one of up to 12.

    Attributes:
        best: the logarithm of the largest wealth so far, 0 at the start.
    """

    def __init__(self) -> None:
        """Start with a wealth of 1."""
        self._logs = np.log(np.append(np.full(len(_STAKES), 0.5 / len(_STAKES)), 0.5))
        self.best = 0.0

    def add(self, values: Values, bounds: Values, stakes: Values) -> None:
        """Bet on values, in their order.

        Args:
            values: float64 [n].
            bounds: float64 [n], positive; each value is at least minus its bound.
            stakes: float64 [n], 0..``LARGEST_STAKE``, the caller's choice; known before
                the value, as the bound is.
        """
        if not len(values):
            return
        shares = values / bounds
        growth = np.empty((len(_STAKES) + 1, len(values)))
        growth[:-1] = _STAKES[:, None] * shares
        growth[-1] = stakes * shares
        logs = self._logs[:, None] + np.cumsum(np.log1p(growth), axis=1)
        top = logs.max(axis=0)
        total = top + np.log(np.exp(logs - top).sum(axis=0))
        self.best = max(self.best, float(total.max()))
        self._logs = logs[:, -1]

    @property
    def log(self) -> float:
        """The logarithm of the wealth now."""
        top = float(self._logs.max())
        return top + math.log(float(np.exp(self._logs - top).sum()))

    @property
    def chance(self) -> float:
        """The chance of so much wealth if the null hypothesis holds is at most this, 0..1."""
        return math.exp(-self.best)

    def rejects(self, alpha: float) -> bool:
        """Whether the null hypothesis is rejected at this level; once it is, it stays so."""
        return self.best >= -math.log(alpha)
