"""Places for requests and streams: so many in all, and of them a share for each client."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from foundation.errors import TooManyRequests, Unavailable
from inference_graph.prediction_log.row import check_session

_IDLE_SECONDS = 5.0
"""A stream that has sent frames before keeps its place so long without the next one."""


class Places:
    """Counts who has a place; ``what`` are requests or streams, for the messages."""

    def __init__(self, most: int, share: float, what: str) -> None:
        """No client has a place yet.

        Args:
            most: places in all.
            share: of them that one client may have, above 0 to 1; at least one.
            what: that they are for.
        """
        self.most = most
        self.of_client = max(int(most * share), 1)
        self._what = what
        self._taken: Counter[str] = Counter()

    def of(self, client: str) -> int:
        """Places that a client has."""
        return self._taken[client]

    def take(self, client: str) -> None:
        """Take a place; it is the client's until :meth:`leave`.

        Raises:
            TooManyRequests: the client has as many as one may have.
            Unavailable: all are taken.
        """
        if self._taken.total() >= self.most:
            raise Unavailable(
                f"{self.most} {self._what} are open, as many as are allowed; try again in a moment"
            )
        if self._taken[client] >= self.of_client:
            raise TooManyRequests(
                f"{client} has {self.of_client} {self._what} open, as many as one client may have; "
                "end one, or try again in a moment"
            )
        self._taken[client] += 1

    def leave(self, client: str) -> None:
        """Give a place back."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]

    @contextmanager
    def taken(self, client: str) -> Iterator[None]:
        """A place for the block; raises as :meth:`take`."""
        self.take(client)
        try:
            yield
        finally:
            self.leave(client)


class StreamPlace:
    """One stream's place.

    Attributes:
        session: its name, unique among the open ones.
        client: whose it is.
        needed: set when another stream gets the place.
        busy: whether a frame of it waits or is at work.
    """

    def __init__(self, session: str, client: str) -> None:
        """Begin; no frame came yet."""
        self.session = session
        self.client = client
        self.needed = asyncio.Event()
        self.busy = False
        self._began = time.monotonic()
        self._last: float | None = None

    def used(self) -> None:
        """A frame came."""
        self._last = time.monotonic()

    def idle_seconds(self) -> float | None:
        """How long it has been of no use; None while it is in use."""
        now = time.monotonic()
        if self.busy or self.needed.is_set():
            return None
        if self._last is None:
            return now - self._began
        idle = now - self._last
        return idle if idle >= _IDLE_SECONDS else None


class StreamPlaces:
    """The open streams. When all places are taken, an idle stream's goes to the next one."""

    def __init__(self, most: int, share: float) -> None:
        """None is open yet; see :class:`Places`."""
        self._places = Places(most, share, "streams")
        self._open: dict[str, StreamPlace] = {}

    def begin(self, wanted: str | None, client: str) -> StreamPlace:
        """A place for a stream.

        Args:
            wanted: the client's choice of a name; a suffix makes it unique among the open ones.
            client: whose it is.

        Raises:
            InvalidInput: the name could not name a file.
            TooManyRequests: the client has as many streams as one may have.
            Unavailable: all places are taken, and in use.
        """
        if wanted is not None:
            check_session(wanted)
        self._make_room(client)
        self._places.take(client)
        stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        name = wanted or stamp
        if name in self._open:
            name = f"{name[:70]}-{stamp}"
        self._open[name] = place = StreamPlace(name, client)
        return place

    def end(self, place: StreamPlace) -> None:
        """The stream has ended."""
        del self._open[place.session]
        if not place.needed.is_set():
            self._places.leave(place.client)

    def _make_room(self, client: str) -> None:
        """End the stream that is longest idle, of the client that has the most of them."""
        rivals = [place for place in self._open.values() if not place.needed.is_set()]
        if self._places.of(client) >= self._places.of_client:
            rivals = [place for place in rivals if place.client == client]
        elif len(rivals) < self._places.most:
            return
        idle = [
            (self._places.of(place.client), seconds, place)
            for place in rivals
            if (seconds := place.idle_seconds()) is not None
        ]
        if idle:
            place = max(idle, key=lambda one: one[:2])[2]
            place.needed.set()
            self._places.leave(place.client)
