"""A journal whose bits changed gives every row it still has, and reports what it has not."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from campaign import runs
from log_samples import row

from inference_graph.prediction_log.amendments import Amendment
from inference_graph.prediction_log.columns import AMENDED, PREDICTIONS, to_batch
from inference_graph.prediction_log.journal import Journal, JournalDamaged, read_journal, rewritten
from inference_graph.prediction_log.journal_format import HEAD_BYTES
from inference_graph.prediction_log.row import SCHEMA

ROWS = [["a0", "a1"], ["b0"], ["c0", "c1", "c2"], ["d0"]]
ALL = [key for frame in ROWS for key in frame]


def batch(keys: list[str], **fields: Any) -> pa.RecordBatch:
    return to_batch(PREDICTIONS, [row(key, rung="nano", **fields) for key in keys])


def amended(key: str, **fields: Any) -> pa.RecordBatch:
    return to_batch(AMENDED, [Amendment(key, fields)])


def written(path: Path, closed: bool = True) -> list[int]:
    """A journal of ``ROWS``; where each frame of rows begins."""
    journal, starts = Journal(path, SCHEMA), []
    for keys in ROWS:
        starts.append(journal.size)
        journal.append(batch(keys))
    if closed:
        journal.close()
    return starts


def version_1(path: Path) -> list[int]:
    """The same as the version before this one wrote it."""
    messages = [SCHEMA.serialize(), *(batch(keys).serialize() for keys in ROWS)]
    data, starts = b"GEARLOG1", []
    for message in messages:
        starts.append(len(data))
        data += struct.pack("<II", len(message), zlib.crc32(message)) + message.to_pybytes()
    path.write_bytes(data)
    return starts[1:]


def read(path: Path) -> tuple[list[str], JournalDamaged | None]:
    keys: list[str] = []
    try:
        for one in read_journal(path, ["event_id"]):
            keys += one.column(0).to_pylist()
    except JournalDamaged as damage:
        return keys, damage
    return keys, None


def chosen(data: bytes, heads: set[int]) -> Iterable[int]:
    """The bits of heads and some others; all in the full campaign."""
    every = range(8 * len(data))
    if runs(0, 1):
        return every
    return sorted({*random.Random(5).sample(every, 150), *(bit for bit in heads if bit in every)})


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """The file with one other bit; in place, for a disk takes its time to replace one."""
    with path.open("r+b", buffering=0) as file:
        file.seek(bit // 8)
        (before,) = file.read(1)
        for value in (before ^ 1 << bit % 8, before):
            file.seek(bit // 8)
            file.write(bytes([value]))
            if value != before:
                yield


@pytest.mark.campaign
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_no_flipped_bit_loses_a_row_in_silence(tmp_path: Path, closed: bool) -> None:
    """Every bit in the full campaign; each costs its frame at most, and the cost is named."""
    path = tmp_path / "a.journal"
    starts = written(path, closed)
    data = path.read_bytes()
    heads = {8 * at + bit for at in (0, *starts, len(data) - HEAD_BYTES) for bit in range(320)}
    some = set(random.Random(5).sample(range(8 * len(data)), 500)) | heads
    bits = (
        range(8 * len(data)) if runs(0, 1) else sorted(bit for bit in some if bit < 8 * len(data))
    )
    for bit in bits:
        with flipped(path, bit):
            found, damage = read(path)
        hit = [keys for keys, at in zip(ROWS, starts, strict=True) if at <= bit // 8]
        left = [key for key in ALL if key not in hit[-1]] if hit else ALL
        assert found in (ALL, left), bit
        assert damage is not None, bit
        lost = len(ALL) - len(found)
        assert damage.rows == lost if damage.exact else damage.rows <= lost, bit
        # What the last thing in the file was cannot be known.
        assert damage.exact or bit // 8 >= (len(data) - HEAD_BYTES if closed else starts[-1]), bit


@pytest.mark.campaign
def test_no_flipped_bit_of_the_version_before_loses_a_row_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    starts = version_1(path)
    data = path.read_bytes()
    assert read(path) == (ALL, None)
    for bit in chosen(data, {8 * at + bit for at in (0, 8, *starts[::2]) for bit in range(64)}):
        with flipped(path, bit):
            found, damage = read(path)
        hit = [keys for keys, at in zip(ROWS, starts, strict=True) if at <= bit // 8]
        left = [key for key in ALL if key not in hit[-1]] if hit else []  # without its schema: none
        assert damage is not None and found in (ALL, left), bit


def whole_sector(data: bytes, starts: list[int]) -> bytes:
    return data[: starts[1]] + bytes(starts[2] - starts[1]) + data[starts[2] :]


def cut_out(data: bytes, starts: list[int]) -> bytes:
    return data[: starts[1]] + data[starts[2] :]


def put_in(data: bytes, starts: list[int]) -> bytes:
    return data[: starts[1]] + b"\xf5\xfeGEAR\r\n" * 20 + data[starts[1] :]


@pytest.mark.parametrize(
    ("harm", "lost"), [(whole_sector, ["b0"]), (cut_out, ["b0"]), (put_in, [])]
)
def test_other_damage(
    tmp_path: Path, harm: Callable[[bytes, list[int]], bytes], lost: list[str]
) -> None:
    path = tmp_path / "a.journal"
    starts = written(path)
    path.write_bytes(harm(path.read_bytes(), starts))
    found, damage = read(path)
    assert found == [key for key in ALL if key not in lost]
    if lost or damage is not None:
        assert damage is not None and (damage.rows, damage.exact) == (len(lost), True)


def test_the_death_of_a_writer_is_no_damage(tmp_path: Path) -> None:
    """Cut short at any byte, and what a power cut may leave: zeros to the end of a block."""
    path = tmp_path / "a.journal"
    starts = written(path, closed=False)
    data = path.read_bytes()
    ends = [*starts[1:], len(data)]
    for cut in [*range(12), *range(starts[0] - 3, len(data) + 1, 7), *starts, len(data)]:
        path.write_bytes(data[:cut])
        whole = [key for keys, end in zip(ROWS, ends, strict=True) if end <= cut for key in keys]
        assert read(path) == (whole, None), cut
    path.write_bytes(data[: starts[2]] + bytes(500))
    assert read(path) == (["a0", "a1", "b0"], None)


def test_something_else_is_reported_and_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    for content in (b"x" * 1000, b"GEARLOG1" + b"x" * 1000, b"GEARLOG2" + b"x" * 1000):
        path.write_bytes(content)
        found, damage = read(path)
        assert found == [] and damage is not None and not damage.exact


def inflating(codec: str) -> pa.Buffer:
    """A message that Arrow compressed: only itself states how far it inflates."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_batch(batch([f"e{number}" for number in range(2000)]))
    _, message = pa.ipc.MessageReader.open_stream(pa.BufferReader(sink.getvalue()))
    return message.serialize()


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_what_inflates_by_arrow_is_not_read(tmp_path: Path, codec: str) -> None:
    message, schema = inflating(codec), SCHEMA.serialize()
    path = tmp_path / "a.journal"
    path.write_bytes(
        b"GEARLOG1"
        + b"".join(
            struct.pack("<II", len(one), zlib.crc32(one)) + one.to_pybytes()
            for one in (schema, message)
        )
    )
    found, damage = read(path)
    assert found == [] and damage is not None


