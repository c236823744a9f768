"""Workers killed, brokers restarted, groups rebalanced: what became of every frame."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from inference_graph.prediction_log.reader import read_log
from pipelines.streams.clients import AnswerReader, FramePublisher, ReadAnswer
from pipelines.streams.local_broker import LocalBroker
from pipelines.streams.worker_process import WorkerProcess

KINDS = ("worker", "broker", "rebalance")
"""A worker is killed; the broker is; a further worker joins the group and leaves it."""
CAMERAS = 4
_PAUSE = 0.01
_TRAFFIC_SECONDS = (0.3, 2.0)
_SILENT_SECONDS = 120.0
_AFTER_SECONDS = 5.0


@dataclass(frozen=True)
class FrameFates:
    """What became of frames that were published.

    Attributes:
        sent: frames published.
        lost: frames without an answer.
        doubled: answers beyond the first of a frame.
        out_of_order: answers that come after the answer to a later frame of their camera.
        doubled_in_log: rows of the prediction log beyond the first of an event id.
        missing_in_log: answers whose event id has no row.
    """

    sent: int
    lost: int
    doubled: int
    out_of_order: int
    doubled_in_log: int
    missing_in_log: int


def frame_fates(sent: int, answers: Sequence[ReadAnswer], rows: Iterable[str]) -> FrameFates:
    """Count.

    Args:
        sent: frames published, numbered from 0.
        answers: in the order in which they were read; each camera's stand in one partition.
        rows: event ids of the prediction log.
    """
    seen = Counter(one.frame for one in answers)
    newest: dict[str, int] = {}
    out_of_order = 0
    for one in answers:
        out_of_order += one.frame < newest.get(one.camera, -1)
        newest[one.camera] = max(one.frame, newest.get(one.camera, -1))
    logged = Counter(rows)
    return FrameFates(
        sent=sent,
        lost=len(set(range(sent)) - set(seen)),
        doubled=len(answers) - len(seen),
        out_of_order=out_of_order,
        doubled_in_log=logged.total() - len(logged),
        missing_in_log=len({str(one.value["event_id"]) for one in answers} - set(logged)),
    )


def count_kills(
    broker: LocalBroker,
    topics: tuple[str, str],
    make_worker: Callable[[str], WorkerProcess],
    log_url: str,
    images: Sequence[bytes],
    kills: Sequence[str],
    progress: Callable[[int, int | None], None],
    seed: int = 19,
) -> FrameFates:
    """Publish frames to two workers, with one interruption after the other.

    Args:
        broker: runs.
        topics: of the frames and of the detections.
        make_worker: starts a worker of the group, by its name.
        log_url: prediction log of all workers.
        images: what is published.
        kills: of :data:`KINDS`, one after the other.
        progress: called with interruptions done and in all.
        seed: of when they come and whom they meet.

    Raises:
        Unavailable: a worker or the broker does not start again.
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
        for one in workers:
            one.stop()
    finally:
        for one in workers:
            one.kill()
    rows = read_log(log_url, columns=["event_id"]).column("event_id").to_pylist()
    return frame_fates(camera.sent, answers, rows)
