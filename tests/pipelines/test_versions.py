"""Versions of what KFP's cache key cannot see."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from foundation.errors import ConfigurationError
from pipelines.ladder_files import ladder_files
from pipelines.versions import code_version, data_version, ladder_version


def test_the_data_version_follows_names_sizes_and_times(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    file = folder / "images" / "a.png"
    file.write_bytes(b"abc")
    first = data_version(str(folder))
    assert data_version(str(folder)) == first
    os.utime(file, (1, 1))
    second = data_version(str(folder))
    file = file.rename(folder / "images" / "b.png")
    third = data_version(str(folder))
    file = file.rename(folder / "b.png")
    fourth = data_version(str(folder))
    assert len({first, second, third, fourth}) == 4
    assert data_version(str(file)) != data_version(str(folder))


@pytest.mark.parametrize("source", ["", "https://example.test/coco.zip", "/no/such/place"])
def test_what_cannot_be_looked_at_stands_for_itself(source: str) -> None:
    assert data_version(source) == source


def test_the_code_version_follows_the_code_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.versions._ROOT", tmp_path)
    (tmp_path / "components").mkdir()
    file = tmp_path / "components" / "label.py"
    file.write_text("one = 1\n")
    (tmp_path / "README.md").write_text("text")
    first = code_version()
    assert re.fullmatch("[0-9a-f]{16}", first)
    (tmp_path / "README.md").write_text("another text")
    os.utime(file, (1, 1))
    assert code_version() == first
    file.write_text("one = 2\n")
    second = code_version()
    file.rename(file.with_name("other.py"))
    assert len({first, second, code_version()}) == 3


def test_the_ladder_version_follows_the_weights(tmp_path: Path) -> None:
    for rung in ("nano", "small", "large"):
        (tmp_path / f"{rung}.onnx").write_bytes(rung.encode())
    files = ladder_files(tmp_path)
    assert list(files) == ["nano", "small", "large"]
    first = ladder_version(files)
    (tmp_path / "small.onnx").write_bytes(b"other")
    assert ladder_version(files) != first


def test_a_ladder_without_a_rung_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nano.onnx").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"no small\.onnx, large\.onnx"):
        ladder_files(tmp_path)
