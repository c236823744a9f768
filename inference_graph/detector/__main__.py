"""``python -m inference_graph.detector``: one rung behind KServe's model server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from feature_transformer.observation import SCHEMA_HASH
from foundation.command_line import add_options, read_options, run_command
from inference_graph.detector.batching import BatchOptions
from inference_graph.detector.providers import Provider, Tolerance, frames_of, open_detector
from inference_graph.detector.rung import DetectorConfig
from inference_graph.detector.service import DetectorService, ImageOptions
from inference_graph.sessions import trust_of_environment
from serving_kit.model_server import ServerOptions, serve


@dataclass(frozen=True)
class RungOptions:
    """Which rung is served and how it is run.

    Attributes:
        rung: its place in the ladder.
        weights: the ONNX file.
        sha256: digest the file must have.
        trust: trust file; weights that none of its keys signed are refused. $GEARSHIFT_TRUST
            without it, and not checked where that is not set.
        model_name: name in URLs and gRPC requests; the rung's without it.
        provider: what computes; all but cpu are compared with fp32 on the CPU before they serve.
        threads: CPU threads of one inference.
        threads_beside: CPU threads of an inference that begins while another runs, or while most
            requests overlap.
        confidence: scores must be greater than this, 0 to 1.
        iou: overlap above which the weaker of two boxes of a class is dropped, 0 to 1.
        max_detections: at most so many per image.
        check_frames: folder of images for the comparison; drawn ones without it.
    """

    rung: Literal["nano", "small", "large"]
    weights: Path
    sha256: str | None = None
    trust: Path | None = None
    model_name: str | None = None
    provider: Provider = "cpu"
    threads: int = 2
    threads_beside: int = 1
    confidence: float = DetectorConfig.confidence
    iou: float = DetectorConfig.iou
    max_detections: int = DetectorConfig.max_detections
    check_frames: Path | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one rung until SIGTERM; exit code 1 and one line on stderr if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.detector",
        description="Serve one rung of the ladder over REST (V1, V2) and gRPC (V2). When it "
        "answers, one line of JSON on stdout names the address.",
    )
    add_options(parser, RungOptions, "the rung")
    add_options(parser, Tolerance, "comparison of a provider with fp32 on the CPU")
    add_options(parser, BatchOptions, "batching")
    add_options(parser, ImageOptions, "images")
    add_options(parser, ServerOptions, "the server")
    parsed = parser.parse_args(arguments)

    def command() -> None:
        options = read_options(parsed, RungOptions)
        server = read_options(parsed, ServerOptions)
        batching = read_options(parsed, BatchOptions)
        limits = read_options(parsed, ImageOptions).limits()
        config = DetectorConfig(
            options.weights,
            options.rung,
            confidence=options.confidence,
            iou=options.iou,
            max_detections=options.max_detections,
            threads=options.threads,
            threads_beside=options.threads_beside if options.provider == "cpu" else None,
            sha256=options.sha256,
            trust=options.trust or trust_of_environment(),
        )
        cv2.setNumThreads(1)  # inferences run in threads already
        frames = frames_of(options.check_frames) if options.check_frames else None
        tolerance = read_options(parsed, Tolerance)
        detector = open_detector(config, options.provider, tolerance, frames)
        serve(DetectorService(detector, batching, limits, options.model_name), server, SCHEMA_HASH)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
