"""One stream that never pauses, against a real gateway with the sample's nano in process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import closed_port, environment, until

from foundation.errors import Unavailable
from pipelines.drift.traffic import DriftTraffic, Shot


@pytest.fixture(scope="module")
def gateway(sample_ladder: Path) -> Iterator[str]:
    """Address of a gateway that answers every frame by nano."""
    command = (
        sys.executable,
        "-m",
        "inference_graph.gateway",
        f"--rung=nano={sample_ladder}/nano.onnx",
        "--always=nano",
        "--open_access=true",
        "--port=0",
        "--shadow_share=0",
        "--deadline_ms=10000",
    )
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


def shots(folder: Path, phase: str, count: int) -> list[Shot]:
    made = []
    for index in range(count):
        file = folder / f"{phase}-{index}.jpg"
        frame = np.full((48, 64, 3), 20 * index % 255, np.uint8)
        assert cv2.imwrite(str(file), frame)
        made.append(Shot(phase, "street", index, file))
    return made


def test_every_frame_has_its_fate_in_order(gateway: str, tmp_path: Path) -> None:
    first, second = shots(tmp_path, "first", 5), shots(tmp_path, "second", 3)
    filler = shots(tmp_path, "filler", 2)
    with DriftTraffic(gateway, "one", fps=200.0) as traffic:
        traffic.play(first)
        assert [one.shot for one in traffic.sent] == first
        traffic.between(filler)
        until(lambda: len(traffic.sent) >= 5 + 3)
        traffic.play(second)  # goes before the filler, whatever has been sent of that
        traffic.between(())
        assert traffic.played == 8
        sent = list(traffic.sent)
    assert [one.number for one in sent] == list(range(len(sent)))
    assert [one.shot for one in sent if one.shot.phase == "second"] == second
    repeated = [one.shot.index for one in sent if one.shot.phase == "filler"]
    assert repeated == [index % 2 for index in range(len(repeated))]
    assert {one.answered_by for one in sent} == {"nano"}
    assert len({one.event_id for one in sent}) == len(sent)
    assert [one.time for one in sent] == sorted(one.time for one in sent)


def test_what_is_no_image_has_a_fate_too(gateway: str, tmp_path: Path) -> None:
    (bad, good) = shots(tmp_path, "some", 2)
    bad.file.write_bytes(b"no image")
    with DriftTraffic(gateway, "two", fps=200.0) as traffic:
        traffic.play([bad, good])
        sent = list(traffic.sent)
    assert [(one.answered_by, bool(one.event_id)) for one in sent] == [("", False), ("nano", True)]


def test_a_gateway_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable, match="check that it runs"),
        DriftTraffic(f"http://127.0.0.1:{closed_port()}", "three", fps=10.0) as traffic,
    ):
        traffic.play(shots(tmp_path, "none", 1))
