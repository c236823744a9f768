"""A batch run against its bare detectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.batch.run import BatchConfig, run_batch
from components.parallel import worker_count
from components.profiling.rungs import InferenceConfig, open_ladder
from feature_transformer.image import Frame, decode
from inference_graph.contract import LADDER
from inference_graph.router import FrameRouter, Policy

_ROUNDS = 5


def batch_speed(
    images: Sequence[bytes],
    policy: Path | None,
    ladder: Mapping[str, Path],
    place: Path,
    progress: Callable[[int, int | None], None],
) -> dict[str, float]:
    """Frames per second of a batch run, reading and writing included, and of its bare detectors.

    The bare detectors get frames that are decoded and decided already, in batches of the same size
    and on as many threads.

    Args:
        images: encoded images.
        policy: who decides; the reference without it.
        ladder: the ONNX file of each rung.
        place: an empty folder is made in it.
        progress: called with rounds done and in all.

    Returns:
        ``batch`` and ``bare``.
    """
    folder = place / "images"
    folder.mkdir()
    for number, data in enumerate(images):
        (folder / f"{number:06d}.jpg").write_bytes(data)
    config = BatchConfig(always=None if policy is not None else LADDER[-1])
    workers = worker_count(config.workers)
    detectors = open_ladder(ladder, InferenceConfig(threads=1))
    batches = _decided([decode(data) for data in images], policy, config.batch)
    spent = {"batch": 0.0, "bare": 0.0}

    def bare() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda one: detectors[one[0]].detect_many(one[1]), batches))
        return time.perf_counter() - start

    bare()
    for turn in range(_ROUNDS):
        out = place / f"batch-{turn}"
        spent["batch"] += run_batch(str(folder), policy, ladder, out, config).seconds
        spent["bare"] += bare()
        progress(turn + 1, _ROUNDS)
    return {name: _ROUNDS * len(images) / seconds for name, seconds in spent.items()}


def _decided(
    frames: Sequence[Frame], policy: Path | None, size: int
) -> list[tuple[str, list[Frame]]]:
    """Batches of each rung, as stills are decided."""
    router = FrameRouter(Policy(policy)) if policy is not None else None
    by_rung: dict[str, list[Frame]] = {rung: [] for rung in LADDER}
    for frame in frames:
        by_rung[LADDER[-1] if router is None else router.route(frame).model].append(frame)
    return [
        (rung, found[at : at + size])
        for rung, found in by_rung.items()
        for at in range(0, len(found), size)
    ]
