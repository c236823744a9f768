"""Evidently's tabular report: every figure of the independent frames, before and now.

It is for reading. The decision rests on ``components.drift.comparison``, whose tests know of
streams, share one false-alarm rate, and compare the embedding as a whole.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.drift.config import DriftConfig
from components.drift.frames import Frames
from components.drift.thinning import thinned
from feature_transformer.frame_statistics import STATISTICS
from foundation.storage import atomic_path
from inference_graph.contract import LADDER

TABULAR_PAGE = "tabular.html"


def write_tabular(
    reference: Frames,
    window: Frames,
    spacing: tuple[int, int],
    config: DriftConfig,
    class_names: Sequence[str],
    out: Path,
) -> bool:
    """Write ``tabular.html`` into a folder.

    Args:
        reference: what is usual.
        window: what is examined.
        spacing: frames of a stream between two independent ones, of both.
        config: how many are compared.
        class_names: names of the classes, by label.
        out: the folder.

    Returns:
        Whether it was written; not where one side has too little to compare.

    Raises:
        StorageError: it cannot be written.
    """
    sides = [
        frames.take(thinned(frames, np.ones(len(frames), np.bool_), apart, config.most))
        for frames, apart in zip((reference, window), spacing, strict=True)
    ]
    if min(len(side) for side in sides) < config.least:
        return False
    width = max(side.classes.shape[1] for side in sides)
    names = [*class_names, *(f"class {n}" for n in range(width))][:width]
    old, new = (_columns(side, names) for side in sides)
    # Evidently takes no column that one side never measured.
    numbers = [
        name
        for name in old
        if name != "rung" and all(np.isfinite(side[name]).any() for side in (old, new))
    ]
    with atomic_path(out / TABULAR_PAGE) as partial:
        _evidently(old, new, numbers, partial)
    return True


def _columns(frames: Frames, names: Sequence[str]) -> dict[str, Any]:
    classes = np.pad(frames.classes, ((0, 0), (0, len(names) - frames.classes.shape[1])))
    return {
        **{name: frames.statistics[:, index] for index, name in enumerate(STATISTICS)},
        "objects": frames.objects,
        "confidence": frames.confidence,
        "agreement": frames.agreement,
        **{name: classes[:, index].astype(np.float64) for index, name in enumerate(names)},
        "rung": np.array([*LADDER, "none"])[frames.rung],
    }


def _evidently(old: dict[str, Any], new: dict[str, Any], numbers: list[str], path: Path) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import pandas as pd
        from evidently import (  # type: ignore[import-untyped]  # it has no types
            DataDefinition,
            Dataset,
            Report,
        )
        from evidently.presets import DataDriftPreset  # type: ignore[import-untyped]  # it has no types

        definition = DataDefinition(numerical_columns=numbers, categorical_columns=["rung"])
        tables = [
            Dataset.from_pandas(pd.DataFrame(side)[[*numbers, "rung"]], data_definition=definition)
            for side in (new, old)
        ]
        Report([DataDriftPreset()]).run(*tables).save_html(str(path))
