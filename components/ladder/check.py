"""Whether a ladder is the one its card describes, and worth routing between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.ladder.card import CARD_FILE
from components.profiling.rungs import InferenceConfig, open_ladder
from foundation.errors import ModelError
from foundation.storage import sha256_file
from inference_graph.contract import LADDER

EXPORT_TOLERANCE = 0.005
"""Most by which the mAP of a file may differ from that of the checkpoint it came from."""

RISING = ("overall", "dense")
"""Where each rung must be strictly better than the one below it."""


def check_ladder(ladder: Path, card: Path | None = None) -> None:
    """Hold a ladder's files against its card.

    Args:
        ladder: folder with ``<rung>.onnx``.
        card: the card; by default ``card.json`` in that folder.

    Raises:
        ModelError: there is no card; a file is missing, is not the one on the card or does not
            serve; the rungs' classes are not those on the card; accuracy does not rise strictly
            from rung to rung (overall and on dense scenes); or an export differs from its
            checkpoint by more than 0.005 or was never held against it.
    """
    path = card or ladder / CARD_FILE
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rungs = content["rungs"]
        files = {rung: ladder / rungs[rung]["file"] for rung in LADDER}
        for rung, file in files.items():
            _check_file(file, rungs[rung]["sha256"], path)
        _check_classes(files, content["class_names"], path)
        for scenes in RISING:
            _check_rise([rungs[rung]["map"][scenes] for rung in LADDER], scenes, path)
        for rung in LADDER:
            original = rungs[rung]["checkpoint_map"]
            _check_export(
                rung, rungs[rung]["map"]["overall"], original and original["overall"], path
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is no ladder's card ({type(error).__name__}); "
            "write one with gearshift ladder card"
        ) from error


def _check_file(file: Path, digest: str, card: Path) -> None:
    if not file.is_file():
        raise ModelError(f"{file} is missing, and {card} lists it; restore the file")
    found = sha256_file(file)
    if found != digest:
        raise ModelError(
            f"{file} has SHA-256 {found[:12]}, {card} says {digest[:12]}; "
            "restore the file, or write the card again"
        )


def _check_classes(files: Mapping[str, Path], names: Sequence[str], card: Path) -> None:
    found = open_ladder(files, InferenceConfig())[LADDER[0]].class_names
    if list(found) != list(names):
        raise ModelError(
            f"{card} lists {len(names)} classes, the rungs know {len(found)}, or they differ in "
            "name; write the card again"
        )


def _check_rise(values: list[float | None], scenes: str, card: Path) -> None:
    known = [value for value in values if value is not None]
    rises = len(known) == len(values) and all(
        low < high for low, high in zip(known[:-1], known[1:], strict=True)
    )
    if not rises:
        figures = ", ".join(
            f"{rung} {'not measured' if value is None else format(value, '.4f')}"
            for rung, value in zip(LADDER, values, strict=True)
        )
        raise ModelError(
            f"{card}: mAP ({scenes}) does not rise from rung to rung ({figures}); "
            "train the heavier rung for longer"
        )


def _check_export(rung: str, exported: float, original: float | None, card: Path) -> None:
    if original is None:
        raise ModelError(
            f"{card}: {rung} was never held against its checkpoint; "
            "write the card again with the checkpoints"
        )
    if abs(exported - original) > EXPORT_TOLERANCE:
        raise ModelError(
            f"{card}: {rung} has mAP {exported:.4f}, its checkpoint {original:.4f}, which is more "
            f"than {EXPORT_TOLERANCE} apart; export it again, without compression if need be"
        )
