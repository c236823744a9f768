"""A message that only proves that messages arrive, and how it looks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import ConfigurationError
from inference_graph.control.notifications.message import Message
from inference_graph.control.notifications.sender import Delivery, deliver
from inference_graph.control.notifications.webhooks import (
    GENERIC_VARIABLE,
    KINDS,
    SLACK_VARIABLE,
    TOKEN_VARIABLE,
    webhooks_of,
)


@dataclass(frozen=True)
class Trial:
    """What one webhook was sent, or would be.

    Attributes:
        webhook: slack or webhook.
        variable: environment variable of its address, which itself is never shown.
        configured: whether that is set.
        sent: whether it was sent and taken.
        headers: of the request; a token is not shown.
        body: of the request.
    """

    webhook: str
    variable: str
    configured: bool
    sent: bool
    headers: Mapping[str, str]
    body: Mapping[str, Any]


def send_trial(dry_run: bool, environ: Mapping[str, str] = os.environ) -> Sequence[Trial]:
    """Send a test message to every webhook that is set, or show what would be sent.

    Args:
        dry_run: send nothing, and show all forms, also those whose webhook is not set.
        environ: where the webhooks are set.

    Raises:
        ConfigurationError: no webhook is set, or what a variable holds is no address.
        Unavailable: a webhook does not answer.
        Refused: a webhook does not take the message.
    """
    webhooks = {one.name: one for one in webhooks_of(environ)}
    if not webhooks and not dry_run:
        raise ConfigurationError(
            f"no webhook is set; put its address into {SLACK_VARIABLE} or {GENERIC_VARIABLE}, or "
            "look first with --dry-run"
        )
    message = Message(
        kind="test",
        level="good",
        title="Gearshift can reach you",
        text="This is a test. Alerts and results of pipelines will look like this.",
        fields={"sent by": "gearshift notify test"},
    )
    shown = []
    for name, variable, body in KINDS:
        webhook = webhooks.get(name)
        if webhook is None and not dry_run:
            continue
        if webhook is not None and not dry_run:
            deliver(webhook, message, Delivery(attempts=2))
        headers = {"Content-Type": "application/json"}
        if webhook is not None and webhook.token:
            headers["Authorization"] = f"Bearer (what {TOKEN_VARIABLE} holds)"
        shown.append(
            Trial(name, variable, webhook is not None, not dry_run, headers, body(message))
        )
    return shown


def trial_text(trials: Sequence[Trial]) -> str:
    """The trials for a terminal."""
    parts = []
    for one in trials:
        done = "sent to" if one.sent else "would be sent to"
        known = "" if one.configured else ", which is not set"
        headers = "".join(f"{name}: {text}\n" for name, text in one.headers.items())
        body = json.dumps(one.body, indent=1, ensure_ascii=False)
        parts.append(
            f"{done} {one.webhook}, the address in {one.variable}{known}:\n{headers}\n{body}\n"
        )
    return "\n".join(parts)
