from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from foundation.errors import ConfigurationError, ImageError, StorageError
from foundation.path_roles import RESULT_FILE, GivenPath, claimed
from foundation.storage import atomic_path, sha256_file


def test_a_file_appears_whole_under_its_final_name(tmp_path: Path) -> None:
    final = tmp_path / "new" / "clip.mp4"
    with atomic_path(final) as temporary:
        assert temporary.parent == final.parent
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"half")
        assert not final.exists()
    assert final.read_bytes() == b"half"
    assert [path.name for path in final.parent.iterdir()] == ["clip.mp4"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    final = tmp_path / "report.json"
    final.write_text("old")
    with atomic_path(final) as temporary:
        temporary.write_text("new")
        assert final.read_text() == "old"
    assert final.read_text() == "new"


def test_a_folder_replaces_a_folder_that_holds_something(tmp_path: Path) -> None:
    final = tmp_path / "dataset"
    final.mkdir()
    (final / "old.txt").write_text("old")
    with atomic_path(final) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
    assert [path.name for path in final.iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize("failure", [ImageError("bad"), KeyboardInterrupt(), OSError("other")])
def test_a_failure_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    final = tmp_path / "report.json"
    final.write_text("old")
    with pytest.raises(type(failure)), atomic_path(final) as temporary:
        temporary.write_text("half")
        raise failure
    assert final.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_failed_folder_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ImageError), atomic_path(tmp_path / "data") as temporary:
        (temporary / "images").mkdir(parents=True)
        raise ImageError("bad")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    final = tmp_path / "big.bin"
    with pytest.raises(StorageError, match="disk is full") as caught, atomic_path(final) as path:
        path.write_bytes(b"part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(final) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_device_that_is_truly_full(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="disk is full"), atomic_path(tmp_path / "x") as path:
        path.symlink_to("/dev/full")
        path.write_bytes(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_input_is_not_called_a_storage_failure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        (tmp_path / "input.json").read_text()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a place that takes no file")
def test_a_place_that_takes_no_file_is_named_not_its_temporary() -> None:
    final = Path("/proc/rules.yaml")
    refused = r"^cannot write /proc/rules.yaml: No such file"
    with pytest.raises(StorageError, match=refused), atomic_path(final) as temporary:
        temporary.write_bytes(b"")
    given = [GivenPath("--out", RESULT_FILE, str(final))]
    early = r"^--out /proc/rules.yaml cannot be written, for nothing can be written to /proc \(No "
    with pytest.raises(ConfigurationError, match=early), claimed("rules", given):
        pytest.fail("the verb works for nothing")


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing was written"), atomic_path(tmp_path / "x"):
        pass


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    final = tmp_path / "file" / "x"
    with pytest.raises(StorageError, match="choose another place"), atomic_path(final):
        pass


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_file(path) == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    path.write_bytes(bytes(3_000_000))
    assert sha256_file(path) == hashlib.sha256(bytes(3_000_000)).hexdigest()
    with pytest.raises(StorageError, match="cannot read"):
        sha256_file(tmp_path / "missing")
