"""Deciding: whether evidence launches something now, and if not, why not.

One decision at a time, over all processes that share a state folder: the audit is locked while it
is read and written. One launch at a time: whoever runs holds a second lock, which ends with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from foundation.audit_log import AuditLog
from foundation.errors import GearshiftError
from foundation.json_lines import Append, appending
from inference_graph.control.triggers.audit import (
    AUDIT_FILE,
    Audit,
    LaunchOutcome,
    RuleDecision,
    Verdict,
    parse_audit,
    read_audit,
    record_outcome,
)
from inference_graph.control.triggers.config import AlertRule, TriggersConfig
from inference_graph.control.triggers.evidence import Evidence, weigh
from inference_graph.control.triggers.launch import Slot, follow, start

RULES_ASK = "rules"
"""The actor of what no person asked for."""


class Triggers:
    """The triggers of one file; methods may be called from any thread, and by many processes.

    Attributes:
        config: what the file holds.
    """

    def __init__(self, config: TriggersConfig, audit: AuditLog | None = None) -> None:
        """Nothing is read or made yet.

        Args:
            config: what the file holds.
            audit: the audit log that launches and their outcomes are recorded in as well; the
                state folder's file is what decisions are made by.
        """
        self.config = config
        self._log = audit

    def check(self, now: datetime | None = None) -> list[RuleDecision]:
        """Weigh every rule, and launch what is due.

        Args:
            now: the time, aware; this machine's without it.

        Returns:
            A decision for each rule that can be weighed.

        Raises:
            InvalidInput: the audit, the drift state or the decisions on feedback are broken.
            StorageError: the log cannot be read, or the state folder not be written.
        """
        now = (now or datetime.now(UTC)).astimezone(UTC)
        decisions = []
        for rule in self.config.rules:
            launches = read_audit(self.config.state).launches
            evidence = weigh(rule, self.config, launches[-1].time if launches else None, now)
            if evidence is not None:
                decisions.append(self.decide(evidence, RULES_ASK, now))
        return decisions

    @property
    def waits_for_alerts(self) -> bool:
        """Whether any rule does."""
        return any(isinstance(rule, AlertRule) for rule in self.config.rules)

    def rule_for_alert(self, name: str) -> str | None:
        """Name of the rule that waits for an alert; None if none does."""
        rules = (rule for rule in self.config.rules if isinstance(rule, AlertRule))
        return next((rule.name for rule in rules if name in rule.alerts), None)

    def decide(self, evidence: Evidence, who: str, now: datetime | None = None) -> RuleDecision:
        """Decide on evidence, write it down, and launch if that is the decision.

        Args:
            evidence: what asks.
            who: asks.
            now: the time, aware; this machine's without it.

        Raises:
            InvalidInput: the audit is broken.
            StorageError: the state folder or the audit log cannot be written.
        """
        now = (now or datetime.now(UTC)).astimezone(UTC)
        with self._audit() as (audit, append), Slot(self.config.state) as slot:
            free = slot.free
            if free and audit.open:
                free = not follow(self.config, audit.open, slot, self._log)
                audit = self._settled(audit, append, now) if free else audit
            verdict, reason = self._verdict(evidence, audit, free, now)
            fired = verdict == "fired"
            decision = RuleDecision(
                secrets.token_hex(8),
                now,
                evidence.rule,
                evidence.when,
                evidence.key,
                who,
                verdict,
                reason,
                evidence.figures,
                secrets.token_hex(6) if fired else "",
            )
            if fired and self._log is not None:
                recorded = {"launch": decision.launch, "reason": reason, "key": evidence.key}
                figures = {**recorded, **evidence.figures}
                self._log.record(who, "trigger.launch", evidence.rule, figures, now)
            last = audit.last_of(evidence.rule)
            if last is None or not decision.same(last):
                append(decision.line())
            if fired:
                # Written first: a crash in between loses a launch, and never makes two.
                try:
                    start(self.config, decision, slot, self._log)
                except GearshiftError as error:
                    outcome = LaunchOutcome(decision.launch, now, "failed", str(error))
                    append(outcome.line())
                    record_outcome(self._log, outcome)
        return decision

    def _verdict(
        self, evidence: Evidence, audit: Audit, free: bool, now: datetime
    ) -> tuple[Verdict, str]:
        detail = evidence.sentence
        if not evidence.met:
            return "not met", detail
        launches = audit.launches
        known = next((one for one in launches if one.key == evidence.key), None)
        if known is not None:
            return "known", f"launch {known.launch} of {_shown(known.time)} was for this: {detail}"
        if not free:
            running = launches[-1].launch if launches else "of another state"
            return "busy", f"launch {running} still runs, and there is one at a time: {detail}"
        limits = self.config.limits
        again = launches[-1].time + timedelta(hours=limits.cooldown_hours) if launches else now
        if now < again:
            return "cool-down", f"the cool-down lasts until {_shown(again)}: {detail}"
        today = sum(one.time.date() == now.date() for one in launches)
        if today >= limits.per_day:
            return "daily cap", f"{today} launches today are as many as allowed: {detail}"
        return "fired", detail

    def _settled(self, audit: Audit, append: Append, now: datetime) -> Audit:
        """Nothing runs, so launches without an outcome were cut off with their process."""
        lost = [
            LaunchOutcome(one.launch, now, "unknown", "its process ended and left no outcome")
            for one in audit.open
        ]
        for outcome in lost:
            append(outcome.line())
            record_outcome(self._log, outcome)
        return Audit(audit.decisions, (*audit.outcomes, *lost))

    @contextmanager
    def _audit(self) -> Iterator[tuple[Audit, Append]]:
        path: Path = self.config.state / AUDIT_FILE
        with appending(path) as (lines, append):
            yield parse_audit(path, lines), append


def _shown(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
