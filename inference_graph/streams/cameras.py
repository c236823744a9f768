"""Cameras of a worker: each has its own session, and one frame of it is in work at a time."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from inference_graph.gateway.runtime import Runtime
from inference_graph.gateway.session_stats import SessionStats
from inference_graph.streams.messages import OutgoingMessage
from inference_graph.streams.uncommitted import HeldMessage, Partition, UncommittedMessages

CLIENT = "kafka"
"""Name of the client in the prediction log, and for quotas of feedback."""
_REMEMBERED = 64
"""Frames of a camera whose repetition is recognised."""
_CAMERAS = 10_000
"""Cameras with an open session at most; the one longest silent is ended first."""

Work = Callable[[], Awaitable[Sequence[OutgoingMessage]]]


class SerialQueue:
    """Messages that are settled one after the other, in the order they came."""

    def __init__(self, uncommitted: UncommittedMessages) -> None:
        """Nothing waits.

        Args:
            uncommitted: where results are noted.
        """
        self._uncommitted = uncommitted
        self._waiting: deque[tuple[HeldMessage, Work]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is in work."""
        return self._task is None

    def put(self, message: HeldMessage, work: Work) -> None:
        """Settle a message by a piece of work, behind those before it."""
        self._waiting.append((message, work))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """Cancel all work."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                message, work = self._waiting.popleft()
                if not message.revoked:
                    results = await work()
                    self._uncommitted.settle(message, results)
        finally:
            self._task = None


class Camera(SerialQueue):
    """A camera while its partition is this worker's.

    Attributes:
        name: key of its messages.
        partition: where they stand.
        session: name of its session.
        routing: its own, with the context of the frame before.
        stats: of the session.
        frames: frames that were begun.
    """

    def __init__(
        self, name: str, partition: Partition, uncommitted: UncommittedMessages, runtime: Runtime
    ) -> None:
        """Begin a session.

        Args:
            name: key of its messages.
            partition: where they stand.
            uncommitted: where results are noted.
            runtime: of the gateway.
        """
        super().__init__(uncommitted)
        self.name = name
        self.partition = partition
        self.session = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self.routing = runtime.routing(None)
        self.stats = SessionStats(self.session, CLIENT)
        self.stats.tags = {"camera": name}
        self.frames = 0
        self.used = time.monotonic()
        self._answered: deque[str] = deque(maxlen=_REMEMBERED)

    def repeats(self, event_id: str) -> bool:
        """Whether a frame of this id was answered lately."""
        return event_id in self._answered

    def remember(self, event_id: str) -> None:
        """Note that a frame is answered."""
        self._answered.append(event_id)


class Cameras:
    """The cameras whose partitions are this worker's."""

    def __init__(self, runtime: Runtime, uncommitted: UncommittedMessages) -> None:
        """None has sent a frame yet.

        Args:
            runtime: of the gateway.
            uncommitted: of the messages in work.
        """
        self._runtime = runtime
        self._uncommitted = uncommitted
        self._known: OrderedDict[str, Camera] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: str, partition: Partition) -> Camera:
        """The camera of this name; its session begins with its first frame here."""
        camera = self._known.get(name)
        if camera is None:
            camera = self._known[name] = Camera(name, partition, self._uncommitted, self._runtime)
            if len(self._known) > _CAMERAS:
                self._end_idle(most=1)
        self._known.move_to_end(name)
        camera.partition = partition
        camera.used = time.monotonic()
        return camera

    def revoke(self, partitions: Sequence[Partition]) -> None:
        """End the sessions of cameras that another worker has now."""
        for name in [one.name for one in self._known.values() if one.partition in partitions]:
            self._end(name)

    def end_idle(self) -> None:
        """End the sessions of cameras that are silent."""
        limit = time.monotonic() - self._runtime.settings.idle_seconds
        self._end_idle(lambda camera: camera.used < limit)

    def end_all(self) -> None:
        """End all sessions, and give up what is in work."""
        for name, camera in list(self._known.items()):
            camera.cancel()
            self._end(name)

    def _end_idle(
        self, silent: Callable[[Camera], bool] = lambda camera: True, most: int = _CAMERAS
    ) -> None:
        idle = [one.name for one in self._known.values() if one.idle and silent(one)]
        for name in idle[:most]:
            self._end(name)

    def _end(self, name: str) -> None:
        camera = self._known.pop(name)
        self._runtime.summarise_session(camera.stats, camera.routing)
