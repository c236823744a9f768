"""The newest frames as their clients sent them, so that feedback finds the frame it is about.

Which answer will be corrected is not known when it is given, and keeping every frame is out of
the question. So the newest ones are held in memory, bounded twice: so many per client, so that one
busy camera pushes no other client's frames out, and so many bytes in all. Feedback that comes later
is answered that its frame is gone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict


class HeldFrames:
    """Encoded frames by the key of their answer; all methods may be called from any thread."""

    def __init__(self, per_client: int, most_bytes: int) -> None:
        """Hold nothing yet.

        Args:
            per_client: frames of one client at most; 0 holds none.
            most_bytes: bytes of all at most; the client with the most bytes gives way first.
        """
        self._per_client = per_client
        self._most_bytes = most_bytes
        self._clients: dict[str, OrderedDict[str, bytes]] = {}
        self._owners: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(self._sizes.values())

    def hold(self, client: str, event_id: str, data: bytes) -> None:
        """Hold a frame, in place of the oldest where there is no room.

        Args:
            client: whose frame it is.
            event_id: key of its answer.
            data: as it was sent.
        """
        if not self._per_client or len(data) > self._most_bytes:
            return
        with self._lock:
            frames = self._clients.setdefault(client, OrderedDict())
            frames[event_id] = data
            self._owners[event_id] = client
            self._sizes[client] = self._sizes.get(client, 0) + len(data)
            if len(frames) > self._per_client:
                self._drop_oldest(client)
            while self.size > self._most_bytes:
                self._drop_oldest(max(self._sizes, key=self._sizes.__getitem__))

    def get(self, event_id: str) -> bytes | None:
        """The frame of an answer, as it was sent; None when it is gone."""
        with self._lock:
            client = self._owners.get(event_id)
            return None if client is None else self._clients[client][event_id]

    def _drop_oldest(self, client: str) -> None:
        frames = self._clients[client]
        event_id, data = frames.popitem(last=False)
        del self._owners[event_id]
        self._sizes[client] -= len(data)
        if not frames:
            del self._clients[client], self._sizes[client]
