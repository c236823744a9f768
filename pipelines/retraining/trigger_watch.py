"""The rules of the triggers are weighed while the platform runs, on a thread nothing waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from inference_graph.control.triggers.audit import RuleDecision
from inference_graph.control.triggers.engine import Triggers
from inference_graph.control.triggers.watch import watch

_LAST_SECONDS = 5.0
"""A check that is at work at the end has so long; what it launches outlives the platform anyway."""


class TriggerWatch:
    """Weighs the rules again and again; a context manager around the platform."""

    def __init__(
        self, triggers: Triggers, every_seconds: float, report: Callable[[str], None]
    ) -> None:
        """Prepare; nothing happens before :meth:`start`.

        Args:
            triggers: whose rules.
            every_seconds: pause between two looks.
            report: called with launches and failures, as text, from another thread.
        """
        self._report = report
        self._ending = threading.Event()
        arguments = (triggers, every_seconds, self._ending, self._decided, self._failed)
        self._thread = threading.Thread(target=watch, args=arguments, name="triggers", daemon=True)

    def __enter__(self) -> TriggerWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_SECONDS)

    def start(self) -> None:
        """Begin to look; call it when the platform is up, whose start needs the cores."""
        self._thread.start()

    def _decided(self, decision: RuleDecision) -> None:
        if decision.fired:
            self._report(f"launched {decision.launch}: {decision.rule}: {decision.reason}")

    def _failed(self, text: str) -> None:
        self._report(f"warning: the triggers cannot be checked now: {text}")
