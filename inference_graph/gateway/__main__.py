"""``python -m inference_graph.gateway``: the gateway as a process."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.audit_log import AUDIT
from foundation.command_line import (
    add_options,
    announce,
    read_options,
    read_pairs,
    run_command,
)
from inference_graph.control.triggers.http import triggers_routes
from inference_graph.gateway.oidc_config import OidcConfig
from inference_graph.gateway.server import serve_gateway
from inference_graph.gateway.settings import EVENT_KEY, LOGGER_TOKEN, GatewaySettings
from inference_graph.sessions import trust_of_environment
from inference_graph.streams.config import KafkaConfig
from inference_graph.streams.serve import with_kafka

_SPECIAL = ("rungs", "formats", "event_key", "logger_token", "oidc")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; exit code 1 and one line on stderr if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.gateway",
        description="Serve frames over WebSocket and HTTP. When it answers, one line of JSON on "
        f"stdout names its address. The environment variables {EVENT_KEY} and {LOGGER_TOKEN} set "
        "event_key and logger_token.",
    )
    parser.add_argument(
        "--rung",
        dest="rungs",
        action="append",
        required=True,
        metavar="NAME=TARGET",
        help="nano=HOST:PORT asks a detector service over gRPC, nano=dns:///HOST:PORT every "
        "address of that name, nano=FILE.onnx runs those weights in this process; repeat it for "
        "small and large",
    )
    parser.add_argument(
        "--formats",
        default=",".join(GatewaySettings.formats),
        help="image formats accepted, separated by commas (default: %(default)s)",
    )
    add_options(parser, _plain_options(), "the gateway")
    add_options(parser, OidcConfig, "tokens of an OpenID Connect issuer")
    add_options(parser, KafkaConfig, "frames from Kafka")
    given = parser.parse_args(arguments)
    others = {field.name for one in (OidcConfig, KafkaConfig) for field in dataclasses.fields(one)}
    parsed = {name: value for name, value in vars(given).items() if name not in others}

    def command() -> None:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
        # It notes every broken form, which is for its sender to know, and no reason to fill a disk.
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        parsed["rungs"] = read_pairs(parsed["rungs"], "rung", "TARGET")
        parsed["formats"] = tuple(filter(None, parsed["formats"].split(",")))
        secrets = {"event_key": EVENT_KEY, "logger_token": LOGGER_TOKEN}
        parsed.update({name: os.environ.get(variable) for name, variable in secrets.items()})
        parsed["trust"] = parsed["trust"] or trust_of_environment()
        if parsed["audit"] is None and os.environ.get(AUDIT):
            parsed["audit"] = Path(os.environ[AUDIT])
        parsed["oidc"] = read_options(given, OidcConfig).issuer
        settings = GatewaySettings(**parsed)
        settings, background = with_kafka(settings, read_options(given, KafkaConfig))
        serve_gateway(settings, _announce, (triggers_routes,), background)

    return run_command(command)


def _plain_options() -> type:
    """The settings that are plain options, as a dataclass of their own."""
    hints = typing.get_type_hints(GatewaySettings)
    fields: list[Any] = [
        (field.name, hints[field.name], dataclasses.field(default=field.default))
        for field in dataclasses.fields(GatewaySettings)
        if field.name not in _SPECIAL
    ]
    plain = dataclasses.make_dataclass("PlainOptions", fields, frozen=True)
    plain.__doc__ = GatewaySettings.__doc__
    return plain


def _announce(url: str) -> None:
    announce("gateway", http=url.partition("//")[2], url=url)


if __name__ == "__main__":
    sys.exit(main())
