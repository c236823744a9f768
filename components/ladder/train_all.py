"""Training the whole ladder: side by side on a GPU, in turns on a processor.

Small networks leave a GPU waiting for Python, so the rungs share it as processes of their own. A
processor has no room for that: there each rung trains a slice of its steps, then the next rung,
so that a run which is cut off has advanced all of them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.ladder.train import (
    LadderTrainConfig,
    StepReport,
    frames_of,
    pick_device,
    steps_done,
    train_rung,
)
from components.parallel import Progress, no_progress, process_pool
from inference_graph.contract import LADDER

SLICES = 40
"""Turns in which the rungs advance on a processor."""

_POLL_SECONDS = 0.5


def train_ladder(
    config: LadderTrainConfig,
    out: Path,
    cache: Path,
    *,
    on_render: Progress = no_progress,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> tuple[Path, ...]:
    """Train all rungs by one recipe, or continue where a run of it was cut off.

    Rungs whose ``<rung>.pt`` is there already are done.

    Args:
        config: the recipe; its rung, height and width give way to each rung's own.
        out: folder for the checkpoints and the results.
        cache: folder for the rendered frames.
        on_render: called while frames are rendered, with frames done and in all.
        on_step: called with each rung's progress.

    Returns:
        The checkpoints, cheapest rung first.

    Raises:
        ConfigurationError: a checkpoint of another recipe is in the way.
        StorageError: the disk is full.
    """
    recipes = [replace(config, rung=rung, height=0, width=0) for rung in LADDER]
    done = {recipe.rung: steps_done(recipe, out) for recipe in recipes}
    recipes = [recipe for recipe in recipes if done[recipe.rung] < recipe.steps]
    if pick_device(config.device).type == "cuda":
        frames_of(config, cache, on_render)
        _side_by_side(recipes, out, cache, on_step)
    else:
        for turn in range(1, SLICES + 1):
            for recipe in recipes:
                until = recipe.steps * turn // SLICES
                if until <= done[recipe.rung]:
                    continue
                train_rung(recipe, out, cache, until=until, on_render=on_render, on_step=on_step)
    return tuple(out / f"{rung}.pt" for rung in LADDER)


def _work(config: LadderTrainConfig, out: Path, cache: Path, reports: Any) -> None:
    train_rung(config, out, cache, on_step=reports.put)


def _side_by_side(
    recipes: list[LadderTrainConfig],
    out: Path,
    cache: Path,
    on_step: Callable[[StepReport], None],
) -> None:
    context = multiprocessing.get_context("spawn")  # a GPU cannot be used after a fork
    with context.Manager() as manager, process_pool(max(1, len(recipes))) as pool:
        reports = manager.Queue()
        pending = {pool.submit(_work, recipe, out, cache, reports) for recipe in recipes}
        while pending:
            done, pending = wait_for(pending, timeout=_POLL_SECONDS)
            while not reports.empty():
                on_step(reports.get())
            for future in done:
                future.result()
