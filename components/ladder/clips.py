"""Clips to learn from, to tune on and to test by, rendered and detected once.

See `components.profiling.stored_clips` for what is kept.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.data.dataset import load_dataset
from components.ladder.resize import resize_rung
from components.parallel import Progress, no_progress, part_of
from components.profiling.detections import load_detections
from components.profiling.profile import ProfileConfig, profile_rung
from components.profiling.rungs import open_rung
from components.profiling.stored_clips import (
    CLIP_PARTS,
    RESIZED,
    ClipsSummary,
    detection_settings,
    pack_part,
    write_manifest,
)
from components.profiling.timing import TimingConfig, Timings, load_timings, time_ladder
from components.scenes.writer import MIXED, ScenesConfig, write_scenes
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, ModelError
from foundation.storage import sha256_file
from inference_graph.contract import LADDER

_WORK = "work"

_logger = logging.getLogger(__name__)


@configuration
class ClipsConfig:
    """What is rendered and detected.

    Attributes:
        learn: clips that policies are learned from; the demo takes 100 of them and judges by the
            others.
        tune: clips on which settings are chosen.
        test: clips that judge.
        clip_frames: frames of each clip.
        condition: light and weather; "mixed" draws one per clip.
        world: "plain" or "streets".
        learn_seed: entropy of the clips to learn from; the demo's.
        tune_seed: entropy of the clips to choose on.
        test_seed: entropy of the clips that judge; another one for each release.
        threads: threads of one inference.
        providers: ONNX Runtime execution providers, the preferred one first.
        workers: rendering processes.
    """

    learn: Annotated[int, Field(ge=1)] = 180
    tune: Annotated[int, Field(ge=1)] = 60
    test: Annotated[int, Field(ge=1)] = 400
    clip_frames: Annotated[int, Field(ge=2)] = 15
    condition: str = MIXED
    world: str = "plain"
    learn_seed: Annotated[int, Field(ge=0)] = 1
    tune_seed: Annotated[int, Field(ge=0)] = 3001
    test_seed: Annotated[int, Field(ge=0)] = 4001
    threads: Annotated[int, Field(ge=1)] = 2
    providers: tuple[str, ...] = ProfileConfig.providers
    workers: Annotated[int, Field(ge=1)] = 2

    def __post_init__(self) -> None:
        """Raise ConfigurationError where two parts would hold the same clips."""
        if len({self.learn_seed, self.tune_seed, self.test_seed}) < len(CLIP_PARTS):
            raise ConfigurationError(
                "learn_seed, tune_seed and test_seed must differ, so that no clip is in two parts"
            )
        self.scenes(CLIP_PARTS[0])

    def scenes(self, part: str) -> ScenesConfig:
        """What a part's pictures are rendered from."""
        return ScenesConfig(
            clips=getattr(self, part),
            clip_frames=self.clip_frames,
            condition=self.condition,
            seed=getattr(self, f"{part}_seed"),
            world=self.world,
            workers=self.workers,
        )


