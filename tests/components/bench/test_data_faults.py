"""Planted faults are found, and nothing else: precision and recall of each kind."""

from __future__ import annotations

from pathlib import Path

from components.bench.data_faults import fault_table
from components.data.ingest import IngestConfig, ingest
from components.scenes.writer import ScenesConfig, write_scenes


def test_planted_faults_are_found_and_nothing_else(tmp_path: Path) -> None:
    scenes = ScenesConfig(frames=60, width=320, height=240, condition="mixed", seed=11)
    write_scenes(scenes, tmp_path / "scenes")
    ingest(str(tmp_path / "scenes"), tmp_path / "data", IngestConfig(cache=str(tmp_path / "cache")))
    rows = fault_table(tmp_path / "data", share=0.2)
    assert len(rows) == 19
    for row in rows:
        assert row.planted and row.precision >= 0.95 and row.recall >= 0.95, row
