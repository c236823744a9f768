from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import environment

from foundation.audit_log import (
    START,
    AuditLog,
    audit_of_environment,
    operator,
    read_entries,
    verify,
)
from foundation.errors import InvalidInput, StorageError

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
FIGURES = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=64) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    ).filter(lambda value: "Infinity" not in json.dumps(value)),
    max_size=3,
)


def log_of(folder: Path, count: int) -> AuditLog:
    log = AuditLog(folder / "audit.jsonl")
    for number in range(1, count + 1):
        log.record("anna", "token.add", f"robot-{number}", {"n": number})
    return log


def test_an_entry_has_its_stated_content(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "there" / "audit.jsonl")
    first = log.record("anna@desk", "policy.swap", "3f2a", {"share": 0.05}, NOON)
    second = log.record("rules", "trigger.launch", now=NOON)
    # The digest, by hand: the other fields as JSON, sorted, without blanks.
    text = (
        '{"about":"3f2a","figures":{"share":0.05},"number":1,"previous":"' + "0" * 64 + '",'
        '"time":"2026-05-04T12:00:00+00:00","what":"policy.swap","who":"anna@desk"}'
    )
    assert first.digest == hashlib.sha256(text.encode()).hexdigest()
    assert (first.previous, second.previous) == (START, first.digest)
    assert first.anchor == f"1:{first.digest}"
    assert read_entries(log.path) == [first, second]
    found = verify(log.path)
    assert (found.sound, found.entries, found.head, found.cut) == (True, 2, second.anchor, 0)


@pytest.mark.parametrize("left", [None, b"", b'{"number": 1, "ti'])
def test_a_log_that_is_missing_or_emptied_does_not_hold(tmp_path: Path, left: bytes | None) -> None:
    log = log_of(tmp_path, 2)
    anchor = verify(log.path).head
    log.path.unlink()
    if left is not None:
        log.path.write_bytes(left)
    found = verify(log.path)
    assert (found.sound, found.entries, found.head) == (False, 0, "")
    (breach,) = found.breaches
    assert ("is missing" if left is None else "has no entry") in breach
    assert "entry 2 of an anchor is missing" in verify(log.path, [anchor]).breaches[1]
    assert read_entries(log.path) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, FIGURES), min_size=1, max_size=4))
