"""``python -m feature_transformer``: the transformer behind KServe's model server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import cv2
from pydantic import Field

from feature_transformer.observation import SCHEMA_HASH
from feature_transformer.router_client import GrpcRouter, RestRouter, RouterClient
from feature_transformer.service import TransformerOptions, TransformerService
from foundation.command_line import add_options, read_options, run_command
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from serving_kit.model_server import ServerOptions, serve


@configuration
class PredictorOptions:
    """Where the router is.

    Attributes:
        predictor_host: host or host:port of the router.
        predictor_protocol: protocol spoken with it.
        predictor_name: its model name.
        predictor_use_ssl: whether it uses TLS.
        predictor_request_timeout_seconds: longest wait for its answer.
        enable_predictor_health_check: whether to be ready only while the router is.
        model_name: this model's name in URLs and gRPC requests.
    """

    predictor_host: str
    predictor_protocol: Literal["v2", "grpc-v2"] = "v2"
    predictor_name: str = "router"
    predictor_use_ssl: bool = False
    predictor_request_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    enable_predictor_health_check: bool = False
    model_name: str = "feature-transformer"

    def __post_init__(self) -> None:
        if not self.predictor_host or any(mark in self.predictor_host for mark in "/@ "):
            raise ConfigurationError(
                f"predictor_host is {self.predictor_host!r}; give host or host:port"
            )

    def client(self) -> RouterClient:
        """A client of the router; it connects when first used."""
        kind = GrpcRouter if self.predictor_protocol == "grpc-v2" else RestRouter
        return kind(
            self.predictor_name,
            self.predictor_host,
            self.predictor_request_timeout_seconds,
            self.predictor_use_ssl,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the transformer until SIGTERM; exit code 1 and one line on stderr if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m feature_transformer",
        description="Serve the transformer over REST (V1, V2) and gRPC (V2): an image in, the "
        "same image and the rung that shall look at it out. When it answers, one line of JSON on "
        "stdout names the address.",
    )
    add_options(parser, PredictorOptions, "the router")
    add_options(parser, TransformerOptions, "frames")
    add_options(parser, ServerOptions, "the server")
    parsed = parser.parse_args(arguments)

    def command() -> None:
        predictor = read_options(parsed, PredictorOptions)
        server = read_options(parsed, ServerOptions)
        options = read_options(parsed, TransformerOptions)
        cv2.setNumThreads(1)  # frames are spread over threads already
        service = TransformerService(
            predictor.client,
            options,
            predictor.model_name,
            predictor.enable_predictor_health_check,
        )
        serve(service, server, SCHEMA_HASH)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
