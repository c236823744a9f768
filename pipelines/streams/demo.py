"""The streams demo: cameras, broker, Flink and worker here, and a worker that is killed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.data.dataset import IMAGES_FOLDER
from components.parallel import Progress
from components.scenes.writer import ScenesConfig, write_scenes
from foundation.configuration import configuration
from foundation.errors import Unavailable
from inference_graph.control.embedded.platform import free_ports
from inference_graph.streams.broker import kafka
from inference_graph.streams.messages import FRAME, event_headers, read_headers
from inference_graph.streams.minutes import MINUTE_MS
from pipelines.streams.local_broker import LocalBroker, create_topics
from pipelines.streams.local_flink import is_installed, start_job

ROOT = Path(__file__).resolve().parents[2]
_TOPICS = ("frames", "prepared", "minutes", "detections", "dead-letters")
_REPEATED = 10
"""One camera sends every tenth frame twice, as one that stutters does."""
_QUIET_SECONDS = 60.0
"""Without any answer for so long, what is not answered counts as lost."""
_START_SECONDS = 300.0


@configuration
class StreamsDemoConfig:
    """What is streamed.

    Attributes:
        bootstrap: a running broker; one is started without it.
        cameras: how many.
        frames: of each camera.
        fps: frames per second of each camera.
        flink: prepare the frames in Flink where its environment is installed.
        kill: kill the worker when half of the frames are sent, and start it again.
        seed: of the scenes.
    """

    bootstrap: str = ""
    cameras: Annotated[int, Field(ge=1, le=50)] = 3
    frames: Annotated[int, Field(ge=2, le=100_000)] = 100
    fps: Annotated[float, Field(gt=0, le=1000)] = 5.0
    flink: bool = True
    kill: bool = True
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame as its camera sent it: its id, its camera, and seconds since 1970."""

    frame: str
    camera: str
    sent: float


@dataclass(frozen=True, slots=True)
class SeenAnswer:
    """A message of the answers' topic, as a reader of what is committed saw it.

    Attributes:
        frame: id of the frame.
        camera: its camera.
        seen: when, in seconds since 1970.
        answered_by: the rung; empty where the frame was skipped.
    """

    frame: str
    camera: str
    seen: float
    answered_by: str


@dataclass
class StreamsDemo:
    """What happened.

    Attributes:
        config: what was asked for.
        flink: whether Flink prepared the frames.
        sent: frames, in order.
        answers: what was seen on the answers' topic, in order.
        minutes: each camera's minutes, as Flink published them.
        dead_letters: messages that could not be used.
        killed: when the worker was killed, in seconds since 1970; None where it was not.
    """

    config: StreamsDemoConfig
    flink: bool
    sent: list[SentFrame] = field(default_factory=list)
    answers: list[SeenAnswer] = field(default_factory=list)
    minutes: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: int = 0
    killed: float | None = None

    @property
    def repeats(self) -> int:
        """Frames that Flink dropped as near repeats."""
        return sum(one["repeats"] for one in self.minutes)

    @property
    def expected(self) -> int:
        """Frames that have to be answered, as far as is known by now."""
        return len(self.sent) - self.repeats - self.dead_letters