def test_whatever_is_reported_can_be_proven(reported: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = AuditLog(Path(folder) / "a.jsonl")
        entries = [log.record("anna", "x", about, figures) for about, figures in reported]
        assert read_entries(log.path) == entries
        assert verify(log.path, [one.anchor for one in entries]).sound


def test_figures_are_those_that_json_gives_back(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "a.jsonl")
    entry = log.record("anna", "x", figures={10: (1, 2), 9: "b"})  # type: ignore[dict-item]
    assert entry.figures == {"10": [1, 2], "9": "b"}
    assert verify(log.path).sound


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_line_can_be_edited_deleted_inserted_or_moved(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = log_of(Path(folder), 6)
        lines = log.path.read_bytes().splitlines(keepends=True)
        head = verify(log.path).head
        kind = data.draw(st.sampled_from(("edit", "forge", "delete", "copy", "swap", "cut")))
        at = data.draw(st.integers(0, 5))
        if kind == "edit":
            line = json.loads(lines[at])
            name = data.draw(st.sampled_from(sorted(line)))
            line[name] = line[name] + 1 if name == "number" else "other"
            lines[at] = json.dumps(line).encode() + b"\n"
        elif kind == "forge":  # its own digest is right again, but the next entry knows the old one
            line = {**json.loads(lines[at]), "who": "nobody"}
            del line["digest"]
            text = json.dumps(line, sort_keys=True, separators=(",", ":"))
            line["digest"] = hashlib.sha256(text.encode()).hexdigest()
            lines[at] = json.dumps(line).encode() + b"\n"
        elif kind == "delete":
            del lines[at]
        elif kind == "copy":
            lines.insert(data.draw(st.integers(0, 6)), lines[at])
        elif kind == "swap":
            other = data.draw(st.integers(0, 5).filter(lambda index: index != at))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            del lines[at:]
        log.path.write_bytes(b"".join(lines))
        assert not verify(log.path, [head]).sound
        # Without an anchor, only what touches the end alone goes unseen; an empty log does not.
        at_the_end = (kind in ("delete", "forge") and at == 5) or (kind == "cut" and at > 0)
        assert verify(log.path).sound == at_the_end


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = log_of(Path(folder), 3)
        head = verify(log.path).head
        content = bytearray(log.path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        log.path.write_bytes(content)
        assert not verify(log.path, [head]).sound


def test_blanks_and_names_that_come_twice_are_changes(tmp_path: Path) -> None:
    log = log_of(tmp_path, 1)
    sound = log.path.read_bytes()
    for changed in (
        sound.replace(b'"who": ', b'"who":'),
        sound.replace(b'{"number"', b'{"who": "eve", "number"'),
        sound.replace(b'"anna"', b'"\\u0061nna"'),
        sound.replace(b"\n", b"\n\n"),
    ):
        assert changed != sound
        log.path.write_bytes(changed)
        assert not verify(log.path).sound


def test_the_place_of_a_breach_is_named(tmp_path: Path) -> None:
    log = log_of(tmp_path, 4)
    lines = log.path.read_bytes().splitlines(keepends=True)
    anchors = [entry.anchor for entry in read_entries(log.path)]
    log.path.write_bytes(b"".join([lines[0], lines[1].replace(b"robot-2", b"robot-9"), *lines[2:]]))
    assert verify(log.path).breaches == ("line 2: entry 2 was changed",)
    log.path.write_bytes(lines[0] + lines[2] + lines[3])
    assert verify(log.path).breaches == ("line 2: entry 3 stands where 2 belongs",)
    log.path.write_bytes(b"".join([lines[0], b"x\n", *lines[2:]]))
    assert verify(log.path).breaches[0] == "line 2 is no audit entry"
    log.path.write_bytes(lines[0])
    assert verify(log.path, anchors[2:3]).breaches == (
        "entry 3 of an anchor is missing: the log was cut off",
    )
    other = log_of(tmp_path / "other", 4)
    assert verify(other.path).sound
    assert verify(other.path, anchors[2:3]).breaches == (
        "entry 3 is not the one of the anchor: the log was rewritten",
    )
    with pytest.raises(InvalidInput, match="no anchor"):
        verify(log.path, ["3"])


def test_an_append_that_a_crash_cut_short_is_reported_and_replaced(tmp_path: Path) -> None:
    log = log_of(tmp_path, 2)
    with log.path.open("ab") as stream:
        stream.write(b'{"number": 3, "ti')
    found = verify(log.path)
    assert (found.sound, found.entries, found.cut) == (True, 2, 17)
    assert len(read_entries(log.path)) == 2
    assert log.record("anna", "x").number == 3
    assert (verify(log.path).entries, verify(log.path).cut) == (3, 0)


def test_an_append_reads_the_end_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(tmp_path, 1)
    last = log.path.read_bytes()
    # A long log in front of the last line, on a disk that keeps no zeros.
    with log.path.open("wb") as stream:
        stream.truncate(1 << 33)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + last)
    assert log.record("anna", "x").number == 2
    log.path.unlink()
    log.path.write_bytes(b"x" * 200_000 + b"\n")
    with pytest.raises(InvalidInput, match="ends with no line of 65536 bytes"):
        log.record("anna", "x")
    log.path.write_bytes(b'{"a": 1}\n')
    with pytest.raises(InvalidInput, match="no audit entry"):
        log.record("anna", "x")
    log.path.write_bytes(b"[\n")
    with pytest.raises(InvalidInput, match="the last line is no JSON object"):
        log.record("anna", "x")


def test_processes_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = (
        "import sys; from pathlib import Path\n"
        "from foundation.audit_log import AuditLog\n"
        "for n in range(40): AuditLog(Path(sys.argv[1])).record('p', 'x', str(n))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen(command, env=environment()) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    found = verify(path)
    assert (found.sound, found.entries) == (True, 120)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"who": ""}, "who is"),
        ({"who": "a\nb"}, "who is"),
        ({"what": "Swap it"}, "what is"),
        ({"about": "x" * 301}, "301 characters"),
        ({"about": "\ud800"}, "no JSON"),
        ({"figures": {"a": float("nan")}}, "no JSON"),
        ({"figures": {"a": object()}}, "no JSON"),
        ({"figures": {"a": "x" * 70_000}}, "65536 fit"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    tmp_path: Path, given_: dict[str, Any], message: str
) -> None:
    log = AuditLog(tmp_path / "a.jsonl")
    with pytest.raises(InvalidInput, match=message):
        log.record(**({"who": "anna", "what": "x"} | given_))
    assert not log.path.exists() or not log.path.read_bytes()


def test_a_place_that_cannot_be_written_stops_the_act(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        AuditLog(tmp_path / "file" / "a.jsonl").record("anna", "x")
    with pytest.raises(StorageError):
        verify(tmp_path)


def test_the_environment_states_where_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSHIFT_AUDIT", "/a/b.jsonl")
    monkeypatch.setenv("GEARSHIFT_WHO", "anna")
    assert (audit_of_environment().path, operator()) == (Path("/a/b.jsonl"), "anna")
    monkeypatch.delenv("GEARSHIFT_AUDIT")
    monkeypatch.delenv("GEARSHIFT_WHO")
    assert audit_of_environment().path == Path("runs/audit.jsonl")
    assert "@" in operator()
