"""``python -m inference_graph.router``: the policy behind KServe's model server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.command_line import add_options, read_options, run_command
from inference_graph.router.policy import Policy
from inference_graph.router.service import RouterService
from inference_graph.sessions import trust_of_environment
from serving_kit.model_server import ServerOptions, serve


@dataclass(frozen=True)
class RouterOptions:
    """Which policy is served.

    Attributes:
        policy: the ONNX file; one made for another observation or ladder is refused.
        sha256: digest the file must have.
        trust: trust file; a policy that none of its keys signed is refused. $GEARSHIFT_TRUST
            without it, and not checked where that is not set.
        model_name: name in URLs and gRPC requests.
        threads: CPU threads of one decision; the network is small, so more than one costs.
    """

    policy: Path
    sha256: str | None = None
    trust: Path | None = None
    model_name: str = "router"
    threads: int = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a policy until SIGTERM; exit code 1 and one line on stderr if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.router",
        description="Serve the policy over REST (V1, V2) and gRPC (V2). When it answers, one line "
        "of JSON on stdout names the address.",
    )
    add_options(parser, RouterOptions, "the policy")
    add_options(parser, ServerOptions, "the server")
    parsed = parser.parse_args(arguments)

    def command() -> None:
        options = read_options(parsed, RouterOptions)
        server = read_options(parsed, ServerOptions)
        trust = options.trust or trust_of_environment()
        policy = Policy(options.policy, options.threads, options.sha256, trust=trust)
        serve(RouterService(policy, options.model_name), server, policy.maker.schema_hash)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