def run_streams_demo(
    config: StreamsDemoConfig,
    out: Path,
    policy: Path | None,
    ladder: str,
    progress: Callable[[str], contextlib.AbstractContextManager[Progress]],
    say: Callable[[str], None],
) -> StreamsDemo:
    """Start everything, stream, kill the worker once, and read what became of each frame.

    Args:
        config: what is streamed.
        out: folder of logs and scenes.
        policy: chooses the rung; small answers every frame without it.
        ladder: folder of the detectors; the sample ladder if it is empty.
        progress: makes a bar of the name given.
        say: called with what happens.

    Raises:
        ConfigurationError: the client library is missing, or Java or Maven where a broker is to be
            started.
        InvalidInput: jars cannot be fetched.
        Unavailable: broker, worker or Flink's job does not start, or ends.
    """
    kafka()
    scenes = out / "scenes"
    with progress("scenes") as shown:
        given = ScenesConfig(
            clips=config.cameras,
            clip_frames=config.frames,
            fps=config.fps,
            seed=config.seed,
            world="streets",
        )
        write_scenes(given, scenes, shown)
    demo = StreamsDemo(config, config.flink and is_installed())
    mark = uuid.uuid4().hex[:6]
    topics = {name: f"{name}-{mark}" for name in _TOPICS}
    with contextlib.ExitStack() as running:
        bootstrap = config.bootstrap
        if not bootstrap:
            say("starting Apache Kafka")
            shutil.rmtree(out / "broker", ignore_errors=True)
            with contextlib.closing(free_ports()) as ports:
                broker = LocalBroker(out / "broker", [next(ports), next(ports)])
            bootstrap = running.enter_context(broker).bootstrap
        create_topics(bootstrap, 2, topics.values())
        if demo.flink:
            say("starting Flink's mini cluster with the job that prepares frames")
            running.enter_context(_job(bootstrap, topics, out))
        elif config.flink:
            say(
                "frames go to the worker as they are: Flink is not installed; "
                "`python -m pipelines.streams.local_flink` installs it, once"
            )
        worker = running.enter_context(_Worker(bootstrap, topics, out, policy, ladder, demo.flink))
        say("starting the worker")
        worker.start()
        reader = running.enter_context(_Reader(bootstrap, topics, demo))
        camera = _Cameras(bootstrap, topics["frames"], demo)
        if demo.flink:
            say("waiting until the first frame has passed Flink")
        camera.send_first(scenes)
        reader.wait(lambda: bool(demo.answers), _START_SECONDS)
        say(f"{config.cameras} cameras send {config.frames} frames each")
        with progress("frames") as shown:
            camera.send_all(scenes, shown, worker if config.kill else None, say)
        if demo.flink:
            camera.close_minutes()
            reader.wait(
                lambda: {one["camera"] for one in demo.minutes} >= camera.names, _QUIET_SECONDS
            )
        reader.wait(lambda: len({a.frame for a in demo.answers}) >= demo.expected, _QUIET_SECONDS)
        reader.drain()
    return demo


class _Worker:
    """``gearshift kafka route`` as a process."""

    def __init__(
        self,
        bootstrap: str,
        topics: dict[str, str],
        out: Path,
        policy: Path | None,
        ladder: str,
        prepared: bool,
    ) -> None:
        frames = topics["prepared" if prepared else "frames"]
        self._command = [
            sys.executable,
            "-m",
            "gearshift",
            "kafka",
            "route",
            f"--bootstrap={bootstrap}",
            f"--frames={frames}",
            f"--detections={topics['detections']}",
            f"--dead-letters={topics['dead-letters']}",
            f"--group={frames}",
            "--worker=demo",
            f"--log={out / 'log'}",
            "--port=0",
            *([f"--policy={policy}"] if policy is not None else ["--always=small"]),
            *([f"--ladder={ladder}"] if ladder else []),
        ]
        self._log = out / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def start(self) -> None:
        """Start it, or start it again."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def check(self) -> None:
        """Raise where it ended.

        Raises:
            Unavailable: it did.
        """
        if self._process is not None and self._process.poll() is not None:
            raise Unavailable(f"the worker ended; see {self._log}")


class _Cameras:
    """Publishes the frames of all cameras, each with its id and the time of now."""

    def __init__(self, bootstrap: str, topic: str, demo: StreamsDemo) -> None:
        options = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0}
        self._producer = kafka().Producer({**options, "log_level": 0})
        self._topic = topic
        self._demo = demo
        self.names = {f"camera-{number + 1}" for number in range(demo.config.cameras)}

    def send_first(self, scenes: Path) -> None:
        """The first frame of each camera: what is slow at its start is not counted after it."""
        for name, clip in self._clips(scenes):
            self._send(name, clip[0])
        self._producer.flush(30)

    def send_all(
        self, scenes: Path, progress: Progress, worker: _Worker | None, say: Callable[[str], None]
    ) -> None:
        """The others, at the cameras' pace; half way the worker is killed."""
        config, clips = self._demo.config, self._clips(scenes)
        begin = time.monotonic()
        back: threading.Timer | None = None
        for number in range(1, config.frames):
            time.sleep(max(begin + (number - 1) / config.fps - time.monotonic(), 0))
            for place, (name, clip) in enumerate(clips):
                self._send(name, clip[number])
                if place == 0 and number % _REPEATED == 0:
                    self._send(name, clip[number])
            if worker is not None and number == config.frames // 2:
                say("killing the worker (SIGKILL); it is started again after a second")
                worker.kill()
                self._demo.killed = time.time()
                back = threading.Timer(1.0, worker.start)
                back.start()
            progress(number, config.frames - 1)
        self._producer.flush(30)
        if back is not None:
            back.join()

    def close_minutes(self) -> None:
        """Publish a frame as if two minutes later: the time of the topic goes on, minutes end."""
        later = int(time.time() * 1000) + 2 * MINUTE_MS
        headers = event_headers(FRAME, "end", "/demo", datetime.now(UTC), "text/plain")
        for partition in (0, 1):
            self._producer.produce(
                self._topic, b"end", "end", partition=partition, headers=headers, timestamp=later
            )
        self._producer.flush(30)

    def _clips(self, scenes: Path) -> list[tuple[str, list[Path]]]:
        folder = scenes / IMAGES_FOLDER
        return [
            (name, sorted(folder.glob(f"clip-{number:04d}-*.jpg")))
            for number, name in enumerate(sorted(self.names, key=lambda one: int(one[7:])))
        ]

    def _send(self, camera: str, image: Path) -> None:
        frame = str(len(self._demo.sent))
        now = datetime.now(UTC)
        headers = event_headers(FRAME, frame, f"/cameras/{camera}", now, "image/jpeg")
        self._producer.produce(self._topic, image.read_bytes(), camera, headers=headers)
        self._producer.poll(0)
        self._demo.sent.append(SentFrame(frame, camera, now.timestamp()))


