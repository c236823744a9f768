"""How fast the data stages are, what an unchanged run and a kill cost, and how both grow.

The pictures of a large set are hard links to a few hundred distinct ones; the facts of the pixels
are known beforehand, so that a small and a large set differ in their number of images alone.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import psutil
from pydantic import Field

from components.data.shards.acquire import AcquireConfig, acquire
from components.data.shards.blocks import blocks_in
from components.data.shards.prepare import (
    DATASET,
    OBSERVATIONS,
    SPLIT,
    PrepareConfig,
    StageOptions,
    prepare,
)
from components.data.shards.stages import convert_blocks, observe_blocks, validate_blocks
from components.data.validate import ValidateConfig
from components.parallel import Progress, no_progress, worker_count
from components.profiling.machine import machine_facts
from components.scenes.writer import ScenesConfig, write_scenes
from feature_transformer.image import read_frame
from foundation.configuration import configuration
from foundation.storage import sha256_file

_WATCH_SECONDS = 0.05
_STAGES = ("acquire", "validate", "anomalies", "convert", "observe")
_OPTIONS = StageOptions(validate=ValidateConfig(min_images=1))


@configuration
class BenchDataConfig:
    """What is measured.

    Attributes:
        images: pictures whose observing and converting is timed.
        width: of them, pixels.
        height: of them, pixels.
        distinct: different pictures; the others are hard links to them.
        small: images of the smaller set by which growth is judged; 0 leaves growth out.
        large: images of the larger one.
        scale_width: width of both sets' pictures, pixels; the height is three quarters of it.
        kills: runs that are killed at a random moment and gone on with.
        kill_images: images of such a run.
        block: images of a block.
        shards: processes; 0 is one per core.
        seed: of the pictures and of the moments.
    """

    images: Annotated[int, Field(ge=1, le=10**9)] = 2000
    width: int = 640
    height: int = 480
    distinct: Annotated[int, Field(ge=1, le=10**9)] = 200
    small: Annotated[int, Field(ge=0, le=10**9)] = 1000
    large: Annotated[int, Field(ge=0, le=10**9)] = 10_000
    scale_width: Annotated[int, Field(ge=1, le=10**9)] = 64
    kills: Annotated[int, Field(ge=0, le=10**9)] = 5
    kill_images: Annotated[int, Field(ge=1, le=10**9)] = 400
    block: Annotated[int, Field(ge=1, le=10**9)] = 500
    shards: Annotated[int, Field(ge=0, le=10**9)] = 0
    seed: int = 0


@dataclass(frozen=True)
class SpeedResult:
    """Images a second.

    Attributes:
        images: how many were worked on.
        decode_per_s: bare JPEG decoding, by as many threads as cores.
        observe_convert_per_s: both stages, decoding included.
        share_of_decode: the second over the first.
    """

    images: int
    decode_per_s: float
    observe_convert_per_s: float
    share_of_decode: float


@dataclass(frozen=True)
class ScaleRow:
    """All stages on one set.

    Attributes:
        images: of the set.
        seconds: of the first run.
        unchanged_seconds: of a second run, nothing being changed.
        peak_mb: memory of all processes together, at most.
        largest_mb: memory of the largest process, at most.
    """

    images: int
    seconds: float
    unchanged_seconds: float
    peak_mb: float
    largest_mb: float


@dataclass(frozen=True)
class ScaleResult:
    """How time and memory grow.

    Attributes:
        rows: the smaller and the larger set.
        time_growth: seconds per image of the larger set over those of the smaller.
        memory_growth: likewise of the peak memory of all processes.
        unchanged_share: seconds of an unchanged run of the larger set over those of the first.
        same_bytes: whether one process and several wrote the same files of the smaller set.
    """

    rows: tuple[ScaleRow, ...]
    time_growth: float
    memory_growth: float
    unchanged_share: float
    same_bytes: bool


@dataclass(frozen=True)
class KillResult:
    """What killed runs cost.

    Attributes:
        kills: runs killed.
        lost: runs whose result, after going on, was not that of an undisturbed one.
        most_repeated: blocks of one stage, at most, that were begun before a kill and made after.
        blocks: blocks of the set.
    """

    kills: int
    lost: int
    most_repeated: int
    blocks: int


@dataclass(frozen=True)
class DataBench:
    """Everything that was measured, and where."""

    speed: SpeedResult
    scale: ScaleResult | None
    kills: KillResult | None
    machine: dict[str, str | int] = field(default_factory=dict)
    load: tuple[float, ...] = ()


def bench_data(
    config: BenchDataConfig | None = None, out: Path | None = None, progress: Progress = no_progress
) -> DataBench:
    """Measure the data stages on rendered scenes.

    Args:
        config: what is measured.
        out: folder for what is made meanwhile; removed afterwards. A temporary one without it.
        progress: called with measurements done and in all.

    Raises:
        StorageError: the disk is full.
    """
    config = config or BenchDataConfig()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="gearshift-bench-data-", dir=out) as place:
        folder = Path(place)
        speed = measure_speed(config, folder / "speed")
        progress(1, 3)
        scale = measure_scale(config, folder / "scale") if config.small and config.large else None
        progress(2, 3)
        kills = measure_kills(config, folder / "kills") if config.kills else None
        progress(3, 3)
    return DataBench(speed, scale, kills, machine_facts(), load)


def measure_speed(config: BenchDataConfig, folder: Path) -> SpeedResult:
    """Time observe and convert of a shard, and bare decoding of the same files around it."""
    source = write_source(folder / "source", config.images, config.width, config.height, config)
    cut = AcquireConfig(block=config.block, cache=str(folder / "cache"))
    acquire(str(source), folder / "acquire", cut)
    validate_blocks(folder / "acquire", folder / "validate", cut)
    files = sorted((source / "images").glob("*.jpg"))

    def decode() -> None:
        def one(file: Path) -> None:
            cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)

        with ThreadPoolExecutor(worker_count(0)) as pool:
            list(pool.map(one, files))

    def stages() -> None:
        observe_blocks(folder / "validate", folder / f"observe-{time.time_ns()}")
        convert_blocks(folder / "validate", folder / f"convert-{time.time_ns()}")

    # Interleaved, so that what else the machine does slows both alike; the best of each counts.
    best = {decode: float("inf"), stages: float("inf")}
    for _ in range(3):
        for work in best:
            best[work] = min(best[work], _seconds(work))
    shutil.rmtree(folder)
    bare, ours = (len(files) / best[work] for work in (decode, stages))
    return SpeedResult(len(files), round(bare, 1), round(ours, 1), round(ours / bare, 3))


def measure_scale(config: BenchDataConfig, folder: Path) -> ScaleResult:
    """Run all stages on a small and on a large set."""
    side = config.scale_width
    rows: list[ScaleRow] = []
    outs: list[Path] = []
    cache = str(folder / "cache")
    for count in (config.small, config.large):
        source = write_source(folder / f"source-{count}", count, side, side * 3 // 4, config)
        if not rows:  # what is known of the pixels of the pictures is the same for both
            warm = PrepareConfig(block=config.block, cache=cache, shards=1)
            prepare(str(source), folder / "warm", warm, _OPTIONS)
        out = folder / f"out-{count}"
        run = PrepareConfig(block=config.block, cache=cache, shards=config.shards)
        # Cutting the annotations is part of a first run.
        shutil.rmtree(folder / "cache" / "plans")
        with watched_memory() as memory:
            seconds = _seconds(partial(prepare, str(source), out, run, _OPTIONS))
        unchanged = _seconds(partial(prepare, str(source), out, run, _OPTIONS))
        rows.append(
            ScaleRow(
                images=count,
                seconds=round(seconds, 2),
                unchanged_seconds=round(unchanged, 2),
                peak_mb=round(memory["together"] / 1e6, 1),
                largest_mb=round(memory["largest"] / 1e6, 1),
            )
        )
        outs.append(out)
    small, large = rows
    same = digests(folder / "warm") == digests(outs[0])
    shutil.rmtree(folder)
    return ScaleResult(
        rows=tuple(rows),
        time_growth=round(large.seconds / large.images / (small.seconds / small.images), 3),
        memory_growth=round(large.peak_mb / small.peak_mb, 3),
        unchanged_share=round(large.unchanged_seconds / large.seconds, 4),
        same_bytes=same,
    )


def measure_kills(config: BenchDataConfig, folder: Path) -> KillResult:
    """Kill runs at random moments, go on, and compare with a run that nothing disturbed."""
    side = config.scale_width
    source = write_source(folder / "source", config.kill_images, side, side * 3 // 4, config)
    block = max(1, config.kill_images // 8)
    run = PrepareConfig(block=block, cache=str(folder / "cache"), shards=1)
    begun = time.monotonic()
    prepare(str(source), folder / "whole", run, _OPTIONS)
    longest = time.monotonic() - begun
    wanted = digests(folder / "whole")
    moments = random.Random(config.seed)
    context = multiprocessing.get_context("spawn")
    lost = most = blocks = 0
    for number in range(config.kills):
        out = folder / f"killed-{number}"
        process = context.Process(target=prepare, args=(str(source), out, run, _OPTIONS))
        process.start()
        first = out / "work"
        while process.is_alive() and not first.exists():
            time.sleep(0.002)
        time.sleep(moments.uniform(0, longest))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        whole = {stage: len(blocks_in([out / "work" / stage])) for stage in _STAGES}
        begun_blocks = {stage: _begun(out / "work" / stage) for stage in _STAGES}
        summary = prepare(str(source), out, run, _OPTIONS)
        blocks = summary.blocks
        for stage in _STAGES:
            # What was whole stays; of what was begun and not whole, at most one is made again.
            lost += summary.made[stage] > blocks - whole[stage]
            most = max(most, begun_blocks[stage])
        lost += digests(out) != wanted
        shutil.rmtree(out)
    return KillResult(config.kills, lost, most, blocks)


def _begun(folder: Path) -> int:
    """Results of blocks that are there, whole or partial, without a stamp."""
    stamped = {block.name for block in blocks_in([folder])}
    names = {path.name.lstrip(".")[:6] for path in folder.glob("*") if path.suffix != ".stamp"}
    return len({name for name in names if name.isdecimal()} - stamped)


def write_source(
    folder: Path, images: int, width: int, height: int, config: BenchDataConfig
) -> Path:
    """Write a COCO folder of so many images, hard links to some distinct rendered scenes."""
    distinct = min(config.distinct, images)
    scenes = ScenesConfig(frames=distinct, width=max(width, 128), height=max(height, 96))
    with tempfile.TemporaryDirectory(dir=folder.parent if folder.parent.exists() else None) as one:
        write_scenes(scenes, Path(one) / "scenes")
        payload = json.loads((Path(one) / "scenes/annotations.json").read_bytes())
        (folder / "images").mkdir(parents=True)
        boxes: dict[int, list[dict[str, Any]]] = {}
        for row in payload["annotations"]:
            boxes.setdefault(row["image_id"], []).append(row)
        kept: list[Path] = []
        for record in payload["images"]:
            frame = read_frame(Path(one) / "scenes/images" / record["file_name"])
            kept.append(folder / "images" / f"{len(kept):07d}.jpg")
            small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(kept[-1]), small)
    scale = width / scenes.width, height / scenes.height
    with (folder / "annotations.json").open("w", encoding="utf-8") as stream:
        stream.write(f'{{"categories": {json.dumps(payload["categories"])}, "images": [')
        for number in range(images):
            name = f"{number:07d}.jpg"
            if number >= distinct:
                os.link(kept[number % distinct], folder / "images" / name)
            record = {"id": number + 1, "file_name": name, "width": width, "height": height}
            stream.write((", " if number else "") + json.dumps(record))
        stream.write('], "annotations": [')
        written = 0
        for number in range(images):
            for row in boxes.get(payload["images"][number % distinct]["id"], ()):
                x, y, wide, high = row["bbox"]
                box = [x * scale[0], y * scale[1], wide * scale[0], high * scale[1]]
                written += 1
                one_box = {
                    "id": written,
                    "image_id": number + 1,
                    "category_id": row["category_id"],
                    "bbox": box,
                }
                stream.write((", " if written > 1 else "") + json.dumps(one_box))
        stream.write("]}\n")
    return folder


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every file that ``prepare`` left for its user, by path."""
    kept = (DATASET, "yolo", "report", SPLIT, OBSERVATIONS)
    return {
        path.relative_to(out).as_posix(): sha256_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] in kept
    }


@contextmanager
def watched_memory() -> Iterator[dict[str, int]]:
    """Peak resident memory of the processes that start meanwhile, together and of the largest."""
    peaks = {"together": 0, "largest": 0}
    ended = threading.Event()
    me = psutil.Process()

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS):
            sizes = []
            for process in me.children(recursive=True):
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.Error:
                    continue
            peaks["together"] = max(peaks["together"], sum(sizes))
            peaks["largest"] = max(peaks["largest"], max(sizes, default=0))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
