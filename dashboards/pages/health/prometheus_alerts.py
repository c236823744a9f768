"""Alerts and the state of their rules, from Prometheus' HTTP API."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from dashboards.pages.health.service_health import client, reason
from foundation.errors import Unavailable

_DAY, _STEP = 86_400, 60
"""Seconds that the history covers, and between two of its points."""
_ORDER = {"firing": 0, "pending": 1}
_SEVERITIES = {"critical": 0, "warning": 1}


@dataclass(frozen=True)
class Alert:
    """One alert that is firing, or about to.

    Attributes:
        name: of its rule.
        state: ``firing`` or ``pending``.
        severity: as the rule states; empty where it does not.
        since: when its condition was first met; aware, UTC.
        summary: the rule's sentence on it.
        description: the rule's longer text.
        runbook: address of what to do; empty where there is none that can be linked.
        labels: its labels, in words.
    """

    name: str
    state: str
    severity: str
    since: datetime | None
    summary: str
    description: str
    runbook: str
    labels: str


@dataclass(frozen=True)
class Episode:
    """A time during which an alert fired.

    Attributes:
        name: of its rule.
        severity: as the rule states; empty where it does not.
        labels: its labels, in words.
        begin: of it, within a minute; aware, UTC.
        end: of it, likewise; None while it fires.
    """

    name: str
    severity: str
    labels: str
    begin: datetime
    end: datetime | None


@dataclass(frozen=True)
class AlertState:
    """What Prometheus reports.

    Attributes:
        alerts: firing ones first, the more severe before the others, then the older.
        rules: how many alerting rules it evaluates.
        broken: rules that it cannot evaluate, with its reason.
        history: what fired in the last day, the newest first.
    """

    alerts: tuple[Alert, ...]
    rules: int
    broken: tuple[str, ...]
    history: tuple[Episode, ...] = ()

    @property
    def firing(self) -> int:
        """How many are firing."""
        return sum(alert.state == "firing" for alert in self.alerts)


def read_prometheus(url: str) -> AlertState:
    """Ask Prometheus for its alerts and rules.

    Raises:
        Unavailable: it does not answer, or is no Prometheus.
    """
    with client(url) as http:
        try:
            alerts = _data(http.get("/api/v1/alerts"))["alerts"]
            groups = _data(http.get("/api/v1/rules", params={"type": "alert"}))["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            return AlertState(
                alerts=tuple(sorted(map(_alert, alerts), key=_urgency)),
                rules=len(rules),
                broken=tuple(_broken(rules)),
                history=_history(http),
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Prometheus at {url} does not answer ({reason(error)}); "
                "start it with gearshift up --monitoring"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(
                f"what answers at {url} is no Prometheus; give its address with --prometheus-url"
            ) from error


def _history(http: httpx.Client) -> tuple[Episode, ...]:
    """What fired in the last day; none where what answers keeps no series."""
    now = time.time()
    asked: dict[str, str | float] = {
        "query": 'ALERTS{alertstate="firing"}',
        "start": now - _DAY,
        "end": now,
        "step": _STEP,
    }
    answer = http.get("/api/v1/query_range", params=asked)
    if not answer.is_success:
        return ()
    found = [one for series in _data(answer)["result"] for one in _episodes(series, now)]
    return tuple(sorted(found, key=lambda one: one.begin, reverse=True))


def _episodes(series: Mapping[str, Any], now: float) -> Iterator[Episode]:
    labels = dict(series["metric"])
    name, severity = str(labels.pop("alertname", "")), str(labels.pop("severity", ""))
    words = _words({key: labels[key] for key in labels if key not in ("alertstate", "__name__")})
    times = [float(point[0]) for point in series["values"]]
    begin = 0
    for index, then in enumerate(times):
        if index + 1 < len(times) and times[index + 1] - then <= 2 * _STEP:
            continue
        end = None if now - then <= 2 * _STEP else datetime.fromtimestamp(then, UTC)
        yield Episode(name, severity, words, datetime.fromtimestamp(times[begin], UTC), end)
        begin = index + 1


def _words(labels: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _data(answer: httpx.Response) -> Any:
    """What a successful answer of the API holds."""
    content = answer.json()
    if content["status"] != "success":
        raise ValueError("no success")
    return content["data"]


def _alert(found: Mapping[str, Any]) -> Alert:
    labels = dict(found["labels"])
    notes: Mapping[str, Any] = found.get("annotations") or {}
    name, severity = str(labels.pop("alertname")), str(labels.pop("severity", ""))
    runbook = str(notes.get("runbook_url", ""))
    return Alert(
        name=name,
        state=str(found["state"]),
        severity=severity,
        since=_time(found.get("activeAt")),
        summary=str(notes.get("summary", "")),
        description=str(notes.get("description", "")),
        # Whoever writes a rule must not be able to make a link that runs a script.
        runbook=runbook if runbook.startswith(("https://", "http://")) else "",
        labels=_words(labels),
    )


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if isinstance(text, str) else None


def _urgency(alert: Alert) -> tuple[int, int, datetime, str]:
    return (
        _ORDER.get(alert.state, len(_ORDER)),
        _SEVERITIES.get(alert.severity, len(_SEVERITIES)),
        alert.since or datetime.max.replace(tzinfo=UTC),
        alert.name,
    )


def _broken(rules: list[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        if rule.get("health") == "err":
            yield f"{rule['name']}: {str(rule.get('lastError', ''))[:300]}"