class _Reader:
    """Reads what is committed, on a thread of its own."""

    def __init__(self, bootstrap: str, topics: dict[str, str], demo: StreamsDemo) -> None:
        self._consumer = kafka().Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"demo-{uuid.uuid4().hex}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        self._topics = topics
        self._demo = demo
        self._ended = threading.Event()
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> _Reader:
        wanted = ("detections", "minutes", "dead-letters")
        self._consumer.subscribe([self._topics[name] for name in wanted])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._consumer.close()

    def wait(self, enough: Callable[[], bool], quiet_seconds: float) -> None:
        """Return when there is enough, or when nothing came for so long."""
        self._last = time.monotonic()
        while not enough() and time.monotonic() - self._last < quiet_seconds:
            time.sleep(0.05)

    def drain(self) -> None:
        """Give what was published twice the time to show."""
        self.wait(lambda: False, 3.0)

    def _read(self) -> None:
        import orjson

        while not self._ended.is_set():
            message = self._consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            topic = message.topic()
            if topic == self._topics["dead-letters"]:
                # What ended the minutes is no frame of a camera.
                self._demo.dead_letters += message.key() != b"end"
            elif topic == self._topics["minutes"]:
                self._demo.minutes.append(orjson.loads(message.value()))
            else:
                value, camera = orjson.loads(message.value()), message.key().decode()
                rung = value.get("answered_by", "") if "skipped" not in _kind(message) else ""
                self._demo.answers.append(SeenAnswer(value["frame"], camera, time.time(), rung))
            self._last = time.monotonic()


def _kind(message: Any) -> str:
    return read_headers(message.headers()).get("ce_type", "")


@contextlib.contextmanager
def _job(bootstrap: str, topics: dict[str, str], out: Path) -> Iterator[None]:
    checkpoints = out / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    names = ("frames", "prepared", "minutes", "dead-letters")
    options: dict[str, object] = {name.replace("-", "_"): topics[name] for name in names}
    options |= {
        "bootstrap": bootstrap,
        "group": topics["prepared"],
        "checkpoints": checkpoints,
        "checkpoint_seconds": 1,
        "idle_seconds": 3,
        "parallelism": 1,
    }
    process = start_job(options, out / "flink.log")
    try:
        yield
    finally:
        process.terminate()
        process.wait()
