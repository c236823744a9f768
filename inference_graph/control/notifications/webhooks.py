"""Where messages go: addresses from the environment, which are secrets and never shown.

Whoever has the address of a Slack webhook can post there. So it stands in no file, log line, error
or ``repr`` of this project: failures name the environment variable instead. That is why the
standard library sends here: httpx logs every address it asks.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import ConfigurationError, Unavailable, WebhookRefused
from inference_graph.control.notifications.message import Message, generic_body, slack_body

SLACK_VARIABLE = "GEARSHIFT_SLACK_WEBHOOK"
GENERIC_VARIABLE = "GEARSHIFT_WEBHOOK"
TOKEN_VARIABLE = "GEARSHIFT_WEBHOOK_TOKEN"
"""Bearer token for the generic webhook; none is sent without it."""

_AGENT = "gearshift"
_HURRIED = 429


@dataclass(frozen=True)
class Webhook:
    """One address.

    Attributes:
        name: slack or webhook.
        variable: the environment variable that holds the address.
        body: gives a message the form that is taken there.
        url: the address.
        token: sent as a bearer token, if any.
    """

    name: str
    variable: str
    body: Callable[[Message], dict[str, Any]] = field(repr=False)
    url: str = field(repr=False)
    token: str = field(default="", repr=False)

    def post(self, message: Message, timeout: float) -> None:
        """Send a message once.

        Args:
            message: what to send.
            timeout: seconds that connecting and each wait for bytes may take.

        Raises:
            Unavailable: it did not answer, or asks to come back; try again.
            WebhookRefused: it answered that it will not take this.
        """
        request = urllib.request.Request(
            self.url,
            data=encoded(self.body(message)),
            headers={"Content-Type": "application/json", "User-Agent": _AGENT},
            method="POST",
        )
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with _OPENER.open(request, timeout=timeout) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            # The reason may hold the address, so only its kind is reported.
            raise Unavailable(
                f"the address in {self.variable} does not answer ({_kind(error)})"
            ) from None
        else:
            return
        if status >= 500 or status == _HURRIED:
            raise Unavailable(f"the address in {self.variable} answered {status}")
        raise WebhookRefused(
            f"the address in {self.variable} answered {status}; it takes no such message, check it"
        )


def webhooks_of(environ: Mapping[str, str] = os.environ) -> tuple[Webhook, ...]:
    """The webhooks that are set.

    Raises:
        ConfigurationError: an address that is none; names the variable, not the address.
    """
    found = []
    for name, variable, body in KINDS:
        url = environ.get(variable, "").strip()
        if not url:
            continue
        if not _usable(url):
            raise ConfigurationError(
                f"what {variable} holds is no address; give http://… or https://… without spaces"
            )
        token = environ.get(TOKEN_VARIABLE, "").strip() if variable == GENERIC_VARIABLE else ""
        if not token.isascii() or not token.isprintable():
            raise ConfigurationError(f"what {TOKEN_VARIABLE} holds cannot stand in a header")
        found.append(Webhook(name, variable, body, url, token))
    return tuple(found)


KINDS: tuple[tuple[str, str, Callable[[Message], dict[str, Any]]], ...] = (
    ("slack", SLACK_VARIABLE, slack_body),
    ("webhook", GENERIC_VARIABLE, generic_body),
)
"""Name, environment variable and form of every kind of webhook."""


def encoded(body: Mapping[str, Any]) -> bytes:
    """The bytes that are sent."""
    return json.dumps(body, ensure_ascii=False).encode()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the message would go to an address that is not configured."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


def _usable(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _kind(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return (reason if isinstance(reason, Exception) else error).__class__.__name__
