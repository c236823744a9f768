"""Prometheus' alerts turned into messages: one when an alert begins, one when it is over.

Prometheus sends every alert again and again while it fires (its notifier, to the Alertmanager API
v2), so what was reported has to be remembered. The same goes for an Alertmanager that is set up to
post to a webhook. Both carry alerts of the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from foundation.errors import InvalidInput
from inference_graph.control.notifications.message import Level, Message

_REMIND = timedelta(hours=4)
"""An alert that goes on is reported again so often, as Alertmanager does by default."""
_MOST = 10_000
"""Alerts that are remembered; those of a rules file gone wild beyond that are not reported."""
_LEVELS: Mapping[str, Level] = {"critical": "critical"}
_SHOWN_APART = ("alertname", "severity")


class ReceivedAlert(BaseModel):
    """One alert, as Prometheus and Alertmanager send it."""

    model_config = ConfigDict(extra="ignore")

    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    startsAt: AwareDatetime
    endsAt: AwareDatetime | None = None
    status: str = ""
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.labels.get("alertname", "alert")

    def over(self, now: datetime) -> bool:
        """Whether it does not fire any more; one that does may end in the future, or never."""
        if self.status:
            return self.status == "resolved"
        return self.endsAt is not None and datetime.min.replace(tzinfo=UTC) < self.endsAt <= now


class _Group(BaseModel):
    """What Alertmanager posts to a webhook (version 4)."""

    model_config = ConfigDict(extra="ignore")

    alerts: list[ReceivedAlert]


_SENT: TypeAdapter[list[ReceivedAlert] | _Group] = TypeAdapter(list[ReceivedAlert] | _Group)


def read_alerts(body: bytes) -> list[ReceivedAlert]:
    """The alerts of a request.

    Args:
        body: JSON: a list of alerts (Alertmanager's API v2) or an object with ``alerts``
            (Alertmanager's webhook).

    Raises:
        InvalidInput: anything else.
    """
    try:
        sent = _SENT.validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:4]) or "the body"
        raise InvalidInput(
            f"no alerts as Prometheus sends them: {where[:100]}: {first['msg']}"
        ) from None
    return sent.alerts if isinstance(sent, _Group) else sent


@dataclass
class _FiringAlert:
    since: datetime
    reported: datetime


class AlertBook:
    """Remembers which alerts were reported."""

    def __init__(self) -> None:
        """Nothing is reported yet."""
        self._firing: dict[frozenset[tuple[str, str]], _FiringAlert] = {}

    def news(self, alerts: Sequence[ReceivedAlert], now: datetime) -> list[Message]:
        """The messages that these alerts ask for.

        Args:
            alerts: as they were sent.
            now: UTC.

        Returns:
            A message for each alert that began, goes on for long, or is over.
        """
        messages = []
        for alert in alerts:
            key = frozenset(alert.labels.items())
            known = self._firing.get(key)
            if alert.over(now):
                if self._firing.pop(key, None) is not None:
                    messages.append(_message(alert, "resolved", now))
            elif known is None or known.since != alert.startsAt:
                if len(self._firing) < _MOST:
                    self._firing[key] = _FiringAlert(alert.startsAt, now)
                    messages.append(_message(alert, "firing", now))
            elif now - known.reported >= _REMIND:
                known.reported = now
                messages.append(_message(alert, "still firing", now))
        return messages


def _message(alert: ReceivedAlert, state: str, now: datetime) -> Message:
    notes: Mapping[str, Any] = alert.annotations
    severity = alert.labels.get("severity", "warning")
    fields = {"alert": alert.name, "state": state, "severity": severity}
    fields |= {name: text for name, text in alert.labels.items() if name not in _SHOWN_APART}
    over = state == "resolved"
    fields["since"] = alert.startsAt.astimezone(UTC).isoformat(timespec="seconds")
    title = notes.get("summary") or alert.name
    return Message(
        kind="alert",
        level="good" if over else _LEVELS.get(severity, "warning"),
        title=f"Resolved: {title}" if over else str(title),
        text="" if over else notes.get("description", ""),
        fields=fields,
        link=notes.get("runbook_url", ""),
        time=now,
    )
