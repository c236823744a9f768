"""A JSON object read element by element is what the whole parser reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.data import json_stream
from components.data.json_stream import elements

PAYLOAD: dict[str, Any] = {
    "info": {"text": 'é "]}\\', "deep": [1, [2, {"three": None}]]},
    "version": -12.5e-3,
    "images": [{"id": n, "name": f"{n}\u2028"} for n in range(5)],
    "none": [],
    "numbers": [1, 22, 333.25, True, "ü", [[]]],
}


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in elements(file):
        if one.place >= 0:
            assert one.place == len(found[one.key])
            assert json.loads(one.text) == one.value
            found[one.key].append(one.value)
        else:
            found[one.key] = one.value if one.text else []
    return found


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_every_cut_of_the_file_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    file = tmp_path / "a.json"
    text = json.dumps(PAYLOAD, ensure_ascii=False, indent=indent)
    file.write_text(f"\ufeff {text}\n", encoding="utf-8")
    assert read(file) == PAYLOAD


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2',
        '{"a": [1 2]}',
        '{"a" 1}',
        '{"a": [1,]}',
        "{'a': 1}",
        '{"a": 1} x',
        "",
        '{"a": "',
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        read(tmp_path / "a.json")


def test_json_that_is_no_object_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    assert read(tmp_path / "a.json") == {}


def test_an_element_without_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_LARGEST", 1000)
    monkeypatch.setattr(json_stream, "_CHUNK", 100)
    (tmp_path / "a.json").write_text('{"images": ["' + "x" * 5000 + '"]}')
    with pytest.raises(ValueError, match="more than 1000 characters"):
        read(tmp_path / "a.json")
