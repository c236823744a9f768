"""Whether the requests of a service overlap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MEMORY = 20
"""About so many of the last requests count."""


class ConcurrencyTracker:
    """What share of the last requests met another one; use it on one event loop.

    Whether another inference runs at this moment is too little to go by: of two clients who each
    wait for their answers, one is often between two inferences when the other's begins.
    """

    def __init__(self) -> None:
        """Start without calls."""
        self._inside = 0
        self._entered = 0
        self._share = 0.0

    @property
    def usual(self) -> bool:
        """Whether most of the last requests met another."""
        return self._share > 0.5

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request, from its arrival to its answer."""
        self._inside += 1
        self._entered += 1
        mine, met = self._entered, self._inside > 1
        try:
            yield
        finally:
            self._inside -= 1
            met = met or self._entered > mine
            self._share += (met - self._share) / _MEMORY
