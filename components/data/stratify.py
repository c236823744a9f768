"""Groups handed out to parts so that each part gets its share of every class.

A part's mismatch is a damped chi-square distance between the frames it has and its share of them::

    sum over classes c of  weight_c * (have_c - wanted_c)^2 / (wanted_c + unit)

where ``unit`` is the size of the group that the average frame is in. Plain chi-square (unit 0) is
ruled by the rarest classes, whose share is a fraction of a frame and can be met by no assignment of
whole groups; the damping makes a deviation count by how many groups it amounts to.

Groups are handed out one by one, the largest first, each to the part where it lowers the mismatch
most; then single moves and swaps go on while they lower it. This is the iterative stratification of
Sechidis, Tsoumakas and Vlahavas (ECML 2011) with groups in place of single examples, and a local
search after it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SEARCH_LIMIT = 600  # groups; with more of them, handing out leaves little that a swap could mend
_ROUNDS = 20
_LEAST_GAIN = 1e-9  # below, rounding could make two groups change places forever


def stratify(
    frames: NDArray[np.floating[Any]],
    weights: NDArray[np.float64],
    shares: NDArray[np.float64],
    seed: int,
) -> NDArray[np.int64]:
    """Assign each group to a part.

    Args:
        frames: [groups, classes], frames of each group in each class; class 0 is all frames.
        weights: float64[classes], how much a class counts; above 0.
        shares: float64[parts], above 0, summing up to 1; at most as many parts as groups.
        seed: order in which groups of the same size are handed out.

    Returns:
        int64[groups], the part of each; no part is empty.
    """
    hands = _Hands(frames, weights, shares)
    shuffled = np.random.default_rng(seed).permutation(len(frames))
    for number in shuffled[np.argsort(-frames[shuffled, 0], kind="stable")]:
        hands.give(int(number))
    hands.fill_empty()
    if len(frames) <= _SEARCH_LIMIT:
        for _ in range(_ROUNDS):
            moved = [hands.improve(number) for number in range(len(frames))]
            if not any(moved):
                break
    return hands.owner


class _Hands:
    """What each part holds so far: ``owner`` of each group (-1 for none), ``have`` by class."""

    def __init__(
        self,
        frames: NDArray[np.floating[Any]],
        weights: NDArray[np.float64],
        shares: NDArray[np.float64],
    ) -> None:
        sizes = frames[:, 0].astype(np.float64)
        unit = (sizes**2).sum() / sizes.sum()
        self.frames = frames
        self.wanted = shares[:, None] * frames.sum(axis=0, dtype=np.float64)
        self.scale = weights / (self.wanted + unit)
        self.have = np.zeros_like(self.wanted)
        self.owner = np.full(len(frames), -1, dtype=np.int64)

    def give(self, number: int) -> None:
        """Give a group to the part that needs it most."""
        change = self._change(slice(None), self.frames[number])
        part = int(np.argmin(change))
        self.owner[number] = part
        self.have[part] += self.frames[number]

    def fill_empty(self) -> None:
        """Give each empty part the group that costs least; the giver keeps one."""
        for part in range(len(self.have)):
            if (self.owner == part).any():
                continue
            counts = np.bincount(self.owner, minlength=len(self.have))
            movable = np.flatnonzero(counts[self.owner] > 1)
            costs = [self._move_cost(int(number), part) for number in movable]
            self._move(int(movable[int(np.argmin(costs))]), part)

    def improve(self, number: int) -> bool:
        """Move a group, or swap it with another, where that lowers the mismatch most."""
        home = int(self.owner[number])
        moves = []
        if np.count_nonzero(self.owner == home) > 1:
            others = [part for part in range(len(self.have)) if part != home]
            moves = [(self._move_cost(number, part), part) for part in others]
        cost, part = min(moves, default=(0.0, home))
        partners = np.flatnonzero(self.owner != home)
        swaps = self._swap_costs(number, partners)
        best = int(np.argmin(swaps))
        if swaps[best] < min(cost, -_LEAST_GAIN):
            partner = int(partners[best])
            self._move(number, int(self.owner[partner]))
            self._move(partner, home)
            return True
        if cost < -_LEAST_GAIN:
            self._move(number, part)
            return True
        return False

    def _change(
        self, parts: NDArray[np.int64] | slice | int, gain: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Change of the mismatch of these parts when each gains such frames."""
        missing = self.have[parts] - self.wanted[parts]
        change: NDArray[np.float64] = (self.scale[parts] * gain * (2 * missing + gain)).sum(axis=-1)
        return change

    def _move_cost(self, number: int, part: int) -> float:
        frames = self.frames[number]
        return float(self._change(part, frames) + self._change(int(self.owner[number]), -frames))

    def _swap_costs(self, number: int, partners: NDArray[np.int64]) -> NDArray[np.float64]:
        gain = self.frames[partners] - self.frames[number]
        home = int(self.owner[number])
        return self._change(home, gain) + self._change(self.owner[partners], -gain)

    def _move(self, number: int, part: int) -> None:
        self.have[self.owner[number]] -= self.frames[number]
        self.have[part] += self.frames[number]
        self.owner[number] = part
