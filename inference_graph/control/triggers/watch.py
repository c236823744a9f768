"""Weighing the rules again and again, until told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from foundation.errors import GearshiftError
from inference_graph.control.triggers.audit import Decision
from inference_graph.control.triggers.engine import Triggers


def watch(
    triggers: Triggers,
    every_seconds: float,
    ending: threading.Event,
    on_decision: Callable[[Decision], None],
    on_failure: Callable[[str], None],
) -> None:
    """Check at once, and then again and again; what fails is told once and tried again.

    Args:
        triggers: what is checked.
        every_seconds: pause between two checks.
        ending: set it to come to an end.
        on_decision: called with every decision that is news: fired, or not for another reason
            than before.
        on_failure: called with a failure, once while it stays the same.
    """
    told: dict[str, Decision] = {}
    failure = ""
    while not ending.is_set():
        try:
            for decision in triggers.check():
                before = told.get(decision.rule)
                if before is None or not decision.same(before):
                    on_decision(decision)
                told[decision.rule] = decision
            failure = ""
        except GearshiftError as error:
            if str(error) != failure:
                on_failure(str(error))
            failure = str(error)
        ending.wait(every_seconds)