class TestAmendments:
    def test_are_in_the_rows(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "a.journal", SCHEMA)
        journal.append(batch(["a0", "a1"], blur=1.0))
        journal.amend(amended("a1", blur=2.0, image=b"JPEG", observation=[3.0]))
        journal.append(batch(["b0"]))
        shadow = {"shadow_boxes": [[1, 2, 3, 4]], "shadow_scores": [0.5], "shadow_labels": [7]}
        journal.amend(amended("a0", shadow=True, agreement=0.25, **shadow))
        journal.amend(amended("nobody", blur=9.0))
        wanted = ["event_id", "blur", "image_kept", "shadow", "agreement", "shadow_labels"]
        rows = [one for part in read_journal(journal.path, wanted) for one in part.to_pylist()]
        assert [list(one.values()) for one in rows] == [
            ["a0", 1.0, False, True, 0.25, [7]],
            ["a1", 2.0, True, False, None, []],
            ["b0", None, False, False, None, []],
        ]
        whole = [one for part in read_journal(journal.path) for one in part.to_pylist()]
        assert (whole[1]["image"], whole[1]["observation"]) == (b"JPEG", [3.0])
        assert all(part.schema == SCHEMA for part in read_journal(journal.path))
        # The same rows in a file without any, as a device sends it.
        sent = tmp_path / "sent.journal"
        sent.write_bytes(rewritten(journal.path))
        assert sent.read_bytes() == rewritten(journal.path) == rewritten(sent)
        assert [one for part in read_journal(sent) for one in part.to_pylist()] == whole

    def test_a_damaged_one_costs_no_row(self, tmp_path: Path) -> None:
        path = tmp_path / "a.journal"
        journal = Journal(path, SCHEMA)
        journal.append(batch(["a0"]))
        at = journal.size
        journal.amend(amended("a0", blur=2.0))
        journal.append(batch(["b0"]))
        journal.close()
        for bit in (8 * at + 3, 8 * (at + HEAD_BYTES + 40)):
            with flipped(path, bit):
                found, damage = read(path)
            assert found == ["a0", "b0"]
            assert damage is not None and (damage.rows, damage.exact) == (0, True)
