"""The job in Flink's own mini cluster, on Apache Kafka's own broker, ended by force on the way."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from campaign import runs
from processes import until

from feature_transformer.image import decode

if TYPE_CHECKING:
    from secure_kafka import SecureBroker

MINUTE = 60_000


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_frame_is_prepared_once_and_in_order_whenever_the_job_dies(
    broker: SecureBroker, tmp_path: Path
) -> None:
    import cv2
    import numpy as np
    from kafka_samples import Camera, read

    from pipelines.streams.local_flink import start_job

    topics = ("frames", "prepared", "minutes", "dead-letters")
    broker.broker.create_topics(2, *topics)
    bootstrap = broker.broker.bootstrap
    start = (int(time.time() * 1000) // MINUTE - 30) * MINUTE
    camera = Camera(bootstrap, "frames")
    random = np.random.default_rng(0)

    def send(key: str, seconds: float, repeats: int = 0) -> None:
        """A picture of its own, captured and published then, and some that are the same."""
        noise = random.integers(0, 255, (6, 8, 3), np.uint8)
        image = cv2.resize(noise, (800, 600), interpolation=cv2.INTER_NEAREST)
        data = cv2.imencode(".jpg", image)[1].tobytes()
        for number in range(1 + repeats):
            came = start + int(seconds * 1000) + number
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(came / 1000))
            time_ms = f"{when}.{came % 1000:03d}Z"
            camera.send(data, key, came_ms=came, ce_time=time_ms)

    kills, batch = runs(1, 5), 12
    options = {
        "bootstrap": bootstrap,
        "checkpoints": tmp_path / "checkpoints",
        "checkpoint_seconds": 0.5,
        "longer_side": 320,
        "out_of_order_seconds": 5,
        "idle_seconds": 2,
        "parallelism": 2,
    }
    sent = 0
    for round_ in range(kills):
        # Cameras have a minute for each round: 12 frames, of which two repeat.
        for number in range(batch):
            send(f"cam-{number % 3}", 60 * round_ + number, repeats=number == 5 and 2 or 0)
        sent += batch
        camera.flush()
        process = start_job(options, tmp_path / "job.log")
        try:
            _wait_for(process, bootstrap, sent)
            send("cam-0", 60 * round_ + 30)  # in work when the job dies
            sent += 1
            camera.flush()
        finally:
            process.kill()
            process.wait()
    camera.send(b"no image", "cam-1", came_ms=start + 60 * 1000 * kills)
    send("cam-1", 60 * kills + 70)
    send("cam-1", 60 * kills + 71, repeats=1)  # closes the minutes before
    sent += 2
    camera.flush()
    last = start_job(options, tmp_path / "job.log")
    try:
        _wait_for(last, bootstrap, sent)
        # All that is over: a minute of each round and camera, and that of the picture that is none.
        read(bootstrap, "minutes", 3 * kills + 1, 120)
        send("cam-2", 2)  # late: its minute is published
        send("cam-2", 60 * kills + 72)
        send("cam-1", 60 * kills + 140)  # closes the minute before
        sent += 3
        camera.flush()
        minutes = [one["value"] for one in read(bootstrap, "minutes", 3 * kills + 3, 120)]
        _wait_for(last, bootstrap, sent)
    finally:
        last.kill()
        last.wait()
    prepared = read(bootstrap, "prepared", sent + 1, 10)
    ids = [one["headers"]["ce_id"] for one in prepared]
    assert len(ids) == len(set(ids)) == sent
    for name in ("cam-0", "cam-1", "cam-2"):
        numbers = [int(one["headers"]["ce_id"]) for one in prepared if one["key"] == name]
        assert numbers == sorted(numbers)
    assert decode(prepared[0]["value"]).shape == (240, 320, 3)
    places = [(one["camera"], one["start"]) for one in minutes]
    assert len(places) == len(set(places))
    total = {
        name: sum(one[name] for one in minutes)
        for name in ("frames", "published", "repeats", "refused", "late")
    }
    (letter,) = read(bootstrap, "dead-letters", 2, 5)
    assert letter["value"] == b"no image" and letter["headers"]["gearshift-status"] == "400"
    assert total["frames"] == total["published"] + total["repeats"]
    # The late frame is in no minute, and that of the last one is not over.
    assert total["published"] == sent - 2
    assert (total["repeats"], total["refused"], total["late"]) == (2 * kills + 1, 1, 1)


def _wait_for(job: subprocess.Popen[bytes], bootstrap: str, count: int) -> None:
    """Until so many prepared frames are committed; fails where the job ends before."""
    until(lambda: job.poll() is not None or _committed(bootstrap) >= count, 300)
    assert job.poll() is None


def _committed(bootstrap: str) -> int:
    """Messages of the topic of prepared frames, transactions' marks included."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "ends",
            "log_level": 0,
            "isolation.level": "read_committed",
        }
    )
    try:
        ends = (consumer.get_watermark_offsets(TopicPartition("prepared", one)) for one in (0, 1))
        return sum(high for _, high in ends)
    finally:
        consumer.close()
