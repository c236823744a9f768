"""Requests and answers that arrive one by one, in any order, and belong together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Waiting(Generic[Value]):
    value: Value
    since: float


class PairingBuffer(Generic[Value]):
    """Values that wait for their counterpart, oldest first; at most so many, for so long."""

    def __init__(self, limit: int, seconds: float) -> None:
        """Start with none.

        Args:
            limit: values kept at most.
            seconds: how long one waits.
        """
        self._limit = limit
        self._seconds = seconds
        self._waiting: dict[Hashable, _Waiting[Value]] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, key: Hashable, value: Value, now: float) -> None:
        """Let a value wait; one that waits under the key already stays."""
        self._waiting.setdefault(key, _Waiting(value, now))

    def take(self, key: Hashable) -> Value | None:
        """The value of a key, which waits no longer; None without one."""
        found = self._waiting.pop(key, None)
        return found.value if found is not None else None

    def expired(self, now: float) -> Iterator[Value]:
        """Those that waited too long, or for which there is no room; they wait no longer."""
        while self._waiting:
            key = next(iter(self._waiting))
            late = now - self._waiting[key].since >= self._seconds
            if not late and len(self._waiting) <= self._limit:
                return
            yield self._waiting.pop(key).value
