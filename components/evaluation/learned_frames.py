"""The frames that a policy was learned from and judged by: ``frames.json`` beside its report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.data.dataset import Dataset
from components.profiling.replay import Replay
from foundation.errors import InvalidInput

FRAMES_FILE = "frames.json"


@dataclass(frozen=True)
class LearnedFrames:
    """Frames by their file names in the data set.

    Attributes:
        dataset_sha256: which data set, as its versions, splits and profiles carry it.
        train: frames that the policy was learned from.
        validation: frames by which it was chosen.
        test: frames by which it was judged.
        version: STORE@ID of the stored version that the data were ingested from; else empty.
    """

    dataset_sha256: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    version: str = ""


def write_frames(data: Dataset, replay: Replay, out: Path) -> None:
    """Write ``frames.json``.

    Args:
        data: the data set.
        replay: its frames, by part.
        out: the folder.
    """
    parts = {
        part: tuple(
            data.images[index].file_name for index in data.index_of(replay.part(part).image_ids)
        )
        for part in ("train", "validation", "test")
    }
    found = LearnedFrames(str(data.info.get("source_sha256") or ""), **parts, version=data.version)
    (out / FRAMES_FILE).write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")


def read_frames(file: Path) -> LearnedFrames:
    """Read what ``write_frames`` wrote; raises InvalidInput for anything else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return LearnedFrames(**content)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{file} is missing or broken ({type(error).__name__}); policies that were evaluated "
            "by an earlier version have none, evaluate again"
        ) from error
