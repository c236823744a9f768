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
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cv2
import numpy as np
from pydantic import Field

from components.bench.watched_processes import watched
from components.data.shards.acquire import AcquireConfig, acquire
from components.data.shards.blocks import blocks_in, key_of
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
from foundation.result_marks import MARK
from foundation.storage import atomic_path, sha256_file

_TURNS = 3
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
    """Images a second, and shares of bare decoding in the same run.

    Attributes:
        images: how many were worked on.
        decode_per_s: bare JPEG decoding, by as many threads as cores.
        observe_convert_per_s: observe and convert of validated blocks.
        share_of_decode: the second over the first.
        cpu_share_of_decode: the same by processor time, which other work on the machine leaves as
            it is.
        validate_observe_convert_per_s: validate, too, nothing being known of the pictures; it
            decodes each once, for itself and for observe.
        with_validate_share_of_decode: this over bare decoding.
    """

    images: int
    decode_per_s: float
    observe_convert_per_s: float
    share_of_decode: float
    cpu_share_of_decode: float
    validate_observe_convert_per_s: float
    with_validate_share_of_decode: float


@dataclass(frozen=True)
class ScaleRow:
    """All stages on one set.

    Attributes:
        images: of the set.
        seconds: of the first run.
        cpu_seconds: likewise, processor time of all processes.
        unchanged_seconds: of a second run, nothing being changed.
        peak_mb: memory of all processes together, at most.
        largest_mb: memory of the largest process, at most.
        same_bytes: whether one process and several wrote the same files; None where not compared.
    """

    images: int
    seconds: float
    cpu_seconds: float
    unchanged_seconds: float
    peak_mb: float
    largest_mb: float
    same_bytes: bool | None = None


@dataclass(frozen=True)
class ScaleResult:
    """How time and memory grow.

    Attributes:
        rows: the smaller and the larger set.
        time_growth: seconds per image of the larger set over those of the smaller.
        cpu_growth: likewise of the processor time.
        memory_growth: likewise of the peak memory of all processes.
        largest_growth: likewise of the largest process's.
        unchanged_share: seconds of an unchanged run of the larger set over those of the first.
        same_bytes: whether one process and several wrote the same files of the smaller set.
    """

    rows: tuple[ScaleRow, ...]
    time_growth: float
    cpu_growth: float
    memory_growth: float
    largest_growth: float
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
    config: BenchDataConfig | None = None,
    out: Path | None = None,
    progress: Progress = no_progress,
    code: str = "",
) -> DataBench:
    """Measure the data stages on rendered scenes.

    Args:
        config: what is measured.
        out: folder for what is made meanwhile. Each measurement is kept in its file
            ``measured.json`` until all are there, so that a run that was ended goes on. A
            temporary folder without it.
        progress: called with measurements done and in all.
        code: version of the code that runs; measurements of another one are made anew.

    Raises:
        StorageError: the disk is full.
    """
    config = config or BenchDataConfig()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gearshift-bench-data-", dir=out) as place:
        folder = Path(place)
        scaled = (config.small, config.large) if config.small and config.large else ()
        kept = _Measured(
            (out or folder) / "measured.json",
            key_of(code, json.dumps(asdict(config))),
            lambda done: progress(done, 1 + len(scaled) + config.kills),
        )
        speed = kept.once("speed", SpeedResult, lambda: measure_speed(config, folder / "speed"))
        rows = [
            kept.once(
                f"scale {count}",
                ScaleRow,
                partial(measure_scale, config, folder / "scale", count, count == config.small),
            )
            for count in scaled
        ]
        kills = KillBench(config, folder / "kills")
        killed = [
            kept.once(f"kill {number}", KillResult, partial(kills.measure, number))
            for number in range(config.kills)
        ]
        result = DataBench(
            speed=speed,
            scale=_growth(*rows) if rows else None,
            kills=_all_kills(killed) if killed else None,
            machine=machine_facts(),
            load=os.getloadavg(),
        )
        kept.file.unlink()
    return result


