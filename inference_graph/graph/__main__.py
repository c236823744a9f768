"""``python -m inference_graph.graph``: an InferenceGraph as a process."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.command_line import announce, read_pairs, run_command
from inference_graph.graph.server import serve_graph


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; exit code 1 and one line on stderr if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.graph",
        description="Serve an InferenceGraph with KServe's routing. When it answers, one line of "
        "JSON on stdout names the address.",
    )
    parser.add_argument("graph", type=Path, metavar="GRAPH.yaml", help="the manifest")
    parser.add_argument("--port", type=int, default=8601, help="0 takes a free one (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--service",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="address of an InferenceService that a step names; without a path it gets V1's",
    )
    parser.add_argument(
        "--propagate-header",
        action="append",
        default=[],
        metavar="REGEX",
        help="send request headers whose name it matches on to the steps; repeatable",
    )
    parser.add_argument(
        "--allowed-hosts",
        default="",
        metavar="NAMES",
        help="names it answers to besides those of loopback, separated by commas, * for any; on "
        "another address than loopback any does without it",
    )
    parsed = parser.parse_args(arguments)

    def command() -> None:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
        services = read_pairs(parsed.service, "service", "URL")
        serve_graph(
            parsed.graph,
            parsed.port,
            parsed.host,
            services,
            parsed.propagate_header,
            _announce,
            allowed_hosts=parsed.allowed_hosts,
        )

    return run_command(command)


def _announce(url: str) -> None:
    announce("graph", http=url.partition("//")[2], url=url)


if __name__ == "__main__":
    sys.exit(main())
