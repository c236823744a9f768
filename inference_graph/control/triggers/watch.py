"""Checking the rules in a loop, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from foundation.errors import GearshiftError
from inference_graph.control.triggers.audit import RuleDecision
from inference_graph.control.triggers.engine import Triggers


def watch(
    triggers: Triggers,
    every_seconds: float,
    ending: threading.Event,
    on_decision: Callable[[RuleDecision], None],
    on_failure: Callable[[str], None],
) -> None:
    """Check at once and then in a loop; a failure is reported once and tried again.

    Args:
        triggers: what is checked.
        every_seconds: pause between two checks.
        ending: set it to come to an end.
        on_decision: called with every decision that is news: fired, or not for another reason
            than before.
        on_failure: called with a failure, once while it stays the same.
    """
    reported: dict[str, RuleDecision] = {}
    failure = ""
    while not ending.is_set():
        try:
            for decision in triggers.check():
                before = reported.get(decision.rule)
                if before is None or not decision.same(before):
                    on_decision(decision)
                reported[decision.rule] = decision
            failure = ""
        except GearshiftError as error:
            if str(error) != failure:
                on_failure(str(error))
            failure = str(error)
        ending.wait(every_seconds)