_Result = TypeVar("_Result", SpeedResult, ScaleRow, KillResult)


class _Measured:
    """Measurements kept in a file as they come."""

    def __init__(self, file: Path, key: str, progress: Callable[[int], None]) -> None:
        self.file, self._key, self._progress = file, key, progress
        self._done = 0
        self._values: dict[str, Any] = {}
        if file.is_file():
            kept = json.loads(file.read_text(encoding="utf-8"))
            self._values = kept["values"] if kept["key"] == key else {}

    def once(self, name: str, kind: type[_Result], measure: Callable[[], _Result]) -> _Result:
        """A measurement as it was kept, or made now."""
        if name not in self._values:
            self._values[name] = asdict(measure())
            with atomic_path(self.file) as partial_file:
                content = {"key": self._key, "values": self._values}
                partial_file.write_text(json.dumps(content), encoding="utf-8")
        self._done += 1
        self._progress(self._done)
        return kind(**self._values[name])


def measure_speed(config: BenchDataConfig, folder: Path) -> SpeedResult:
    """Time observe and convert of a shard, and bare decoding of the same files around it."""
    source = write_source(folder / "source", config.images, config.width, config.height, config)
    _make_distinct(source)
    cut = AcquireConfig(block=config.block, cache=str(folder / "cache"))
    acquire(str(source), folder / "acquire", cut)
    files = sorted((source / "images").glob("*.jpg"))

    def decode(turn: int) -> None:
        def one(file: Path) -> None:
            cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)

        with ThreadPoolExecutor(worker_count(0)) as pool:
            list(pool.map(one, files))

    def validate(turn: int) -> None:
        fresh = replace(cut, cache=str(folder / f"cache-{turn}"))
        validate_blocks(folder / "acquire", folder / f"validate-{turn}", fresh)

    def stages(turn: int) -> None:
        observe_blocks(folder / f"validate-{turn}", folder / f"observe-{turn}")
        convert_blocks(folder / f"validate-{turn}", folder / f"convert-{turn}")

    # Interleaved, so that what else the machine does slows all alike; the best of each counts.
    best: dict[Callable[[int], None], tuple[float, float]]
    best = {work: (float("inf"), float("inf")) for work in (decode, validate, stages)}
    for turn in range(_TURNS):
        for work, (seconds, cpu) in best.items():
            with watched() as took:
                work(turn)
            best[work] = min(seconds, took.seconds), min(cpu, took.cpu_seconds)
    shutil.rmtree(folder)
    bare, ours, checked = best[decode], best[stages], best[validate]
    count = len(files)
    whole = checked[0] + ours[0]
    return SpeedResult(
        images=count,
        decode_per_s=round(count / bare[0], 1),
        observe_convert_per_s=round(count / ours[0], 1),
        share_of_decode=round(bare[0] / ours[0], 3),
        cpu_share_of_decode=round(bare[1] / max(ours[1], 1e-9), 3),
        validate_observe_convert_per_s=round(count / whole, 1),
        with_validate_share_of_decode=round(bare[0] / whole, 3),
    )


