"""Documents drawn from a seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.tasks.ocr.documents import CONDITIONS, KINDS, DocumentsConfig, write_documents

pytest.importorskip("PIL")


def test_a_seed_draws_the_same_documents_and_ingest_reads_them(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_documents(DocumentsConfig(clips=4, clip_frames=2, seed=seed), tmp_path / name)
    contents = {
        name: [file.read_bytes() for file in sorted((tmp_path / name).rglob("*.*"))]
        for name in "abc"
    }
    assert contents["a"] == contents["b"] != contents["c"]
    cache = str(tmp_path / "cache")
    summary = ingest(str(tmp_path / "a"), tmp_path / "data", IngestConfig(cache=cache, workers=1))
    data = load_dataset(tmp_path / "data")
    assert (data.task, len(data), summary.dropped) == ("ocr", 8, {})
    assert all(data.text_of(index) for index in range(8))
    assert [len(clip.indexes) for clip in data.clips] == [2, 2, 2, 2]
    assert {image.condition for image in data.images} <= set(CONDITIONS)
    assert {str(clip.name).partition("-")[0] for clip in data.clips} <= set(KINDS)
    written = json.loads((tmp_path / "a" / "annotations.json").read_text())
    assert data.text_of(0).split() == [
        word
        for row in written["annotations"]
        if row["image_id"] == 1
        for word in row["text"].split()
    ]
