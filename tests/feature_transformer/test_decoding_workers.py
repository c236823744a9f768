"""Decoders that crash, hang, swell or are ended: one image is lost and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from campaign import runs
from hostile_pictures import crashing_png, harmless, jpeg_of_scans
from odd_pictures import RGB, pictures, saved
from png_bombs import png_bomb
from processes import environment, until

from feature_transformer.decoding import worker as program
from feature_transformer.decoding import workers as decoding_workers
from feature_transformer.decoding.structure import Structure
from feature_transformer.decoding.workers import WORKERS, DecodingWorkers
from feature_transformer.image import DecodeLimits, decode, examined
from foundation.errors import DeadlineExceeded, ImageError

PNG = saved(RGB, "PNG")
SOUND = examined(PNG).structure
CRASH = Structure(crashing_png(40_000), 8, 8, 1, 192, 2**32)
"""As if the examination had let it pass: OpenCV 4.11 ends with a segmentation fault."""


@pytest.fixture
def workers() -> Iterator[DecodingWorkers]:
    made = DecodingWorkers()
    made.start()
    yield made
    made.close()


SECONDS = 60.0
"""What decoding may take on a busy machine."""


def forker_and_workers() -> tuple[psutil.Process, list[psutil.Process]]:
    (forker,) = [
        child
        for child in psutil.Process().children()
        if program.__name__ in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE
    ]
    return forker, [one for one in forker.children() if one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(autouse=True)
def alone() -> None:
    """So that the processes that a test looks at are its own."""
    WORKERS.close()


def test_pixels_come_back_whole_from_many_threads(workers: DecodingWorkers) -> None:
    wrong: list[str] = []

    def decode_all() -> None:
        for name, data in pictures():
            picture = examined(data).structure
            if not (workers.decode(picture, SECONDS) == expected[name]).all():
                wrong.append(name)

    expected = {name: decode(data) for name, data in pictures()}
    threads = [threading.Thread(target=decode_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_large_frame_comes_back_and_its_memory_is_given_back(workers: DecodingWorkers) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (2000, 2500, 3), np.uint8)
    picture = examined(saved(frame, "BMP")).structure
    assert (workers.decode(picture, SECONDS) == frame[..., ::-1]).all()
    _, (worker,) = forker_and_workers()
    shared = [place for place in worker.memory_maps() if "memfd:pixels" in place.path]
    assert sum(place.rss for place in shared) <= 8 * 1024 * 1024
    assert (workers.decode(SOUND, SECONDS) == RGB[..., ::-1]).all()


def test_a_crash_costs_its_image_only(workers: DecodingWorkers) -> None:
    # From 4.12 on OpenCV refuses it.
    for _ in range(5):
        with pytest.raises(ImageError, match="8x8 pixels (ended its decoder|cannot be decoded)"):
            workers.decode(CRASH, SECONDS)
        assert (workers.decode(SOUND, SECONDS) == RGB[..., ::-1]).all()
    _, left = forker_and_workers()
    assert len(left) == 1


def test_an_image_on_which_two_workers_end_is_refused(workers: DecodingWorkers) -> None:
    done = threading.Event()

    def end_all() -> None:
        while not done.is_set():
            for worker in forker_and_workers()[1]:
                worker.kill()

    ending = threading.Thread(target=end_all)
    ending.start()
    try:
        with pytest.raises(ImageError, match="2500x2000 pixels ended its decoder; its data are"):
            workers.decode(examined(jpeg_of_scans(2500, 2000, 30)).structure, SECONDS)
    finally:
        done.set()
        ending.join()
    assert (workers.decode(SOUND, SECONDS) == RGB[..., ::-1]).all()


def test_a_worker_that_somebody_ends_costs_no_image(workers: DecodingWorkers) -> None:
    forker, (worker,) = forker_and_workers()
    for process in (worker, forker):
        process.kill()
        until(lambda one=process: not one.is_running() or one.status() == psutil.STATUS_ZOMBIE)
        assert (workers.decode(SOUND, SECONDS) == RGB[..., ::-1]).all()
        for left in forker_and_workers()[1]:
            left.kill()
            until(lambda one=left: not one.is_running() or one.status() == psutil.STATUS_ZOMBIE)


def test_a_worker_that_does_not_answer_is_ended_at_the_deadline(workers: DecodingWorkers) -> None:
    _, (worker,) = forker_and_workers()
    worker.suspend()
    with pytest.raises(DeadlineExceeded, match="not decoded in time"):
        workers.decode(SOUND, SECONDS, time.monotonic() + 0.2)
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert (workers.decode(SOUND, SECONDS) == RGB[..., ::-1]).all()


def test_a_deadline_that_has_passed_starts_nothing(workers: DecodingWorkers) -> None:
    with pytest.raises(DeadlineExceeded):
        workers.decode(SOUND, SECONDS, time.monotonic())
    assert (workers.decode(SOUND, SECONDS) == RGB[..., ::-1]).all()


def test_the_limits_own_time_makes_it_the_images_fault() -> None:
    with pytest.raises(ImageError, match="takes more than 0 s to decode; send a smaller one"):
        examined(PNG, DecodeLimits(max_seconds=0)).decode()
    with pytest.raises(DeadlineExceeded):
        examined(PNG).decode(time.monotonic())


def test_memory_is_bound_by_what_the_image_is_worth(
    workers: DecodingWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_workers, "_SLACK_BYTES", 2**20)
    whole = examined(png_bomb(2000, 2000, packed=2000 * 6001)).structure
    swells = Structure(whole.data, 10, 10, 1, 300, 300)  # as if it had stated 10x10
    with pytest.raises(ImageError, match="10x10 pixels cannot be decoded"):
        workers.decode(swells, SECONDS)
    assert (workers.decode(SOUND, SECONDS) == RGB[..., ::-1]).all()


def test_the_most_that_is_allowed_fits_its_memory(
    workers: DecodingWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_workers, "_SLACK_BYTES", 16 * 2**20)
    progressive = examined(jpeg_of_scans(2500, 2000, 5)).structure
    assert workers.decode(progressive, SECONDS).shape == (2000, 2500, 3)
    deep = np.zeros((1500, 2000, 3), np.uint16)
    picture = examined(cv2.imencode(".png", deep)[1].tobytes()).structure
    assert workers.decode(picture, SECONDS).shape == (1500, 2000, 3)


def test_a_worker_has_no_files_no_secrets_and_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from feature_transformer.decoding.workers import WORKERS\n"
        "WORKERS.start()\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env=environment() | {"GEARSHIFT_LOGGER_TOKEN": "a secret"},
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    (forker,) = psutil.Process(parent.pid).children()
    (worker,) = forker.children()
    assert "GEARSHIFT_LOGGER_TOKEN" not in forker.environ() | worker.environ()
    limits = Path(f"/proc/{worker.pid}/limits").read_text(encoding="ascii")
    for name in ("Max file size", "Max processes", "Max core file size"):
        (line,) = [line for line in limits.splitlines() if line.startswith(name)]
        assert line.removeprefix(name).split()[:2] == ["0", "0"], line
    parent.kill()
    parent.wait()
    for process in (forker, worker):
        until(lambda one=process: not one.is_running() or one.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.campaign
def test_changed_pictures_are_decoded_or_refused_and_no_decoder_ends() -> None:
    """Bytes changed, cut out and doubled at random; checksums of chunks put right again."""
    rng = random.Random(4)
    samples = [data for _, data in (*pictures(), *harmless()) if len(data) < 5000]
    limits = DecodeLimits(max_pixels=1_000_000)
    decoded = 0
    for _ in range(runs(600, 200_000)):
        data = mutated(rng.choice(samples), rng)
        try:
            decode(data, limits)
            decoded += 1
        except ImageError as error:
            assert "ended its decoder" not in str(error), data.hex()
            assert "takes more" not in str(error), data.hex()
    assert decoded > runs(600, 200_000) // 20  # else only the examination was tried


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed))
        way = rng.randrange(4)
        if way == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif way == 2:
            del changed[at : at + rng.randrange(1, 9)]
        else:
            changed[at:at] = changed[at : at + rng.randrange(1, 17)]
        if not changed:
            return data
    return with_checksums(bytes(changed))


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks declare the checksums they have, so that the change is looked at."""
    if not data.startswith(b"\x89PNG"):
        return data
    fixed = bytearray(data)
    at = 8
    while at + 12 <= len(fixed):
        end = at + 8 + int.from_bytes(fixed[at : at + 4])
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(fixed)
