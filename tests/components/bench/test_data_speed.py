"""The bench of the data stages, and runs that are killed at random moments."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from campaign import runs

from components.bench import data_speed
from components.bench.data_speed import (
    BenchDataConfig,
    KillBench,
    ScaleRow,
    SpeedResult,
    bench_data,
    measure_speed,
)
from components.bench.watched_processes import watched

SMALL = BenchDataConfig(
    images=40, width=64, height=48, distinct=10, block=10, kill_images=80, scale_width=64
)


def test_speed_is_measured_against_bare_decoding(tmp_path: Path) -> None:
    found = measure_speed(SMALL, tmp_path / "speed")
    assert found.images == 40
    assert found.observe_convert_per_s > 0 and found.decode_per_s > 0
    assert found.validate_observe_convert_per_s < found.observe_convert_per_s
    assert not (tmp_path / "speed").exists()


@pytest.mark.campaign
def test_a_kill_loses_nothing_and_repeats_at_most_one_block(tmp_path: Path) -> None:
    bench = KillBench(SMALL, tmp_path)
    for number in range(runs(1, 40)):
        found = bench.measure(number)
        assert found.lost == 0
        assert found.most_repeated <= 1
        assert found.blocks == 8


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second measurement fails; a second run takes up the first one from the file."""
    calls: list[str] = []

    def speed(config: BenchDataConfig, folder: Path) -> SpeedResult:
        calls.append("speed")
        return SpeedResult(1, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)

    def scale(config: BenchDataConfig, folder: Path, count: int, compare: bool) -> ScaleRow:
        calls.append(f"scale {count}")
        if calls.count(f"scale {count}") == 1 and count == 20:
            raise KeyboardInterrupt
        return ScaleRow(count, count * 2.0, count * 1.0, 0.5, 100.0, 60.0, compare or None)

    monkeypatch.setattr(data_speed, "measure_speed", speed)
    monkeypatch.setattr(data_speed, "measure_scale", scale)
    config = replace(SMALL, small=10, large=20, kills=0)
    with pytest.raises(KeyboardInterrupt):
        bench_data(config, tmp_path)
    steps: list[tuple[int, int]] = []
    found = bench_data(config, tmp_path, lambda done, total: steps.append((done, total)))
    assert calls == ["speed", "scale 10", "scale 20", "scale 20"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert found.scale is not None and found.scale.same_bytes
    assert (found.scale.time_growth, found.scale.memory_growth) == (1.0, 1.0)
    bench_data(config, tmp_path)
    assert calls.count("speed") == 2  # a whole run leaves nothing to go on with


def test_processor_time_and_memory_of_ended_processes_count() -> None:
    program = "import time; kept = bytearray(64 << 20); end = time.process_time() + 0.5\n"
    program += "while time.process_time() < end: pass"
    with watched() as found:
        subprocess.run([sys.executable, "-c", program], check=True)
    assert 0.3 < found.cpu_seconds < 3
    assert found.largest_bytes > 64 << 20
