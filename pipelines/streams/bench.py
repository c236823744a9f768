"""The benchmark of the way through Kafka: what kills cost, how fast it is, what memory it takes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.bench.serving.clips import encoded_clips
from components.bench.serving.memory import resident_growth
from components.data.dataset import load_dataset
from components.profiling.machine import library_versions, machine_facts
from components.scenes.writer import ScenesConfig, write_scenes
from foundation.configuration import configuration
from foundation.errors import Unavailable
from inference_graph.clients.gateway import StreamClient, StreamOptions
from inference_graph.contract import LADDER
from inference_graph.control.embedded.platform import free_ports
from pipelines.streams.bench_batch import batch_speed
from pipelines.streams.bench_kills import CAMERAS, KINDS, TASK, count_kills
from pipelines.streams.clients import AnswerReader, FramePublisher
from pipelines.streams.local_broker import LocalBroker
from pipelines.streams.local_flink import is_installed, start_job
from pipelines.streams.worker_process import WorkerProcess

Progress = Callable[[int, int | None], None]
Bar = Callable[[str], AbstractContextManager[Progress]]

_PARTITIONS = 4
_ROUNDS = 5
_SILENT_SECONDS = 60.0
_PATIENT = StreamOptions(window=2, deadline_ms=10_000, track="off")
_WARM_FRAMES = 40
_SOAK_FRAMES = 500
"""Frames that are published at once while memory is watched."""


@configuration
class BenchStreamsConfig:
    """How much is measured.

    Attributes:
        kills: interruptions: a worker killed, the broker killed, a further worker that joins and
            leaves, and a task of Flink's killed, in turn.
        flink: have Flink prepare the frames of the kills, where its environment is installed.
        frames: frames that the gateway and the worker answer, for throughput.
        latency_frames: frames that are published one at a time, for the added milliseconds.
        soak_frames: frames during which the worker's memory is watched.
        batch_images: images of the batch run.
        seed: of the scenes.
    """

    kills: Annotated[int, Field(ge=0)] = 60
    flink: bool = True
    frames: Annotated[int, Field(ge=10)] = 2000
    latency_frames: Annotated[int, Field(ge=10)] = 300
    soak_frames: Annotated[int, Field(ge=0)] = 30_000
    batch_images: Annotated[int, Field(ge=0)] = 200
    seed: Annotated[int, Field(ge=0)] = 77


QUICK: Mapping[str, int] = {
    "kills": 3,
    "flink": False,
    "frames": 200,
    "latency_frames": 50,
    "soak_frames": 600,
    "batch_images": 20,
}
"""Options of a first look, which takes about a minute."""


@dataclass(frozen=True)
class BenchStreams:
    """What was measured; a part that was left out is None.

    Attributes:
        kills: interruptions.
        lost: frames without an answer or a dead letter that a reader with ``read_committed`` sees.
        dead_letters: frames that ended as dead letters, because no rung answered in time.
        doubled: answers and dead letters beyond the first of a frame, likewise.
        out_of_order: answers after that to a later frame of the same camera.
        doubled_in_log: rows of the prediction log beyond the first of an event id.
        missing_in_log: answers without a row.
        throughput_ratio: frames per second of a worker over those of a gateway that gets the same
            frames over WebSocket, in alternating rounds.
        added_ms: median, over frames published one at a time, of the time from publishing to
            reading the answer, minus the milliseconds that the answer itself states.
        memory_growth: resident memory of the worker over the last tenth of the frames over that
            of the second tenth, minus 1.
        batch_ratio: frames per second of ``gearshift batch`` over a folder of images, over those
            of the same detectors on decoded frames, in alternating rounds.
        detail: the figures behind, by part.
        machine: where it was measured.
    """

    throughput_ratio: float
    added_ms: float
    detail: Mapping[str, Any]
    machine: Mapping[str, Any]
    kills: int = 0
    lost: int | None = None
    dead_letters: int | None = None
    doubled: int | None = None
    out_of_order: int | None = None
    doubled_in_log: int | None = None
    missing_in_log: int | None = None
    memory_growth: float | None = None
    batch_ratio: float | None = None


def bench_streams(
    policy: Path | None, ladder: Mapping[str, Path], config: BenchStreamsConfig, bar: Bar
) -> BenchStreams:
    """Start a broker, workers and a gateway on this machine, and measure.

    Args:
        policy: the policy's ONNX file; every frame goes to the cheapest rung without it, where
            what Kafka costs weighs most.
        ladder: the ONNX file of each rung.
        config: how much is measured.
        bar: makes a progress bar with a label.

    Raises:
        ConfigurationError: Java or Maven is not installed.
        Unavailable: the broker, a worker or the gateway does not start or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="gearshift-bench-") as folder:
        place = Path(folder)
        images = _images(place / "scenes", config, bar)
        with contextlib.closing(free_ports()) as ports:
            broker = LocalBroker(place / "broker", (next(ports), next(ports)))
        decided: dict[str, Any] = {"rung": ladder, "policy": policy}
        if policy is None:
            decided = {"rung": {LADDER[0]: ladder[LADDER[0]]}, "always": LADDER[0]}
        with broker:
            measured = _Measured(broker, place, decided, images)
            figures = measured.speed(config, bar)
            if config.kills:
                with bar("kills") as progress:
                    figures |= measured.kills(config, progress)
        if config.batch_images:
            with bar("batch") as progress:
                found = batch_speed(images[: config.batch_images], policy, ladder, place, progress)
            figures["batch_ratio"] = found["batch"] / found["bare"]
            figures["detail"]["batch_frames_per_second"] = found
    detail = figures.pop("detail") | {"kills": figures.pop("kills_detail", None)}
    machine = {**machine_facts(), **library_versions()}
    return BenchStreams(**figures, detail=detail, machine=machine)


