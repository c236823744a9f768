"""Messages in work: which are settled, in the order of their partitions, and what they became."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from inference_graph.streams.messages import OutgoingMessage

Partition = tuple[str, int]
"""Topic and number."""


@dataclass(eq=False, slots=True)
class HeldMessage:
    """A message that was read and is not committed.

    Attributes:
        partition: where it stood.
        offset: its place there.
        size: bytes of its key, value and headers.
        key: of the message.
        value: of the message; None once it is settled.
        headers: of the message; None where their names are no UTF-8.
        revoked: whether another worker has its partition now; it is not waited for then.
        results: what it became; None while it is in work.
    """

    partition: Partition
    offset: int
    size: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None
    revoked: bool = False
    results: Sequence[OutgoingMessage] | None = field(default=None)


class UncommittedMessages:
    """What was read and is not committed; all methods may be called from any thread.

    A transaction takes the settled messages that no unsettled one of their partition precedes, so
    that the offsets it commits cover exactly what it publishes.
    """

    def __init__(self) -> None:
        """Nothing is held."""
        self._changed = threading.Condition()
        self._held: dict[Partition, deque[HeldMessage]] = {}
        self.count = 0
        self.bytes = 0

    def add(self, message: HeldMessage) -> None:
        """Hold a message; those of a partition come in order."""
        with self._changed:
            self._held.setdefault(message.partition, deque()).append(message)
            self.count += 1
            self.bytes += message.size

    def settle(self, message: HeldMessage, results: Sequence[OutgoingMessage]) -> None:
        """Record what a message became."""
        with self._changed:
            message.results = results
            message.value = None
            queue = self._held.get(message.partition)
            if queue and queue[0].results is not None:
                self._changed.notify_all()

    def wait_settled(self, seconds: float) -> bool:
        """Whether something can be committed now, or can within a time."""
        with self._changed:
            return self._changed.wait_for(self._any_settled, seconds)

    def settled(self, most: int) -> list[HeldMessage]:
        """Messages that can be committed together, partition by partition; they stay held.

        Args:
            most: of each partition at most so many.
        """
        with self._changed:
            found = []
            for queue in self._held.values():
                for place, message in enumerate(queue):
                    if message.results is None or place == most:
                        break
                    found.append(message)
            return found

    def committed(self, messages: Iterable[HeldMessage]) -> None:
        """Forget messages that :meth:`settled` returned."""
        with self._changed:
            for message in messages:
                if not message.revoked:
                    self._held[message.partition].popleft()
                    self._forget(message)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Forget the messages of partitions that another worker has now."""
        with self._changed:
            for partition in partitions:
                for message in self._held.pop(partition, ()):
                    message.revoked = True
                    self._forget(message)

    def revoke_all(self) -> None:
        """Release every message without committing it."""
        self.revoke(list(self._held))

    def _forget(self, message: HeldMessage) -> None:
        message.value = None
        self.count -= 1
        self.bytes -= message.size

    def _any_settled(self) -> bool:
        return any(queue and queue[0].results is not None for queue in self._held.values())
