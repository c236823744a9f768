"""A batch run: every frame of a source routed and detected, at the detectors' full speed.

Images are decided without context, as stills are. The frames of a video are decided in chunks of
one batch: all frames of a chunk have the last look of the chunk before as their context, so that
whole batches reach each rung. The context begins anew with each part, so a run that is resumed
writes the same as one that is not.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.batch.detect import BatchFrame, Decider, DetectorPool
from components.batch.results import ResultFolder, Unit, units_of
from components.batch.sources import BatchSource, SourceEntry, open_source
from components.parallel import ordered_map, worker_count
from components.profiling.rungs import InferenceConfig
from feature_transformer.image import DecodeLimits, Frame, decode
from feature_transformer.makers import DETECTION
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, GearshiftError, Unavailable, VideoError
from foundation.storage import sha256_file
from inference_graph.contract import LADDER, Answer
from inference_graph.detections import CONFIDENCE, DetectionFilter, read_classes
from inference_graph.local_video.files import Shown, Video, opened
from inference_graph.router import FrameRouter
from inference_graph.tasks.rung import task_of

Progress = Callable[[int, int | None], None]

_CPU = "CPUExecutionProvider"
_AHEAD = 2
"""Batches that wait while every worker has one."""


@configuration
class BatchConfig:
    """How a batch run works.

    Attributes:
        latency_weight: the operating point; the policy's own without it.
        always: use this rung for every frame and ask no policy.
        confidence: detections below this score are left out, 0..1.
        classes: names of the classes to keep, separated by commas; all without it.
        batch: frames that a rung gets at a time. Frames of a video whose decisions share one
            context, too.
        part_frames: frames of a file of results at most; what a kill costs.
        shard: do the I-th of N equal shares only, as I/N, so that several machines share a run.
        iou: overlap above which the weaker of two boxes of a class is dropped, 0..1.
        max_detections: at most so many per frame.
        workers: inferences at the same time; 0 for one per core.
        providers: ONNX Runtime execution providers, the preferred one first.
    """

    latency_weight: float | None = None
    always: str | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] = CONFIDENCE
    classes: str = ""
    batch: Annotated[int, Field(ge=1, le=1024)] = 8
    part_frames: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    shard: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,5}/[1-9][0-9]{0,5})?$")] = ""
    iou: Annotated[float, Field(ge=0, le=1)] = InferenceConfig.iou
    max_detections: Annotated[int, Field(ge=1)] = InferenceConfig.max_detections
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    providers: tuple[str, ...] = (_CPU,)

    def __post_init__(self) -> None:
        """Refuse an unknown rung and a share that is none.

        Raises:
            ConfigurationError: names it.
        """
        if self.always is not None and self.always not in LADDER:
            raise ConfigurationError(f"always {self.always!r} is none of {', '.join(LADDER)}")
        if self.share[0] > self.share[1]:
            raise ConfigurationError(f"shard is {self.shard}; give I/N with I from 1 to N")

    @property
    def share(self) -> tuple[int, int]:
        """Which share of how many."""
        first, _, count = (self.shard or "1/1").partition("/")
        return int(first), int(count)


@dataclass(frozen=True)
class BatchSummary:
    """What is in the folder of the results.

    Attributes:
        frames: frames with an answer.
        errors: images without one, and videos that broke off.
        lost: frames of videos that could not be read.
        detections: objects in all answers.
        shares: share of the frames that each rung answered, 0..1.
        frames_now: frames that this run answered; the others were there.
        seconds: from the first of them to the last.
        frames_per_second: of this run.
        out: the folder.
    """

    frames: int
    errors: int
    lost: int
    detections: int
    shares: Mapping[str, float]
    frames_now: int
    seconds: float
    frames_per_second: float
    out: Path


def run_batch(
    source: str,
    policy: Path | None,
    ladder: Mapping[str, Path],
    out: Path,
    config: BatchConfig | None = None,
    progress: Progress = lambda done, total: None,
) -> BatchSummary:
    """Answer every frame of a source that has no answer in ``out`` yet.

    An image that cannot be decoded gets a record with the reason, and so does a video.

    Args:
        source: see :func:`components.batch.sources.open_source`.
        policy: the policy's ONNX file; may be None when ``config.always`` fixes the rung.
        ladder: ONNX file of every rung.
        out: folder of the results; a run that was killed goes on in it.
        config: how to work.
        progress: called with files done and in all; with frames, where the source is one video.

    Raises:
        InvalidInput: there is no such source, or it holds no image and no video.
        ConfigurationError: no policy where one is needed, or ``out`` holds results of another run.
        ModelError: policy or weights cannot be used.
        Unavailable: a bucket does not answer; what is done stays.
        StorageError: the results cannot be written.
    """
    config = config or BatchConfig()
    task = task_of(ladder[LADDER[0]]) if LADDER[0] in ladder else DETECTION
    decider = Decider(policy, config.always, config.latency_weight, task)
    found = open_source(source)
    on_cpu = config.providers[:1] == (_CPU,)
    inference = InferenceConfig(
        iou=config.iou, max_detections=config.max_detections, threads=1, providers=config.providers
    )
    workers = worker_count(config.workers) if on_cpu or config.workers else 1
    pool = DetectorPool(ladder, decider.rungs, inference, workers)
    results = ResultFolder(out, _plan(found, policy, pool, config))
    number, count = config.share
    units = units_of(found.entries, config.part_frames)[number - 1 :: count]
    with pool:
        run = _Run(found, decider, pool, results, config, progress)
        start = time.perf_counter()
        run.answer([one for one in units if not results.is_done(one)], len(units))
        seconds = time.perf_counter() - start
    counts = results.counts()
    frames = sum(counts[rung] for rung in LADDER)
    return BatchSummary(
        frames=frames,
        errors=counts["error"],
        lost=counts["lost"],
        detections=counts["detections"],
        shares={rung: counts[rung] / max(frames, 1) for rung in LADDER},
        frames_now=run.frames,
        seconds=seconds,
        frames_per_second=run.frames / max(seconds, 1e-9),
        out=out,
    )


def _plan(
    source: BatchSource, policy: Path | None, pool: DetectorPool, config: BatchConfig
) -> dict[str, Any]:
    """What determines the results; how fast they come does not."""
    options = asdict(config)
    for name in ("shard", "workers", "providers"):
        del options[name]
    asked = policy if config.always is None else None
    return {
        "source_sha256": source.fingerprint,
        "policy_sha256": sha256_file(asked) if asked is not None else "",
        "weights_sha256": {rung: one.sha256 for rung, one in pool.detectors.items()},
        "options": options,
    }


class _Run:
    """The frames of a run, on their way.

    Attributes:
        frames: answered so far.
    """

    def __init__(
        self,
        source: BatchSource,
        decider: Decider,
        pool: DetectorPool,
        results: ResultFolder,
        config: BatchConfig,
        progress: Progress,
    ) -> None:
        self.frames = 0
        self._source, self._decider, self._pool = source, decider, pool
        self._results, self._config, self._progress = results, config, progress
        known = next(iter(pool.detectors.values())).class_names
        self._wanted = DetectionFilter(config.confidence, read_classes(config.classes, known))
        self._limits = DecodeLimits()
        self._router: FrameRouter | None = None
        self._running: deque[Future[Any]] = deque()
        self._files = self._files_done = 0

    def answer(self, units: Sequence[Unit], of: int) -> None:
        """Answer units, those of images first.

        Args:
            units: those that are left.
            of: how many there are with those that were done before.
        """
        self._files = sum(len(one.entries) for one in units)
        self._images([one for one in units if not one.is_video])
        videos = [one for one in units if one.is_video]
        with ThreadPoolExecutor(1, "batch-read") as reader:
            for one in videos:
                self._video(one, reader, alone=of == 1)

    def _images(self, units: Sequence[Unit]) -> None:
        router = self._decider.router()
        waiting: dict[str, list[BatchFrame]] = {rung: [] for rung in LADDER}
        opened_units: deque[tuple[Unit, list[dict[str, Any] | None]]] = deque()
        jobs = ((unit, place) for unit in units for place in range(len(unit.entries)))
        loads = ordered_map(lambda job: (*job, self._load(job[0].entries[job[1]])), jobs)
        for unit, place, loaded in loads:
            if place == 0:
                opened_units.append((unit, [None] * len(unit.entries)))
            name, slots = unit.entries[place].name, opened_units[-1][1]
            if isinstance(loaded, GearshiftError):
                slots[place] = _problem(name, 0, loaded)
            else:
                route = self._decider.route(router, loaded)
                settle = _into(slots, place)
                batch = waiting[route.model]
                batch.append(BatchFrame(name, 0, 0.0, loaded, route, settle))
                if len(batch) == self._config.batch:
                    self._submit(route.model, batch)
            self._collect(_AHEAD + self._pool.workers)
            self._write(opened_units)
        for rung, batch in waiting.items():
            self._submit(rung, batch)
        self._collect(0)
        self._write(opened_units)

    def _load(self, entry: SourceEntry) -> Frame | GearshiftError:
        try:
            return decode(self._source.read(entry, self._limits.max_bytes), self._limits)
        except Unavailable:
            raise
        except GearshiftError as error:
            return error

    def _submit(self, rung: str, batch: list[BatchFrame]) -> None:
        """Have a batch detected, and empty its list."""
        if batch:
            self._running.append(self._pool.submit(partial(self._detect, rung, list(batch))))
            batch.clear()

    def _detect(self, rung: str, frames: Sequence[BatchFrame]) -> list[Answer]:
        return self._pool.detect(rung, frames, self._wanted, self._decider.revision)

    def _collect(self, most: int) -> None:
        """Wait until at most so many batches run; raises what broke one."""
        while self._running and (len(self._running) > most or self._running[0].done()):
            self.frames += len(self._running.popleft().result())

    def _write(self, units: deque[tuple[Unit, list[dict[str, Any] | None]]]) -> None:
        """Write the parts whose images are all settled, in order."""
        while units and None not in units[0][1]:
            unit, slots = units.popleft()
            self._results.write(unit, 0, [one for one in slots if one is not None])
            self._moved(len(slots))

    def _moved(self, files: int) -> None:
        self._files_done += files
        self._progress(self._files_done, self._files)

    def _video(self, unit: Unit, reader: ThreadPoolExecutor, alone: bool) -> None:
        entry, size = unit.entries[0], self._config.part_frames
        part = self._results.parts_done(unit, size)
        number, lost = part * size, 0
        records: list[dict[str, Any]] = []
        try:
            with (
                self._source.local_file(entry) as path,
                opened(str(path)) as film,
                contextlib.closing(self._chunks(film, part * size, reader)) as chunks,
            ):
                for chunk in chunks:
                    records = self._chunk(entry.name, number, chunk, records)
                    number += len(chunk)
                    if number % size == 0:
                        self._results.write(unit, part, records)
                        part, records = part + 1, []
                    if alone:
                        self._progress(number, film.expected)
                lost = film.lost
        except VideoError as error:
            records.append(_problem(entry.name, number, error))
        if records:
            self._results.write(unit, part, records)
        self._results.end(unit, number, lost)
        if not alone:
            self._moved(1)

    def _chunks(
        self, film: Video, done: int, reader: ThreadPoolExecutor
    ) -> Generator[list[Shown], None, None]:
        """Frames after those that are done, a batch at a time and never over the end of a part."""
        frames = film.frames()
        for _ in itertools.islice(frames, done):
            pass
        sizes = itertools.cycle(
            [
                min(self._config.batch, self._config.part_frames - at)
                for at in range(0, self._config.part_frames, self._config.batch)
            ]
        )

        def read_next() -> list[Shown]:
            return list(itertools.islice(frames, next(sizes)))

        coming = reader.submit(read_next)
        try:
            while chunk := coming.result():
                coming = reader.submit(read_next)
                yield chunk
        finally:
            coming.exception()  # no reader is left once the video is closed

    def _chunk(
        self, name: str, first: int, chunk: Sequence[Shown], before: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Records of a part with those of a further chunk; a part begins without context."""
        if not before:
            self._router = self._decider.router()
        slots: list[dict[str, Any] | None] = [None] * len(chunk)
        by_rung: dict[str, list[BatchFrame]] = {rung: [] for rung in LADDER}
        for place, shown in enumerate(chunk):
            route = self._decider.route(self._router, shown.frame)
            settle = _into(slots, place)
            by_rung[route.model].append(
                BatchFrame(name, first + place, shown.seconds, shown.frame, route, settle)
            )
        last = chunk[-1].frame
        answers: dict[int, Answer] = {}
        running = []
        for rung, frames in by_rung.items():
            # No worker waits while another one has the whole batch.
            step = max(-(-len(frames) // self._pool.workers), 1)
            for at in range(0, len(frames), step):
                group = frames[at : at + step]
                running.append((group, self._pool.submit(partial(self._detect, rung, group))))
        for group, detected in running:
            for one, answer in zip(group, detected.result(), strict=True):
                answers[one.number] = answer
                self.frames += 1
        if self._router is not None:
            seen = answers[first + len(chunk) - 1]
            self._router.remember(seen.rung, seen.detections, last.shape)
        return [*before, *(one for one in slots if one is not None)]


def _into(slots: list[dict[str, Any] | None], place: int) -> Callable[[dict[str, Any]], None]:
    def settle(record: dict[str, Any]) -> None:
        slots[place] = record

    return settle


def _problem(name: str, frame: int, error: GearshiftError) -> dict[str, Any]:
    return {
        "type": "error",
        "source": name,
        "frame": frame,
        "status": error.http_status,
        "detail": str(error),
    }
