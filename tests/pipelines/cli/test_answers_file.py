"""What `stream --answers` and `edge run --answers` write while their disk is full."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_disk import filled, small_disk

from foundation.errors import StorageError
from pipelines.cli.answers_file import answers_file


def line(number: int) -> str:
    return json.dumps({"frame": number, "detections": ["é" * 400]}, ensure_ascii=False)


def test_every_line_is_there(tmp_path: Path) -> None:
    with answers_file(tmp_path / "answers.jsonl", pytest.fail) as write:
        for number in range(2000):  # more than is reserved at once
            write(line(number))
    text = (tmp_path / "answers.jsonl").read_text(encoding="utf-8")
    assert text == "".join(line(number) + "\n" for number in range(2000))


def test_an_interrupted_run_keeps_what_was_answered(tmp_path: Path) -> None:
    file, said = tmp_path / "answers.jsonl", list[str]()
    with pytest.raises(KeyboardInterrupt), answers_file(file, said.append) as write:
        write(line(0))
        write(line(1))
        raise KeyboardInterrupt
    assert file.read_text(encoding="utf-8").splitlines() == [line(0), line(1)]
    assert said == [f"2 answers are in {file}"]
    with pytest.raises(KeyboardInterrupt), answers_file(tmp_path / "none", said.append):
        raise KeyboardInterrupt
    assert not (tmp_path / "none").exists()


def test_a_full_disk_costs_the_lines_it_has_no_room_for_and_no_others(tmp_path: Path) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk") as disk:
        file = disk / "answers.jsonl"
        with (
            pytest.raises(StorageError, match=r"lacks 1,\d\d\d of 2,200 answers, for the disk was"),
            answers_file(file, said.append) as write,
        ):
            for number in range(100):
                write(line(number))
            with filled(disk):
                for number in range(100, 2100):
                    write(line(number))
            for number in range(2100, 2200):
                write(line(number))
        kept = [json.loads(text)["frame"] for text in file.read_text(encoding="utf-8").splitlines()]
    assert kept == sorted(set(kept)) and kept[:100] == list(range(100))
    assert kept[-100:] == list(range(2100, 2200))
    assert len(said) == 1 and "the disk is full" in said[0]


def test_a_disk_that_stays_full_keeps_what_was_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        file = disk / "answers.jsonl"
        with pytest.raises(StorageError, match="lacks"), answers_file(file, print) as write:
            for number in range(10_000):
                write(line(number))
        kept = file.read_text(encoding="utf-8").splitlines()
        assert len(kept) > 1000 and kept == [line(number) for number in range(len(kept))]
