"""``python -m inference_graph.control.notifications.say``: a script's message, from a bare Python.

A workflow that failed before anything was installed can say so all the same: this needs nothing
beside the standard library.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from foundation.command_line import read_pairs, run_command
from foundation.errors import ConfigurationError
from inference_graph.control.notifications.message import Level, Message
from inference_graph.control.notifications.sender import Delivery, deliver
from inference_graph.control.notifications.webhooks import webhooks_of

LEVELS: Mapping[str, Level] = {
    "good": "good",
    "success": "good",
    "warning": "warning",
    "cancelled": "warning",
    "skipped": "warning",
    "critical": "critical",
    "failure": "critical",
}
"""What a script may call a level, a CI's words for how a job ended among them."""


def say(
    title: str,
    level: str,
    text: str = "",
    link: str = "",
    fields: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[str, ...]:
    """Send one message to every webhook that is set.

    Args:
        title: one line.
        level: one of LEVELS.
        text: what happened, and what to do.
        link: where to read on.
        fields: figures and names beside it.
        environ: where the webhooks are set.

    Returns:
        Names of the webhooks that took it; none where none is set.

    Raises:
        ConfigurationError: an unknown level, no title, or what a variable holds is no address.
        Unavailable: a webhook does not answer.
    """
    if level not in LEVELS:
        raise ConfigurationError(f"level is {level!r}; give one of {', '.join(LEVELS)}")
    if not title.strip():
        raise ConfigurationError("the title is empty; say in one line what happened")
    message = Message("pipeline", LEVELS[level], title, text, dict(fields or {}), link)
    webhooks = webhooks_of(environ)
    for webhook in webhooks:
        deliver(webhook, message, Delivery(attempts=3, timeout_seconds=5.0))
    return tuple(webhook.name for webhook in webhooks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send; exit code 1 and one line on stderr if a webhook does not take it."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.control.notifications.say",
        description="Send one message to the webhooks that the environment names.",
    )
    parser.add_argument("title", help="one line")
    parser.add_argument("--level", default="good", help=", ".join(LEVELS))
    parser.add_argument("--text", default="", help="what happened, and what to do")
    parser.add_argument("--link", default="", help="where to read on")
    parser.add_argument(
        "--field", action="append", default=[], metavar="NAME=VALUE", help="shown beside it"
    )
    given = parser.parse_args(arguments)

    def command() -> None:
        fields = read_pairs(given.field, "field")
        sent = say(given.title, given.level, given.text, given.link, fields)
        print(f"sent to {', '.join(sent)}" if sent else "no webhook is set; nothing was sent")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