def measure_scale(config: BenchDataConfig, folder: Path, count: int, compare: bool) -> ScaleRow:
    """Run all stages on a set of so many images, and once more with nothing changed.

    What is known of the pixels of its distinct pictures is known beforehand.

    Args:
        config: what is measured.
        folder: for what is made meanwhile.
        count: images.
        compare: whether one process has to write the same files.
    """
    side = config.scale_width
    source = write_source(folder / "source", count, side, side * 3 // 4, config)
    run = PrepareConfig(block=config.block, cache=str(folder / "cache"), shards=config.shards)
    alone = replace(run, shards=1)
    if compare:
        prepare(str(source), folder / "alone", alone, _OPTIONS)
    else:
        known = write_source(folder / "known", config.distinct, side, side * 3 // 4, config)
        prepare(str(known), folder / "alone", alone, _OPTIONS)
    # Cutting the annotations is part of a first run.
    shutil.rmtree(folder / "cache" / "plans")
    with watched() as took:
        prepare(str(source), folder / "out", run, _OPTIONS)
    with watched() as again:
        prepare(str(source), folder / "out", run, _OPTIONS)
    same = digests(folder / "alone") == digests(folder / "out") if compare else None
    shutil.rmtree(folder)
    return ScaleRow(
        images=count,
        seconds=round(took.seconds, 2),
        cpu_seconds=round(took.cpu_seconds, 2),
        unchanged_seconds=round(again.seconds, 2),
        peak_mb=round(took.peak_bytes / 1e6, 1),
        largest_mb=round(took.largest_bytes / 1e6, 1),
        same_bytes=same,
    )


def _growth(small: ScaleRow, large: ScaleRow) -> ScaleResult:
    more = large.images / small.images
    return ScaleResult(
        rows=(small, large),
        time_growth=round(large.seconds / small.seconds / more, 3),
        cpu_growth=round(large.cpu_seconds / small.cpu_seconds / more, 3),
        memory_growth=round(large.peak_mb / small.peak_mb, 3),
        largest_growth=round(large.largest_mb / small.largest_mb, 3),
        unchanged_share=round(large.unchanged_seconds / large.seconds, 4),
        same_bytes=bool(small.same_bytes),
    )


class KillBench:
    """Runs that are killed at a random moment and gone on with."""

    def __init__(self, config: BenchDataConfig, folder: Path) -> None:
        """Do nothing yet."""
        self._config, self._folder = config, folder
        block = max(1, config.kill_images // 8)
        self._run = PrepareConfig(block=block, cache=str(folder / "cache"), shards=1)

    @cached_property
    def _undisturbed(self) -> tuple[str, float, dict[str, str]]:
        """The source, seconds of a run that nothing disturbs, and what it wrote."""
        side = self._config.scale_width
        folder = self._folder / "source"
        source = str(
            write_source(folder, self._config.kill_images, side, side * 3 // 4, self._config)
        )
        begun = time.monotonic()
        prepare(source, self._folder / "whole", self._run, _OPTIONS)
        return source, time.monotonic() - begun, digests(self._folder / "whole")

    def measure(self, number: int) -> KillResult:
        """Kill a run, go on with it, and compare with the undisturbed one."""
        source, longest, wanted = self._undisturbed
        out = self._folder / f"killed-{number}"
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=prepare, args=(source, out, self._run, _OPTIONS))
        process.start()
        while process.is_alive() and not (out / "work").exists():
            time.sleep(0.002)
        time.sleep(random.Random(f"{self._config.seed} {number}").uniform(0, longest))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        whole = {stage: len(blocks_in([out / "work" / stage])) for stage in _STAGES}
        most = max(_begun(out / "work" / stage) for stage in _STAGES)
        summary = prepare(source, out, self._run, _OPTIONS)
        # What was whole stays; of what was begun and not whole, at most one is made again.
        again = any(summary.made[stage] > summary.blocks - whole[stage] for stage in _STAGES)
        lost = int(again or digests(out) != wanted)
        shutil.rmtree(out)
        return KillResult(1, lost, most, summary.blocks)


def _all_kills(killed: Sequence[KillResult]) -> KillResult:
    return KillResult(
        kills=len(killed),
        lost=sum(one.lost for one in killed),
        most_repeated=max(one.most_repeated for one in killed),
        blocks=killed[0].blocks,
    )


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


def _make_distinct(source: Path) -> None:
    """Give each picture of a source bytes of its own: a comment before the pixels."""
    for number, file in enumerate(sorted((source / "images").glob("*.jpg"))):
        content = file.read_bytes()
        file.unlink()  # the other names of the file keep theirs
        file.write_bytes(content[:2] + b"\xff\xfe\x00\x0a%08d" % number + content[2:])


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every file that ``prepare`` left for its user, by path."""
    kept = (DATASET, "yolo", "report", SPLIT, OBSERVATIONS)
    return {
        path.relative_to(out).as_posix(): sha256_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != MARK and path.relative_to(out).parts[0] in kept
    }
