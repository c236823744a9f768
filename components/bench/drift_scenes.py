"""What the drift benchmark is measured on: sample scenes, routed and detected once, then resampled.

Clips are routed by the policy frame by frame, as the gateway does it, and large looks at a sampled
share of frames. Stills are only observed: the online detector needs no detections. Both are kept in
a cache, under a name that changes with whatever they depend on.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.drift.embedding import EMBEDDING, embed
from components.drift.frames import Frames, frames_of
from components.drift.reference import REFERENCE_SCHEMA
from components.parallel import Progress
from components.profiling.rungs import InferenceConfig, open_rung
from components.scenes.conditions import Condition
from components.scenes.world import World
from feature_transformer.frame_statistics import pixel_statistics, seen_statistics
from feature_transformer.observation import FRAME_SLICE, frame_features
from foundation.storage import atomic_path, sha256_file
from inference_graph.contract import LADDER
from inference_graph.prediction_log.agreement import agreement
from inference_graph.router import FrameRouter, Policy
from inference_graph.tasks.rung import Rung

WIDTH, HEIGHT, FPS = 640, 480, 10.0
_AT_ONCE = 4
"""Clips, and 25 times as many stills, that a process does before it reports."""


@dataclass(frozen=True)
class Pool:
    """Which scenes.

    Attributes:
        condition: light and weather.
        clips: streets that are routed.
        clip_frames: frames of each.
        stills: streets that are only observed.
        shadow_share: share of the frames at which large looks too.
        seed: entropy of all.
    """

    condition: Condition
    clips: int
    clip_frames: int
    stills: int
    shadow_share: float
    seed: int


@dataclass(frozen=True)
class Served:
    """What came of it: the routed clips, each a stream, and the stills' embeddings [n, 68]."""

    clips: Frames
    stills: NDArray[np.float32]


def serve_pool(
    pool: Pool,
    policy: Path,
    ladder: Mapping[str, Path],
    cache: Path,
    workers: int,
    progress: Progress,
) -> Served:
    """Render, route and detect, or read what an earlier run left.

    Args:
        pool: which scenes.
        policy: the policy's ONNX file.
        ladder: every rung's weights.
        cache: folder for what was computed.
        workers: processes.
        progress: called with streets done and in all.

    Raises:
        ModelError: weights or policy cannot be used.
        StorageError: the cache cannot be written.
    """
    total = pool.clips + pool.stills
    folder = cache / _key(pool, policy, ladder)
    if not folder.is_dir():
        rows: list[dict[str, Any]] = []
        stills: list[NDArray[np.float32]] = []
        done = 0
        new = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, new, _start, (policy, ladder)) as pool_of:
            jobs = [
                (pool, i, min(i + _AT_ONCE, pool.clips)) for i in range(0, pool.clips, _AT_ONCE)
            ]
            for start, found in zip(jobs, pool_of.map(_clips, jobs), strict=True):
                rows += found
                done += start[2] - start[1]
                progress(done, total)
            step = 25 * _AT_ONCE
            jobs = [(pool, i, min(i + step, pool.stills)) for i in range(0, pool.stills, step)]
            for start, points in zip(jobs, pool_of.map(_stills, jobs), strict=True):
                stills.append(points)
                done += start[2] - start[1]
                progress(done, total)
        with atomic_path(folder) as partial:
            partial.mkdir(parents=True)
            columns = {name: [row[name] for row in rows] for name in REFERENCE_SCHEMA.names}
            table = pa.table(columns, schema=REFERENCE_SCHEMA)
            pq.write_table(table, partial / "clips.parquet")
            whole = np.concatenate([np.empty((0, EMBEDDING), np.float32), *stills])
            np.save(partial / "stills.npy", whole)
    progress(total, total)
    clips = frames_of([pq.read_table(folder / "clips.parquet")])
    return Served(clips, np.load(folder / "stills.npy", allow_pickle=False))


def _key(pool: Pool, policy: Path, ladder: Mapping[str, Path]) -> str:
    code = hashlib.sha256()
    rooms = Path(__file__).resolve().parents[1]
    for path in (*sorted((rooms / "scenes").glob("*.py")), Path(__file__)):
        code.update(path.read_bytes())
    weights = [sha256_file(path) for path in (policy, *ladder.values())]
    facts = json.dumps([pool.__dict__, weights, code.hexdigest()])
    return f"{pool.condition}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


class _Worker:
    """What a process opens once."""

    policy: Policy
    ladder: Mapping[str, Rung]


def _start(policy: Path, ladder: Mapping[str, Path]) -> None:
    cv2.setNumThreads(1)
    config = InferenceConfig(threads=1)
    _Worker.policy = Policy(policy)
    _Worker.ladder = {rung: open_rung(rung, path, config) for rung, path in ladder.items()}


def _clips(job: tuple[Pool, int, int]) -> list[dict[str, Any]]:
    pool, start, end = job
    return [row for index in range(start, end) for row in _clip(pool, index)]


def _clip(pool: Pool, index: int) -> list[dict[str, Any]]:
    world = World((pool.seed, 2, index), pool.condition, WIDTH, HEIGHT, moving=True, fps=FPS)
    rng = np.random.default_rng((pool.seed, 3, index))
    router = FrameRouter(_Worker.policy)
    rows = []
    for number, scene in enumerate(world.frames(pool.clip_frames)):
        rung = router.route(scene.image).model
        found = _Worker.ladder[rung].detect(scene.image).detections
        router.remember(rung, found, scene.image.shape)
        agreed = None
        if rung != LADDER[-1] and rng.random() < pool.shadow_share:
            shadow = _Worker.ladder[LADDER[-1]].detect(scene.image).detections
            agreed = agreement(found, shadow)
        seen = router.seen
        rows.append(
            {
                "time": float(number),
                "session": f"{pool.condition} {index:05d}",
                "policy_revision": _Worker.policy.revision,
                "latency_weight": router.latency_weight,
                "answered_by": rung,
                "scores": found.scores,
                "labels": found.labels,
                "agreement": agreed,
                "embedding": None if seen is None else embed(seen[None, FRAME_SLICE])[0],
                "held_out": True,
                **seen_statistics(seen),
                **pixel_statistics(scene.image),
            }
        )
    return rows


def _stills(job: tuple[Pool, int, int]) -> NDArray[np.float32]:
    pool, start, end = job
    seen = []
    for index in range(start, end):
        seed = (pool.seed, 4, index)
        world = World(seed, pool.condition, WIDTH, HEIGHT, moving=False)
        seen.append(frame_features(next(world.frames(1)).image))
    return embed(np.stack(seen))
