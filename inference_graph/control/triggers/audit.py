"""The audit: a line for each decision and each outcome, in a file that only grows.

::

    {"kind": "decision", "time": "...", "decision": "...", "rule": "...", "when": "...",
     "key": "...", "who": "...", "verdict": "fired", "fired": true, "reason": "...",
     "figures": {...}, "launch": "..."}
    {"kind": "outcome", "time": "...", "launch": "...", "outcome": "succeeded", "detail": "...",
     "seconds": 512.3}

It is the memory that decisions are made by: what fired, when, and how often today is read from it,
under a lock that all processes share. A rule that is not met, and a refusal that is the same as the
rule's last one, is not written again, or a loop would fill the disk with one sentence. What must be
provable later, launches and their outcomes, is recorded in the audit log
(``foundation.audit_log``) too: this file can be repaired by hand, that one cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from foundation.audit_log import AuditLog
from foundation.errors import InvalidInput
from foundation.json_lines import Line, read_lines

AUDIT_FILE = "audit.jsonl"

Verdict = Literal["fired", "not met", "known", "cool-down", "daily cap", "busy"]
OutcomeWord = Literal["succeeded", "failed", "timed out", "ended", "unknown"]


@dataclass(frozen=True)
class RuleDecision:
    """Why something was launched, or not.

    Attributes:
        decision: unique id.
        time: when; aware.
        rule: the rule's name, or what else asked.
        when: the rule's kind, or "request".
        key: of the evidence; empty where there was none.
        who: "rules", or the name of the token that asked.
        verdict: "fired", or what kept it from firing.
        reason: the same in a sentence.
        figures: numbers behind it.
        launch: id of what was launched; empty if nothing was.
    """

    decision: str
    time: datetime
    rule: str
    when: str
    key: str
    who: str
    verdict: Verdict
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    launch: str = ""

    @property
    def fired(self) -> bool:
        """Whether something was launched."""
        return self.verdict == "fired"

    def same(self, other: RuleDecision) -> bool:
        """Whether it adds nothing to the other."""
        names = ("rule", "key", "who", "verdict")
        return not self.fired and all(getattr(self, one) == getattr(other, one) for one in names)

    def line(self) -> Line:
        """The entry as a line of the file."""
        return {
            "kind": "decision",
            **vars(self),
            "time": self.time.isoformat(),
            "fired": self.fired,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True)
class LaunchOutcome:
    """How a launch ended.

    Attributes:
        launch: its id.
        time: when; aware.
        outcome: in a word.
        detail: exit code, Kubeflow's run, or what went wrong.
        seconds: how long it took; 0 where that is unknown.
    """

    launch: str
    time: datetime
    outcome: OutcomeWord
    detail: str
    seconds: float = 0.0

    def line(self) -> Line:
        """The entry as a line of the file."""
        return {"kind": "outcome", **vars(self), "time": self.time.isoformat()}


@dataclass(frozen=True)
class Audit:
    """What a file holds.

    Attributes:
        decisions: the oldest first.
        outcomes: likewise.
    """

    decisions: tuple[RuleDecision, ...]
    outcomes: tuple[LaunchOutcome, ...]

    @property
    def launches(self) -> list[RuleDecision]:
        """Decisions that fired, the oldest first."""
        return [one for one in self.decisions if one.fired]

    @property
    def open(self) -> list[RuleDecision]:
        """Launches without an outcome."""
        ended = {one.launch for one in self.outcomes}
        return [one for one in self.launches if one.launch not in ended]

    def last_of(self, rule: str) -> RuleDecision | None:
        """The last decision on a rule."""
        return next((one for one in reversed(self.decisions) if one.rule == rule), None)


def read_audit(state: Path) -> Audit:
    """The audit of a state folder; empty where there is none.

    Raises:
        InvalidInput: a line is none of an audit; names it.
        StorageError: the file cannot be read.
    """
    return parse_audit(state / AUDIT_FILE, read_lines(state / AUDIT_FILE))


def record_outcome(log: AuditLog | None, outcome: LaunchOutcome) -> None:
    """Record how a launch ended in the audit log, if there is one.

    Raises:
        StorageError: it cannot be written.
    """
    if log is not None:
        figures = {"outcome": outcome.outcome, "detail": outcome.detail, "seconds": outcome.seconds}
        log.record("launch", "trigger.outcome", outcome.launch, figures, outcome.time)


def parse_audit(path: Path, lines: Sequence[Line]) -> Audit:
    """The audit of a file's lines; raises as :func:`read_audit`."""
    decisions, outcomes = [], []
    for number, line in enumerate(lines, 1):
        try:
            given = {key: value for key, value in line.items() if key not in ("kind", "fired")}
            given["time"] = datetime.fromisoformat(line["time"])
            if line["kind"] == "outcome":
                outcomes.append(LaunchOutcome(**given))
                _check(given["outcome"], OutcomeWord)
            else:
                decisions.append(RuleDecision(**given))
                _check(given["verdict"], Verdict)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{path} line {number} is none of an audit ({type(error).__name__}); restore the "
                "file, or name another state folder"
            ) from error
    return Audit(tuple(decisions), tuple(outcomes))


def _check(word: str, words: Any) -> None:
    if word not in get_args(words):
        raise ValueError(word)