class _Measured:
    """A broker, and the processes that are measured."""

    def __init__(
        self, broker: LocalBroker, place: Path, rungs: Mapping[str, Any], images: Sequence[bytes]
    ) -> None:
        self._broker, self._place, self._images = broker, place, images
        self._rungs = {name: value for name, value in rungs.items() if value is not None}

    def speed(self, config: BenchStreamsConfig, bar: Bar) -> dict[str, Any]:
        """Throughput, added milliseconds and memory, of one worker beside one gateway."""
        frames, detections = self._topics("speed")
        gateway_options = {**self._rungs, "log-url": self._place / "gateway-log"}
        with (
            WorkerProcess(gateway_options, self._place / "gateway.txt") as gateway,
            self._worker("speed", "one") as worker,
            AnswerReader(self._broker.bootstrap, detections) as reader,
        ):
            gateway.wait()
            worker.wait()
            camera = FramePublisher(self._broker.bootstrap, frames, CAMERAS)

            def over_kafka(count: int) -> float:
                start = time.perf_counter()
                for _ in range(count):
                    camera.send(self._image(camera.sent))
                answered = list(reader.read(count, _SILENT_SECONDS))
                _check(len(answered), count)
                return time.perf_counter() - start

            def over_websocket(count: int) -> float:
                start = time.perf_counter()
                asyncio.run(self._stream(gateway.url, count))
                return time.perf_counter() - start

            ways = {"worker": over_kafka, "gateway": over_websocket}
            for way in ways.values():
                way(_WARM_FRAMES)
            spent = dict.fromkeys(ways, 0.0)
            count = max(config.frames // _ROUNDS, 1)
            with bar("throughput") as progress:
                for turn in range(_ROUNDS):
                    for name, way in ways.items():
                        spent[name] += way(count)
                    progress(turn + 1, _ROUNDS)
            rates = {name: count * _ROUNDS / seconds for name, seconds in spent.items()}
            with bar("latency") as progress:
                times = self._latency(camera, reader, config.latency_frames, progress)
            added = np.subtract(times["read"], times["own"])
            figures: dict[str, Any] = {
                "throughput_ratio": rates["worker"] / rates["gateway"],
                "added_ms": float(np.median(added)),
                "detail": {
                    "frames_per_second": rates,
                    "latency_ms": {
                        "published_to_read_p50": float(np.median(times["read"])),
                        "own_p50": float(np.median(times["own"])),
                        "added_p10": float(np.percentile(added, 10)),
                        "added_p90": float(np.percentile(added, 90)),
                        "kafka_alone_p50": float(np.median(times["kafka"])),
                        "kafka_alone_p90": float(np.percentile(times["kafka"], 90)),
                    },
                },
            }
            if config.soak_frames:
                with bar("memory") as progress:
                    growth = self._memory(worker, over_kafka, config.soak_frames, progress)
                figures["memory_growth"] = growth.pop("rss_growth")
                figures["detail"]["memory"] = growth
        return figures

    def kills(self, config: BenchStreamsConfig, progress: Progress) -> dict[str, Any]:
        """Interruptions of two workers, and of the job before them."""
        frames, detections = self._topics("kills")
        log = self._place / "kills-log"
        with contextlib.ExitStack() as running:
            job, source = None, frames
            kinds: tuple[str, ...] = KINDS
            if config.flink and is_installed():
                source = "kills-prepared"
                job = running.enter_context(self._job(frames, source))
                kinds += (TASK,)
            fates = count_kills(
                self._broker,
                (frames, detections, "kills-dead"),
                lambda name: self._worker("kills", name, source),
                str(log),
                self._images,
                [kinds[number % len(kinds)] for number in range(config.kills)],
                progress,
                job,
            )
        found = asdict(fates)
        detail = {"sent": found.pop("sent"), "kinds": list(kinds)}
        if any(found.values()):
            logs = Path(tempfile.mkdtemp(prefix="gearshift-bench-logs-"))
            for file in (*self._place.glob("*.txt"), *self._place.glob("*.log")):
                shutil.copy(file, logs)
            detail["logs"] = str(logs)
        return {"kills": config.kills, "kills_detail": detail, **found}

    @contextlib.contextmanager
    def _job(self, frames: str, prepared: str) -> Iterator[subprocess.Popen[bytes]]:
        """Flink's job, which drops no frame as a near repeat."""
        self._broker.create_topics(_PARTITIONS, prepared, "kills-minutes")
        options = {
            "bootstrap": self._broker.bootstrap,
            "frames": frames,
            "prepared": prepared,
            "minutes": "kills-minutes",
            "dead-letters": "kills-dead",
            "group": "kills-preparation",
            "checkpoints": self._place / "checkpoints",
            "checkpoint-seconds": 1,
            "parallelism": 1,
            "repeat-seconds": 0,
        }
        process = start_job(options, self._place / "flink.txt", task_processes=True)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()

    def _latency(
        self, camera: FramePublisher, reader: AnswerReader, count: int, progress: Progress
    ) -> dict[str, list[float]]:
        """Milliseconds of each frame: from publishing to reading, its own, and Kafka's alone.

        A message of the frame's size is published and read between two frames, with no worker.
        """
        times: dict[str, list[float]] = {"read": [], "own": [], "kafka": []}
        self._broker.create_topics(_PARTITIONS, "speed-bare")
        bare = FramePublisher(self._broker.bootstrap, "speed-bare", CAMERAS)
        with AnswerReader(self._broker.bootstrap, "speed-bare") as bare_reader:
            for number in range(count):
                image = self._image(camera.sent)
                times["kafka"].append(_passed(bare, bare_reader, b'"%s"' % (b"x" * len(image)))[0])
                passed, value = _passed(camera, reader, image)
                times["read"].append(passed)
                times["own"].append(float(value["milliseconds"]["total"]))
                progress(number + 1, count)
        return times

    def _memory(
        self,
        worker: WorkerProcess,
        answer: Callable[[int], float],
        count: int,
        progress: Progress,
    ) -> dict[str, Any]:
        looked = []
        step = max(min(_SOAK_FRAMES, count // 40), 1)
        for done in range(step, count + 1, step):
            answer(step)
            looked.append((done, worker.resident_bytes()))
            progress(done, count)
        return {**resident_growth(looked, count), "frames": count}

    async def _stream(self, url: str, count: int) -> None:
        """Have the gateway answer frames of as many cameras as Kafka has."""

        async def frames(camera: int) -> AsyncIterator[bytes]:
            for number in range(camera, count, CAMERAS):
                yield self._image(number)

        async def one(camera: int) -> int:
            async with StreamClient(url, options=_PATIENT) as client:
                answers = [m async for m in client.stream(frames(camera))]
            return sum(message["type"] == "detections" for message in answers)

        answered = await asyncio.gather(*(one(camera) for camera in range(CAMERAS)))
        _check(sum(answered), count)

    def _image(self, number: int) -> bytes:
        return self._images[number % len(self._images)]

    def _topics(self, part: str) -> tuple[str, str]:
        names = (f"{part}-frames", f"{part}-detections", f"{part}-dead")
        self._broker.create_topics(_PARTITIONS, *names)
        return names[:2]

    def _worker(self, part: str, name: str, frames: str = "") -> WorkerProcess:
        options = {
            **self._rungs,
            "log-url": self._place / f"{part}-log",
            "bootstrap": self._broker.bootstrap,
            "frames": frames or f"{part}-frames",
            "detections": f"{part}-detections",
            "dead-letters": f"{part}-dead",
            "group": part,
            "worker": name,
            "session-seconds": 6,
            "transaction-seconds": 5,
        }
        return WorkerProcess(options, self._place / f"{part}-{name}.txt")


def _passed(
    publisher: FramePublisher, reader: AnswerReader, content: bytes
) -> tuple[float, dict[str, Any]]:
    """Milliseconds until what a message became is read, and that."""
    start = time.perf_counter()
    publisher.send(content)
    (answer,) = reader.read(1, _SILENT_SECONDS)
    return (answer.read - start) * 1e3, answer.value


def _images(folder: Path, config: BenchStreamsConfig, bar: Bar) -> list[bytes]:
    frames = max(config.batch_images, 60)
    scenes = ScenesConfig(clips=4, clip_frames=-(-frames // 4), seed=config.seed)
    with bar("scenes") as progress:
        write_scenes(scenes, folder, progress)
    return [data for clip in encoded_clips(load_dataset(folder)) for data in clip.frames]


def _check(answered: int, wanted: int) -> None:
    if answered != wanted:
        raise Unavailable(f"{answered} of {wanted} frames were answered; nothing can be measured")
