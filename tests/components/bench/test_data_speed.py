"""The bench of the data stages, and runs that are killed at random moments."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign import runs

from components.bench.data_speed import BenchDataConfig, measure_kills, measure_speed

SMALL = BenchDataConfig(
    images=40, width=64, height=48, distinct=10, block=10, kill_images=80, scale_width=64
)


def test_speed_is_measured_against_bare_decoding(tmp_path: Path) -> None:
    found = measure_speed(SMALL, tmp_path / "speed")
    assert found.images == 40
    assert found.observe_convert_per_s > 0 and found.decode_per_s > 0
    assert not (tmp_path / "speed").exists()


@pytest.mark.campaign
def test_a_kill_loses_nothing_and_repeats_at_most_one_block(tmp_path: Path) -> None:
    from dataclasses import replace

    found = measure_kills(replace(SMALL, kills=runs(1, 40)), tmp_path)
    assert found.lost == 0
    assert found.most_repeated <= 1
    assert found.blocks == 8
