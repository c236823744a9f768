"""Whether a ladder is the one its card describes, and worth routing between."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.ladder.card import CARD_FILE
from components.ladder.compare import LadderComparison, not_rising
from components.profiling.rungs import InferenceConfig, open_ladder
from foundation.errors import ModelError
from foundation.storage import sha256_file
from inference_graph.contract import LADDER

EXPORT_TOLERANCE = 0.005
"""Most by which the mAP of a file may differ from that of the checkpoint it came from."""


def check_ladder(ladder: Path, card: Path | None = None) -> None:
    """Check a ladder's files against its card, and that every rung earns its place.

    Args:
        ladder: folder with ``<rung>.onnx``.
        card: the card; by default ``card.json`` in that folder.

    Raises:
        ModelError: as `check_files` and `check_order` raise it.
    """
    check_files(ladder, card)
    check_order(card or ladder / CARD_FILE)


def check_files(ladder: Path, card: Path | None = None) -> None:
    """Check a ladder's files against its card.

    Raises:
        ModelError: there is no card; a file is missing, is not the one on the card or does not
            serve; the rungs' classes are not those on the card; or an export differs from its
            checkpoint by more than 0.005 or was never compared with it.
    """
    path = card or ladder / CARD_FILE
    with _card(path) as content:
        rungs = content["rungs"]
        files = {rung: ladder / rungs[rung]["file"] for rung in LADDER}
        for rung, file in files.items():
            _check_file(file, rungs[rung]["sha256"], path)
        _check_classes(files, content["class_names"], path)
        for rung in LADDER:
            original = rungs[rung]["checkpoint_map"]
            _check_export(
                rung, rungs[rung]["map"]["overall"], original and original["overall"], path
            )


def check_order(card: Path) -> None:
    """Check that every rung of a card's ladder earns its place.

    Raises:
        ModelError: there is no card; accuracy does not rise from rung to rung, overall and on
            dense scenes, as served and at equal input; a network at another input size is as
            accurate as a rung in less time; or the card compares no sizes.
    """
    with _card(card) as content:
        if content.get("comparison") is None:
            raise ModelError(
                f"{card} compares no input sizes; write it again with gearshift ladder card"
            )
        # On all of the card's frames; the comparison uses some of them.
        whole = [
            not_rising(
                {rung: content["rungs"][rung]["map"][scenes] for rung in LADDER},
                scenes,
                "on all frames",
            )
            for scenes in ("overall", "dense")
        ]
        compared = LadderComparison.from_json(content["comparison"]).faults
    faults = [fault for fault in (*whole, *compared) if fault]
    if faults:
        raise ModelError(
            f"{card}: {'; '.join(faults)}; train the heavier rung for longer, or serve the rungs "
            "at other input sizes (gearshift ladder resize)"
        )


@contextmanager
def _card(path: Path) -> Iterator[Mapping[str, Any]]:
    """The content of a card; ModelError where the block finds it incomplete."""
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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


def _check_export(rung: str, exported: float, original: float | None, card: Path) -> None:
    if original is None:
        raise ModelError(
            f"{card}: {rung} was never compared with its checkpoint; "
            "write the card again with the checkpoints"
        )
    if abs(exported - original) > EXPORT_TOLERANCE:
        raise ModelError(
            f"{card}: {rung} has mAP {exported:.4f}, its checkpoint {original:.4f}, which is more "
            f"than {EXPORT_TOLERANCE} apart; export it again, without compression if need be"
        )
