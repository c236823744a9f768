"""The demo of the task ``ocr``: documents drawn from a seed, the training pipeline, its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.tasks.ocr.documents import DocumentsConfig, write_documents
from inference_graph.tasks.ocr.reader import OCR
from pipelines.options import merge
from pipelines.training.demo import Bar, DemoConfig, DemoResult, Display, trained, write_once
from pipelines.training.run import run_training

_CLIP_FRAMES = 2
"""Pictures of a clip: they are alike, so more clips teach and judge more than longer ones."""
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # A still has no look before it: what the policy knows of it are its own pixels.
    "clone": {"uses_frame": True},
    "time": {"images": 40, "repeats": 3},
    "compare_rungs": {"frames": 24},
    "spot_check": {"images": 16},
}


def run_document_demo(
    config: DemoConfig,
    out: Path,
    settings: Mapping[str, Mapping[str, Any]],
    bar: Bar,
    display: Display,
) -> DemoResult:
    """Draw documents, and train and judge a policy for the engines that read them.

    Args:
        config: clips to learn from and to judge by, and the seed; what concerns scenes and video
            is not used.
        out: results folder.
        settings: options by stage, where they differ from the demo's.
        bar: makes a progress bar with a label.
        display: makes a display of the pipeline's steps.
    """
    documents = out / "documents"
    clips = config.learn_clips + config.held_out_clips
    drawn = DocumentsConfig(clips=clips, clip_frames=_CLIP_FRAMES, seed=config.seed)
    with bar("documents") as progress:
        write_once(asdict(drawn), documents, lambda: write_documents(drawn, documents, progress))
    chosen = merge(merge(_SETTINGS, {"split": config.split}), settings)
    with display() as on_event:
        run = run_training(str(documents), OCR, out, chosen, on_event, kind="demo")
    return trained(out, run)
