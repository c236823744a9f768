"""Where the ladder's weights are: the committed sample ladder, or a folder of the user's."""

from __future__ import annotations

from pathlib import Path

from feature_transformer.errors import ConfigurationError
from inference_graph.contract import LADDER

SAMPLE_LADDER = Path(__file__).resolve().parents[1] / "ladder"


def ladder_files(folder: str | Path = "") -> dict[str, Path]:
    """The ONNX file of every rung, cheapest first; an empty folder means the sample ladder.

    Raises:
        ConfigurationError: a file is missing.
    """
    place = Path(folder).expanduser() if str(folder) else SAMPLE_LADDER
    files = {rung: place / f"{rung}.onnx" for rung in LADDER}
    missing = [file.name for file in files.values() if not file.is_file()]
    if missing:
        raise ConfigurationError(
            f"{place}: no {', '.join(missing)}; give a folder with an ONNX file for each of "
            f"{', '.join(LADDER)} (gearshift ladder export makes them)"
        )
    return files
