"""A message, and the two forms in which a webhook takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Level = Literal["good", "warning", "critical"]

_COLOURS: Mapping[Level, str] = {"good": "#2e7d32", "warning": "#f9a825", "critical": "#c62828"}
_LONGEST = 3000
"""Characters of a text; Slack cuts longer ones, not always where it should."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        kind: what it is about.
        level: how bad it is.
        title: one line.
        text: what happened, and what to do.
        fields: figures and names beside it.
        link: where to read on; empty without one.
        time: when it happened, UTC.
    """

    kind: Literal["alert", "pipeline", "test"]
    level: Level
    title: str
    text: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    link: str = ""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


def generic_body(message: Message) -> dict[str, Any]:
    """A message as any program can read it; ``version`` counts up when a field changes."""
    return {
        "version": 1,
        "source": "gearshift",
        "kind": message.kind,
        "level": message.level,
        "title": message.title,
        "text": message.text,
        "fields": dict(message.fields),
        "link": message.link,
        "time": message.time.isoformat(timespec="seconds"),
    }


def slack_body(message: Message) -> dict[str, Any]:
    """A message for Slack's incoming webhooks, and those who take the same: Mattermost and others.

    Attachments rather than blocks, for the others know no blocks.
    """
    link = message.link if message.link.startswith(("http://", "https://")) else ""
    text = message.text if link or not message.link else f"{message.text}\n{message.link}"
    attachment: dict[str, Any] = {
        "color": _COLOURS[message.level],
        "fallback": _escaped(message.title),
        "title": _escaped(message.title),
        "text": _escaped(text),
        "fields": [
            {"title": _escaped(name), "value": _escaped(value), "short": len(value) <= 40}
            for name, value in message.fields.items()
        ],
        "footer": "Gearshift",
        "ts": int(message.time.timestamp()),
    }
    if link:
        attachment["title_link"] = link
    return {"text": _escaped(message.title), "attachments": [attachment]}


def _escaped(text: str) -> str:
    """Slack's control characters; nothing in a message may mention a channel or make links."""
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
