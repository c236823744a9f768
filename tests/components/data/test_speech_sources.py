"""Folders of recordings: a text file beside each, and LibriSpeech's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.source_check import check_source
from feature_transformer.sound import SAMPLE_RATE, sound_of_frame, wav_of
from foundation.errors import AnnotationError


def tone(pitch: int, seconds: float = 0.5) -> np.ndarray:
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (9_000 * np.sin(2 * np.pi * pitch * times)).astype(np.int16)


def config(tmp_path: Path) -> IngestConfig:
    return IngestConfig(cache=str(tmp_path / "cache"), workers=1)


def test_a_text_file_beside_each_recording(tmp_path: Path) -> None:
    source = tmp_path / "own"
    (source / "anna").mkdir(parents=True)
    for number, text in enumerate(("Open the door.", "and\nclose it", "")):
        (source / "anna" / f"{number}.wav").write_bytes(wav_of(tone(300 + 200 * number)))
        (source / "anna" / f"{number}.txt").write_text(text)
    check_source(str(source))
    ingest(str(source), tmp_path / "data", config(tmp_path))
    data = load_dataset(tmp_path / "data")
    assert data.task == "speech"
    assert [data.text_of(index) for index in range(3)] == ["Open the door.", "and close it", ""]
    assert [(one.clip, one.frame_index) for one in data.images] == [("anna", n) for n in range(3)]
    np.testing.assert_array_equal(sound_of_frame(data.read(1)), tone(500))


def test_a_recording_without_a_transcript_is_named(tmp_path: Path) -> None:
    source = tmp_path / "own"
    source.mkdir()
    for name in ("a", "b"):
        (source / f"{name}.wav").write_bytes(wav_of(tone(400)))
    (source / "a.txt").write_text("hello")
    with pytest.raises(AnnotationError, match=r"b\.wav: has no transcript; write b\.txt beside it"):
        ingest(str(source), tmp_path / "data", config(tmp_path))


def test_librispeechs_layout_in_flac(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    chapter = tmp_path / "dev-clean" / "84" / "121123"
    chapter.mkdir(parents=True)
    for number in (0, 1):
        soundfile.write(chapter / f"84-121123-000{number}.flac", tone(400 + number), SAMPLE_RATE)
    (chapter / "84-121123.trans.txt").write_text(
        "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS THAN FIVE MINUTES\n"
    )
    check_source(str(tmp_path / "dev-clean"))
    ingest(str(tmp_path / "dev-clean"), tmp_path / "data", config(tmp_path))
    data = load_dataset(tmp_path / "data")
    assert [data.text_of(0), data.text_of(1)] == ["GO DO YOU HEAR", "BUT IN LESS THAN FIVE MINUTES"]
    assert {one.clip for one in data.images} == {"84/121123"}
    np.testing.assert_allclose(sound_of_frame(data.read(0)), tone(400), atol=2)
