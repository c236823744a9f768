"""What reviewers decided, line by line: nothing is ever changed, and the last word counts.

::

    {"item": "...", "decision": "approved", "reviewer": "anna", "reason": "...", "time": "..."}

The file decides what counts, may be repaired by hand; each new decision is recorded in the audit
log (``foundation.audit_log``) too, where a change would show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from components.feedback.item import FeedbackItem, State
from foundation.audit_log import AuditLog
from foundation.errors import Forbidden, InvalidInput
from foundation.json_lines import Line, appending, read_lines

DECISIONS_FILE = "decisions.jsonl"
Verdict = Literal["approved", "rejected"]
_REASON_LIMIT = 500


@dataclass(frozen=True)
class ReviewDecision:
    """One reviewer's decision on one item.

    Attributes:
        item: its id.
        decision: "approved" or "rejected".
        reviewer: who decided.
        reason: why.
        time: when; aware.
    """

    item: str
    decision: Verdict
    reviewer: str
    reason: str
    time: datetime


def read_decisions(folder: Path) -> list[ReviewDecision]:
    """Every decision of a store, the first one first; those that were overruled too.

    Raises:
        InvalidInput: a line is no decision; names it.
        StorageError: the file cannot be read.
    """
    file = folder / DECISIONS_FILE
    return _parsed(file, read_lines(file))


def latest(decisions: Iterable[ReviewDecision]) -> dict[str, ReviewDecision]:
    """The decision that counts, by item."""
    return {decision.item: decision for decision in decisions}


def state_of(item: FeedbackItem, counting: Mapping[str, ReviewDecision]) -> State:
    """The state of an item: quarantined until a reviewer decides."""
    found = counting.get(item.item_id)
    return "quarantined" if found is None else found.decision


def decide(
    folder: Path,
    items: Iterable[FeedbackItem],
    verdict: Verdict,
    reviewer: str,
    reason: str,
    now: datetime | None = None,
    audit: AuditLog | None = None,
) -> list[ReviewDecision]:
    """Write down what a reviewer decided; all items or, when one is refused, none.

    Deciding the same again writes nothing; another verdict overrules the one before, which stays
    in the file.

    Args:
        folder: of the store.
        items: what was decided on.
        verdict: approved or rejected.
        reviewer: who decided; not the items' own user.
        reason: why; needed to reject and to overrule.
        now: the time, aware; this machine's without it.
        audit: the audit log that new decisions are recorded in as well; nowhere without it.

    Returns:
        The decisions that are new.

    Raises:
        Forbidden: a reviewer's own feedback.
        InvalidInput: no reviewer, no reason where one is needed, or an item that can never be used
            is approved.
        StorageError: the file or the audit log cannot be written.
    """
    reviewer, reason = reviewer.strip(), " ".join(reason.split())
    if not reviewer or not reviewer.isprintable() or len(reviewer) > 64:
        raise InvalidInput("no reviewer given; say who decides with --reviewer NAME")
    if len(reason) > _REASON_LIMIT:
        raise InvalidInput(f"the reason has {len(reason)} characters; {_REASON_LIMIT} fit")
    if verdict == "rejected" and not reason:
        raise InvalidInput("no reason given; whoever sent it will want to know: --reason TEXT")
    file = folder / DECISIONS_FILE
    with appending(file) as (lines, append):
        counting = latest(_parsed(file, lines))
        new: list[ReviewDecision] = []
        users: dict[str, str] = {}
        for item in items:
            users[item.item_id] = item.user
            before = counting.get(item.item_id)
            if before is not None and before.decision == verdict:
                continue
            _check(item, verdict, reviewer)
            if before is not None and not reason:
                raise InvalidInput(
                    f"{item.item_id} was {before.decision} by {before.reviewer}; say why it is "
                    f"{verdict} now with --reason TEXT"
                )
            time = (now or datetime.now(UTC)).astimezone(UTC)
            new.append(ReviewDecision(item.item_id, verdict, reviewer, reason, time))
        for one in new:
            if audit is not None:
                figures = {"user": users[one.item], "reason": one.reason}
                audit.record(reviewer, f"feedback.{verdict}", one.item, figures, one.time)
            append({**vars(one), "time": one.time.isoformat()})
    return new


def _check(item: FeedbackItem, verdict: Verdict, reviewer: str) -> None:
    if item.user.casefold() == reviewer.casefold():
        raise Forbidden(
            f"{item.item_id} came from {item.user} as well; somebody else has to review it"
        )
    if verdict == "approved" and item.blockers:
        raise InvalidInput(f"{item.item_id} cannot be used: {item.blockers[0]}; reject it")


def _parsed(file: Path, lines: Iterable[Line]) -> list[ReviewDecision]:
    decisions = []
    for number, line in enumerate(lines, 1):
        try:
            verdict = line["decision"]
            if verdict not in ("approved", "rejected"):
                raise ValueError
            time = datetime.fromisoformat(line["time"])
            texts = (str(line["item"]), verdict, str(line["reviewer"]), str(line["reason"]))
            decisions.append(ReviewDecision(*texts, time))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{file} line {number} is no decision; restore the file") from error
    return decisions
