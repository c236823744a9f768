from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

from foundation.errors import InvalidInput, StorageError
from foundation.json_lines import appending, read_lines


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "there" / "a.jsonl"
    assert read_lines(path) == []
    with appending(path) as (lines, append):
        assert lines == []
        append({"a": 1})
        append({"b": "é\n"})
    assert read_lines(path) == [{"a": 1}, {"b": "é\n"}]
    with appending(path) as (lines, _):
        assert lines == [{"a": 1}, {"b": "é\n"}]
    assert len(path.read_bytes().splitlines()) == 2


def test_a_line_cut_short_is_passed_over_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    assert read_lines(path) == [{"a": 1}]
    with appending(path) as (lines, append):
        assert lines == [{"a": 1}]
        append({"c": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"c": 3}\n'
    path.write_bytes(b'{"a')
    assert read_lines(path) == []
    with appending(path) as (_, append):
        append({"d": 4})
    assert path.read_bytes() == b'{"d": 4}\n'


@pytest.mark.parametrize(
    "text", [b"x\n", b"[1]\n", b'{"a": 1}\n\n', b"\xff\n", b"[" * 9999 + b"\n"]
)
def test_a_damaged_line_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text)
    with pytest.raises(InvalidInput, match=r"a.jsonl line \d is no JSON object"):
        read_lines(path)
    with pytest.raises(InvalidInput), appending(path):
        pass
    assert path.read_bytes() == text


def test_processes_take_turns(tmp_path: Path) -> None:
    """Each counts up from the last line; without the lock, counts would be lost."""
    path = tmp_path / "a.jsonl"
    code = (
        "import sys; from pathlib import Path\n"
        "from foundation.json_lines import appending\n"
        "for _ in range(50):\n"
        "    with appending(Path(sys.argv[1])) as (lines, append):\n"
        "        append({'n': lines[-1]['n'] + 1 if lines else 1})\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen(command, env=environment()) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert [line["n"] for line in read_lines(path)] == list(range(1, 151))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StorageError, match="choose another place"),
        appending(tmp_path / "file" / "a.jsonl"),
    ):
        pass
    with pytest.raises(StorageError, match="check the path"):
        read_lines(tmp_path)


def test_a_value_that_json_does_not_know_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with appending(path) as (_, append), pytest.raises(ValueError):
        append({"a": float("nan")})
    assert json.dumps(read_lines(path)) == "[]"
