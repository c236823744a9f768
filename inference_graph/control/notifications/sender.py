"""Sending without blocking the caller: a bounded queue and a thread for each webhook."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foundation.errors import ConfigurationError, GearshiftError, Unavailable
from inference_graph.control.notifications.message import Message
from inference_graph.control.notifications.webhooks import Webhook

_log = logging.getLogger("gearshift.notifications")


_RANGES = {
    "attempts": (1, 100),
    "timeout_seconds": (0.1, 300),
    "pause_seconds": (0.01, 300),
    "longest_pause_seconds": (0.01, 3600),
    "waiting": (1, 100_000),
}


@dataclass(frozen=True)
class Delivery:
    """Retries and limits of sending; from the standard library alone, for ``say`` needs no more.

    Attributes:
        attempts: how often a message is sent at most.
        timeout_seconds: how long a webhook may take for one attempt.
        pause_seconds: before the second attempt; twice as long before each further one.
        longest_pause_seconds: and never longer.
        waiting: messages that may wait for a webhook; a newer one beyond that is dropped.
    """

    attempts: int = 6
    timeout_seconds: float = 10.0
    pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0
    waiting: int = 100

    def __post_init__(self) -> None:
        """Raise ConfigurationError for the first value out of its range."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(f"{name} is {value}; give {low} to {high}")


def deliver(
    webhook: Webhook,
    message: Message,
    delivery: Delivery,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Send a message, again while that can help.

    Args:
        webhook: where to.
        message: what.
        delivery: how hard is tried.
        pause: waits so many seconds between two attempts.

    Raises:
        Unavailable: no attempt came through.
        Refused: the webhook will not take it.
    """
    seconds = delivery.pause_seconds
    for attempt in range(1, delivery.attempts + 1):
        try:
            webhook.post(message, delivery.timeout_seconds)
            return
        except Unavailable as error:
            if attempt == delivery.attempts:
                tries = "once" if attempt == 1 else f"{attempt} times"
                raise Unavailable(f"{error}, tried {tries}") from None
        pause(min(seconds, delivery.longest_pause_seconds))
        seconds *= 2


class Sender:
    """Takes messages for all webhooks; one that is slow or away delays no other."""

    def __init__(self, webhooks: Sequence[Webhook], delivery: Delivery | None = None) -> None:
        """Begin; without webhooks every message is let go."""
        delivery = delivery or Delivery()
        self._boxes = [_Mailbox(webhook, delivery) for webhook in webhooks]

    def send(self, message: Message) -> None:
        """Take a message for all; returns at once."""
        for box in self._boxes:
            box.put(message)

    def close(self, seconds: float) -> int:
        """Give what waits so many seconds to leave; how many messages did not."""
        until = time.monotonic() + seconds
        return sum(box.close(max(until - time.monotonic(), 0.0)) for box in self._boxes)


class _Mailbox:
    def __init__(self, webhook: Webhook, delivery: Delivery) -> None:
        self._webhook = webhook
        self._delivery = delivery
        self._waiting: queue.Queue[Message | None] = queue.Queue(delivery.waiting)
        self._hurry = threading.Event()
        self._lost = 0
        self._thread = threading.Thread(
            target=self._run, name=f"notify-{webhook.name}", daemon=True
        )
        self._thread.start()

    def put(self, message: Message) -> None:
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._lose(message, f"{self._delivery.waiting} wait already")

    def close(self, seconds: float) -> int:
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=seconds)
        self._thread.join(max(until - time.monotonic(), 0.0))
        self._hurry.set()
        if self._thread.is_alive():
            # The message at work is not in the queue, but the mark of the end is.
            self._lost += self._waiting.qsize()
        return self._lost

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            try:
                deliver(self._webhook, message, self._delivery, self._hurry.wait)
            except GearshiftError as error:
                self._lose(message, str(error))
            except Exception as error:
                # Its text may hold the address.
                self._lose(message, f"sending failed ({type(error).__name__})")

    def _lose(self, message: Message, reason: str) -> None:
        self._lost += 1
        _log.warning("a message was not sent (%s): %s", message.title, reason)
