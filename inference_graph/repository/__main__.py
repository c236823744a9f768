"""``python -m inference_graph.repository``: rungs and policies, loaded and unloaded by request."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import cv2

from feature_transformer.observation import SCHEMA_HASH
from foundation.command_line import add_options, read_options, run_command
from inference_graph.detector.batching import BatchOptions
from inference_graph.detector.providers import Tolerance
from inference_graph.detector.service import ImageOptions
from inference_graph.repository.models import ModelRepository
from inference_graph.repository.options import RepositoryOptions
from inference_graph.sessions import trust_of_environment
from serving_kit.model_server import ServerOptions, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a repository until SIGTERM; exit code 1 and one line on stderr if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.repository",
        description="Serve the rungs and policies of a folder, which are loaded and unloaded by "
        "request, over REST (V1, V2) and gRPC (V2). When it answers, one line of JSON on stdout "
        "names the address.",
    )
    add_options(parser, RepositoryOptions, "the models")
    add_options(parser, Tolerance, "comparison of a provider with fp32 on the CPU")
    add_options(parser, BatchOptions, "batching")
    add_options(parser, ImageOptions, "images")
    add_options(parser, ServerOptions, "the server")
    parsed = parser.parse_args(arguments)

    def command() -> None:
        options = read_options(parsed, RepositoryOptions)
        options = replace(options, trust=options.trust or trust_of_environment())
        cv2.setNumThreads(1)  # inferences run in threads already
        repository = ModelRepository(
            options,
            read_options(parsed, BatchOptions),
            read_options(parsed, ImageOptions),
            read_options(parsed, Tolerance),
        )
        serve(repository, read_options(parsed, ServerOptions), SCHEMA_HASH)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
