from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from components.data.archive import ArchiveLimits, unpack
from foundation.errors import InvalidInput


def pack(file: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file


def test_images_and_annotations_are_unpacked_once(tmp_path: Path) -> None:
    entries = {
        "set/annotations.json": b"{}",
        "set/images/a.JPG": b"picture",
        "set/readme.txt": b"text",
        "__MACOSX/set/a.jpg": b"noise",
    }
    seen: list[tuple[int, int]] = []
    archive = pack(tmp_path / "a.zip", entries)
    folder = unpack(archive, tmp_path / "cache", progress=lambda d, t: seen.append((d, t)))
    files = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
    assert files == ["set/annotations.json", "set/images/a.JPG", "set/readme.txt"]
    assert (folder / "set/images/a.JPG").read_bytes() == b"picture"
    assert seen == [(2, 13), (9, 13), (13, 13)]
    assert unpack(archive, tmp_path / "cache") == folder
    assert len(seen) == 3


def test_an_entry_longer_than_file_systems_allow_is_named_as_such(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", {"good.json": b"{}", "a" * 5000: b"{}"})
    with pytest.raises(InvalidInput, match="is longer than 255 bytes"):
        unpack(archive, tmp_path / "cache")
    assert [f.name for f in tmp_path.rglob("*.json")] == []


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "a/../../evil.json"])
def test_entries_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "a.zip", {"good.json": b"{}", name: b"{}"})
    with pytest.raises(InvalidInput, match="leaves the folder"):
        unpack(archive, tmp_path / "cache")
    assert [f.name for f in tmp_path.rglob("*.json")] == []


def test_links_are_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("images/link.jpg")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(InvalidInput, match="is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "cache")


def test_bombs_are_refused(tmp_path: Path) -> None:
    bomb = pack(tmp_path / "bomb.zip", {"annotations.json": bytes(80 << 20)})
    with pytest.raises(InvalidInput, match="would unpack to 83886080, more than is allowed"):
        unpack(bomb, tmp_path / "cache")
    plain = pack(tmp_path / "plain.zip", {"a.json": b"x" * 2000, "b.json": b"y" * 2000})
    with pytest.raises(InvalidInput, match="would unpack to 4000"):
        unpack(plain, tmp_path / "cache", ArchiveLimits(max_bytes=3000))
    with pytest.raises(InvalidInput, match="has 2 entries"):
        unpack(plain, tmp_path / "cache", ArchiveLimits(max_files=1))


def test_an_entry_that_lies_about_its_size(tmp_path: Path) -> None:
    """The directory declares 10 bytes where 2000 are packed: never more than declared comes out."""
    archive = pack(tmp_path / "a.zip", {"a.json": b"x" * 2000})
    data = bytearray(archive.read_bytes())
    for place in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(InvalidInput, match="no readable zip"):
        unpack(archive, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_damage_is_named(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", {"a.json": bytes(range(256)) * 20}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[1000] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(InvalidInput, match="no readable zip"):
        unpack(archive, tmp_path / "cache")
    archive.write_bytes(data[:2000])
    with pytest.raises(InvalidInput, match="no readable zip"):
        unpack(archive, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_encrypted_and_repeated_entries(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", {"a.json": b"{}"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(InvalidInput, match="encrypted"):
        unpack(archive, tmp_path / "cache")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as twice, pytest.warns(UserWarning):
        twice.writestr("a.json", "{}")
        twice.writestr("a.json", "[]")
    with pytest.raises(InvalidInput, match="occurs twice"):
        unpack(tmp_path / "b.zip", tmp_path / "cache")