def store_clips(
    ladder: Mapping[str, Path],
    out: Path,
    config: ClipsConfig,
    progress: Progress = no_progress,
) -> ClipsSummary:
    """Render the three parts, detect them with every rung, and store them.

    The network of `RESIZED` also runs at the input sizes of the other rungs, where its file can be
    resized. A run that was cut off goes on: rendered parts and profiles lie in ``out/work`` until
    the end.

    Args:
        ladder: weights of every rung.
        out: the folder.
        config: what to render.
        progress: called with steps done and in all.

    Raises:
        ConfigurationError: a rung has no weights, or ``out`` holds a folder ``work`` of others.
        ModelError: weights cannot be used, or the rungs' classes differ.
        StorageError: the disk is full.
    """
    inference = ProfileConfig(threads=config.threads, providers=config.providers)
    digests = {rung: sha256_file(ladder[rung]) for rung in LADDER}
    recipe = {**asdict(config), "settings": detection_settings(inference), "sha256": digests}
    work = out / _WORK
    note = work / "recipe.json"
    text = json.dumps(recipe)
    if not note.is_file() or note.read_text("utf-8", "replace") != text:
        if os.path.lexists(work) and not (note.is_file() and _is_recipe(note)):
            raise ConfigurationError(
                f"{work} holds what this command did not write; move it away, or choose another "
                "folder"
            )
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        note.write_text(text, encoding="utf-8")
    sizes = {rung: open_rung(rung, ladder[rung], inference).input_size for rung in LADDER}
    sized = _resized(ladder[RESIZED], sizes, work / "sized")
    networks = {rung: (rung, ladder) for rung in LADDER}
    networks |= {f"sized-{rung}": (rung, sized) for rung in sized if rung != RESIZED}
    ladders = {"timings": ladder} | ({"sized-timings": sized} if sized else {})
    steps = len(CLIP_PARTS) * (1 + len(networks)) + len(ladders)
    for number, part in enumerate(CLIP_PARTS):
        place = work / part
        place.mkdir(exist_ok=True)
        first = number * (1 + len(networks))
        if not (place / "scenes").is_dir():
            write_scenes(config.scenes(part), place / "scenes", part_of(progress, first, steps))
        for index, (name, (rung, files)) in enumerate(networks.items()):
            if not (place / name).is_dir():
                profile_rung(
                    place / "scenes",
                    files[rung],
                    rung,
                    place / name,
                    inference,
                    part_of(progress, first + 1 + index, steps),
                    ladder,
                )
    measured = {}
    for index, (name, files) in enumerate(ladders.items()):
        times = work / f"{name}.json"
        if not times.is_file():
            time_ladder(
                work / CLIP_PARTS[1] / "scenes",
                files,
                times,
                TimingConfig(threads=config.threads, providers=config.providers),
                part_of(progress, steps - len(ladders) + index, steps),
            )
        measured[name] = load_timings(times)
    for part in CLIP_PARTS:
        found = {name: load_detections(work / part / name) for name in networks}
        pack_part(
            load_dataset(work / part / "scenes"),
            {rung: found[rung] for rung in LADDER},
            out / f"{part}.npz",
            {rung: found[name] for name, (rung, _) in networks.items() if name not in LADDER},
        )
    latency = _medians(measured["timings"])
    facts = {"latency_ms": latency, "measured": measured["timings"].facts}
    if sized:
        in_sizes = _medians(measured["sized-timings"])
        # Measured one after the other: the network's own size, which is in both, makes them one.
        factor = latency[RESIZED] / in_sizes[RESIZED]
        facts["sized"] = {
            rung: {"input_size": list(sizes[rung]), "latency_ms": in_sizes[rung] * factor}
            for rung in LADDER
        }
    summary = write_manifest(out, recipe, facts)
    shutil.rmtree(work)
    return summary


def _is_recipe(note: Path) -> bool:
    """Whether a file is what :func:`store_clips` writes into the folder that it works in."""
    try:
        stated = json.loads(note.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(stated, dict) and set(CLIP_PARTS) <= set(stated)


def _resized(weights: Path, sizes: Mapping[str, tuple[int, int]], folder: Path) -> dict[str, Path]:
    """The network at the input size of each rung, one file each; empty where it has but one."""
    files = {}
    folder.mkdir(exist_ok=True)
    for rung, (height, width) in sizes.items():
        files[rung] = weights if rung == RESIZED else folder / f"{rung}.onnx"
        if not files[rung].is_file():
            try:
                resize_rung(weights, files[rung], rung, height, width)
            except ModelError as error:
                _logger.warning("no baselines of other input sizes: %s", error)
                return {}
    return files


def _medians(timings: Timings) -> dict[str, float]:
    return dict(zip(LADDER, np.median(timings.sample_ms, axis=0).tolist(), strict=True))
