"""Where the ladder's weights are: the committed sample ladder, a folder, or Ultralytics' own."""

from __future__ import annotations

from pathlib import Path

from components.parallel import Progress, no_progress
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.tasks.ocr.reader import OCR
from inference_graph.tasks.speech.listener import SPEECH

SAMPLE_LADDER = Path(__file__).resolve().parents[1] / "ladder"

SAMPLE_CLIPS = SAMPLE_LADDER / "clips"
"""What the sample ladder detects on clips to learn from, to tune on and to test by."""

OFFICIAL = "coco"
"""What a user gives for Ultralytics' COCO weights instead of a folder."""


def names_official(folder: str | Path) -> bool:
    """Whether a ladder means Ultralytics' COCO weights; a folder of that name goes first."""
    return str(folder) == OFFICIAL and not Path(OFFICIAL).is_dir()


def ladder_folder(folder: str | Path = "", progress: Progress = no_progress) -> Path:
    """The folder that a ladder's name stands for; it is not looked into.

    Args:
        folder: a folder; ``coco`` for Ultralytics' COCO weights, which are fetched and exported
            at first use; ``ocr`` for the engines that read text, ``speech`` for those that
            listen; empty for the sample ladder.
        progress: called with per cents of the fetching and exporting.

    Raises:
        InvalidInput: the weights cannot be fetched.
        ModelError: what was fetched cannot be used.
        StorageError: the cache cannot be written.
    """
    if names_official(folder):
        # Exporting needs torch, and most ladders lie there already.
        from components.ladder.official import official_ladder

        return official_ladder(progress=progress)
    if str(folder) in (OCR, SPEECH) and not Path(folder).is_dir():
        return SAMPLE_LADDER / folder
    return Path(folder).expanduser() if str(folder) else SAMPLE_LADDER


def ladder_files(folder: str | Path = "") -> dict[str, Path]:
    """The file of every rung, cheapest first; for ``folder`` see ``ladder_folder``.

    A detector is an ONNX file; JSON files name engines that read text or listen.

    Raises:
        ConfigurationError: a file is missing.
        InvalidInput: Ultralytics' weights cannot be fetched.
        ModelError: what was fetched cannot be used.
    """
    place = ladder_folder(folder)
    files = {rung: place / f"{rung}.json" for rung in LADDER}
    if not all(file.is_file() for file in files.values()):
        files = {rung: place / f"{rung}.onnx" for rung in LADDER}
    missing = [file.name for file in files.values() if not file.is_file()]
    if missing:
        raise ConfigurationError(
            f"{place}: no {', '.join(missing)}; give a folder with an ONNX file for each of "
            f"{', '.join(LADDER)} (gearshift ladder export makes them), or coco"
        )
    return files
