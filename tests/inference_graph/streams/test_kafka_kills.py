"""Workers that are killed: no answer is lost, doubled or out of order, nor in the log."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign import runs
from gateway_samples import ROWS, SIZE, jpeg
from kafka_samples import Topics
from tiny_models import MakeDetector

from pipelines.streams.bench_kills import KINDS, FrameFates, count_kills, frame_fates
from pipelines.streams.clients import ReadAnswer
from pipelines.streams.worker_process import WorkerProcess


def answer(frame: int, camera: str = "cam-0") -> ReadAnswer:
    return ReadAnswer(camera, {"frame": str(frame), "event_id": f"e{frame}"}, 0.0)


def test_what_became_of_frames_is_counted() -> None:
    good = [answer(0), answer(1, "cam-1"), answer(2), answer(3, "cam-1")]
    ids = ["e0", "e1", "e2", "e3"]
    assert frame_fates(4, good, [], ids) == FrameFates(4, 0, 0, 0, 0, 0, 0)
    assert frame_fates(5, good, [], ids).lost == 1
    assert frame_fates(5, good, [4], ids) == FrameFates(5, 0, 1, 0, 0, 0, 0)
    assert frame_fates(4, good, [3], ids).doubled == 1
    swapped = [good[2], good[1], good[0], good[3]]
    assert frame_fates(4, swapped, [], ids) == FrameFates(4, 0, 0, 0, 1, 0, 0)
    # The second answer to frame 0 comes behind that to frame 2, too.
    assert frame_fates(4, [*good, good[0]], [], ids) == FrameFates(4, 0, 0, 1, 1, 0, 0)
    assert frame_fates(4, good, [], [*ids, "e1", "e1"]).doubled_in_log == 2
    assert frame_fates(4, good, [], ids[:3]).missing_in_log == 1


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_kills_lose_double_and_reorder_nothing(
    topics: Topics, make_detector: MakeDetector, tmp_path: Path
) -> None:
    weights, log, names = make_detector(ROWS[:1], size=SIZE), tmp_path / "log", topics.names

    def make_worker(name: str) -> WorkerProcess:
        options = {
            "rung": {"nano": weights},
            "always": "nano",
            "log-url": log,
            "bootstrap": topics.broker.bootstrap,
            "frames": names["frames"],
            "detections": names["detections"],
            "dead-letters": names["dead_letters"],
            "group": topics.mark,
            "worker": name,
            "session-seconds": 6,
            "transaction-seconds": 5,
        }
        return WorkerProcess(options, tmp_path / f"{name}.txt")

    kinds = [KINDS[number % 3] for number in range(runs(0, 60))] or ["worker", "rebalance"]
    fates = count_kills(
        topics.broker,
        (names["frames"], names["detections"], names["dead_letters"]),
        make_worker,
        str(log),
        [jpeg()],
        kinds,
        lambda done, total: None,
    )
    # On a busy machine no rung may answer in time.
    assert fates == FrameFates(fates.sent, 0, fates.dead_letters, 0, 0, 0, 0) and fates.sent > 20
