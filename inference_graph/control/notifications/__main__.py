"""``python -m inference_graph.control.notifications``: alerts from Prometheus on to webhooks."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import uvicorn
from pydantic import Field

from foundation.command_line import add_options, read_options, run_command
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from inference_graph.control.notifications.receiver import build_receiver
from inference_graph.control.notifications.sender import Delivery, Sender
from inference_graph.control.notifications.webhooks import (
    GENERIC_VARIABLE,
    SLACK_VARIABLE,
    webhooks_of,
)

_LAST_SECONDS = 5.0
"""What still waits at the end has so long to leave."""


@configuration
class ReceiverOptions:
    """Where Prometheus finds the receiver.

    Attributes:
        host: address to listen on; whoever reaches it can have messages sent.
        port: TCP port, Alertmanager's by default.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 9093


def main(arguments: Sequence[str] | None = None) -> int:
    """Receive until SIGTERM; exit code 1 and one line on stderr if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.control.notifications",
        description="Receive alerts as an Alertmanager does (/api/v2/alerts), or from one "
        f"(/webhook), and send them to the webhooks in {SLACK_VARIABLE} and {GENERIC_VARIABLE}.",
    )
    add_options(parser, ReceiverOptions, "the receiver")
    add_options(parser, Delivery, "sending")
    parsed = parser.parse_args(arguments)

    def command() -> None:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
        options = read_options(parsed, ReceiverOptions)
        delivery = read_options(parsed, Delivery)
        webhooks = webhooks_of(os.environ)
        if not webhooks:
            raise ConfigurationError(
                f"no webhook is set; put an address into {SLACK_VARIABLE} or {GENERIC_VARIABLE}"
            )
        sender = Sender(webhooks, delivery)
        try:
            uvicorn.run(
                build_receiver(sender.send),
                host=options.host,
                port=options.port,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
            )
        finally:
            sender.close(_LAST_SECONDS)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
