"""Workers killed, brokers restarted, groups rebalanced, tasks of Flink failed: frames counted."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import psutil

from foundation.errors import Unavailable
from inference_graph.prediction_log.reader import read_log
from pipelines.streams.clients import AnswerReader, FramePublisher, ReadAnswer
from pipelines.streams.local_broker import LocalBroker
from pipelines.streams.worker_process import WorkerProcess

KINDS = ("worker", "broker", "rebalance")
"""A worker is killed; the broker is; a further worker joins the group and leaves it."""
TASK = "task"
"""The process of a task of Flink's is killed; Flink begins again at its last checkpoint."""
CAMERAS = 4
_PAUSE = 0.01
_TRAFFIC_SECONDS = (0.3, 2.0)
_SILENT_SECONDS = 120.0
_AFTER_SECONDS = 5.0
_TASK_SECONDS = 120.0
_TASK_MODULE = "pyflink.fn_execution"


@dataclass(frozen=True)
class FrameFates:
    """What became of frames that were published.

    Attributes:
        sent: frames published.
        lost: frames without an answer and without a dead letter.
        dead_letters: frames that no rung answered in time, or that were not readable.
        doubled: answers and dead letters beyond the first of a frame.
        out_of_order: answers that come after the answer to a later frame of their camera.
        doubled_in_log: rows of the prediction log beyond the first of an event id.
        missing_in_log: answers whose event id has no row.
    """

    sent: int
    lost: int
    dead_letters: int
    doubled: int
    out_of_order: int
    doubled_in_log: int
    missing_in_log: int


def frame_fates(
    sent: int, answers: Sequence[ReadAnswer], dead: Sequence[int], rows: Iterable[str]
) -> FrameFates:
    """Count.

    Args:
        sent: frames published, numbered from 0.
        answers: in the order in which they were read; each camera's stand in one partition.
        dead: frames of the dead letters.
        rows: event ids of the prediction log.
    """
    seen = Counter([*(one.frame for one in answers), *dead])
    newest: dict[str, int] = {}
    out_of_order = 0
    for one in answers:
        out_of_order += one.frame < newest.get(one.camera, -1)
        newest[one.camera] = max(one.frame, newest.get(one.camera, -1))
    logged = Counter(rows)
    return FrameFates(
        sent=sent,
        lost=len(set(range(sent)) - set(seen)),
        dead_letters=len(set(dead)),
        doubled=seen.total() - len(seen),
        out_of_order=out_of_order,
        doubled_in_log=logged.total() - len(logged),
        missing_in_log=len({str(one.value["event_id"]) for one in answers} - set(logged)),
    )


def count_kills(
    broker: LocalBroker,
    topics: tuple[str, str, str],
    make_worker: Callable[[str], WorkerProcess],
    log_url: str,
    images: Sequence[bytes],
    kills: Sequence[str],
    progress: Callable[[int, int | None], None],
    job: subprocess.Popen[bytes] | None = None,
    seed: int = 19,
) -> FrameFates:
    """Publish frames to two workers, with one interruption after the other.

    Args:
        broker: runs.
        topics: of the frames, of the detections and of the dead letters.
        make_worker: starts a worker of the group, by its name.
        log_url: prediction log of all workers.
        images: what is published.
        kills: of :data:`KINDS`, and :data:`TASK` where a job runs; one after the other.
        progress: called with interruptions done and in all.
        job: Flink's job, which prepares the frames for the workers and drops none.
        seed: of when they come and whom they meet.

    Raises:
        Unavailable: a worker, the broker or a task does not start again.
    """
    draw = random.Random(seed)
    camera = FramePublisher(broker.bootstrap, topics[0], CAMERAS)
    workers = [make_worker(name) for name in ("one", "two")]

    def publish() -> None:
        end = time.monotonic() + draw.uniform(*_TRAFFIC_SECONDS)
        while time.monotonic() < end:
            camera.send(images[camera.sent % len(images)])
            time.sleep(_PAUSE)

    try:
        for one in workers:
            one.wait()
        for number, kind in enumerate(kills):
            publish()
            if kind == "worker":
                victim = draw.choice(workers)
                victim.kill()
                victim.start()
                publish()
                victim.wait()
            elif kind == "broker":
                broker.kill()
                broker.start()
            elif kind == TASK:
                if job is None:
                    raise Unavailable("no job of Flink's runs; none of its tasks can be killed")
                kill_task(job)
            else:
                with make_worker(f"further-{number}") as further:
                    further.wait()
                    publish()
                    further.stop()
            progress(number + 1, len(kills))
        camera.flush()
        with AnswerReader(broker.bootstrap, topics[1]) as reader:
            answers = list(reader.read(camera.sent, _SILENT_SECONDS))
            answers += reader.read(camera.sent, _AFTER_SECONDS)  # what came twice
        with AnswerReader(broker.bootstrap, topics[2]) as reader:
            dead = [int(frame) for frame in reader.event_ids(camera.sent, _AFTER_SECONDS)]
        for one in workers:
            one.stop()
    finally:
        for one in workers:
            one.kill()
    rows = read_log(log_url, columns=["event_id"]).column("event_id").to_pylist()
    return frame_fates(camera.sent, answers, dead, rows)


def kill_task(job: subprocess.Popen[bytes]) -> None:
    """Kill the process in which a task prepares frames.

    Raises:
        Unavailable: the job ended, or runs no task for a while.
    """
    end = time.monotonic() + _TASK_SECONDS
    while time.monotonic() < end:
        if job.poll() is not None:
            raise Unavailable("Flink's job ended; see its log")
        with contextlib.suppress(psutil.NoSuchProcess):
            tasks = [
                one
                for one in psutil.Process(job.pid).children(recursive=True)
                if any(word.startswith(_TASK_MODULE) for word in one.cmdline())
            ]
            if tasks:
                # Those of tasks that failed before may not have ended yet.
                max(tasks, key=lambda one: (one.create_time(), one.pid)).kill()
                return
        time.sleep(0.2)
    raise Unavailable(f"Flink ran no task for {_TASK_SECONDS:g} s; see its log")
