"""Named pipes in place of files are refused at once, wherever a file of the product is opened."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.experiments.journal import JOURNAL_FILE, read_journal
from foundation.audit_log import AuditLog, read_entries
from foundation.errors import StorageError
from foundation.file_lock import file_lock, try_file_lock
from foundation.json_lines import appending, read_lines
from foundation.regular_file import open_regular
from foundation.storage import read_bytes, sha256_file


def _entered(block: Callable[[Path], contextlib.AbstractContextManager[Any]]) -> Any:
    def enter(path: Path) -> None:
        with block(path):
            pytest.fail("it was opened")

    return enter


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "use",
    [
        read_bytes,
        sha256_file,
        read_lines,
        read_entries,
        lambda path: AuditLog(path).record("anna", "policy.swap"),
        lambda path: read_journal(path.parent),
        _entered(file_lock),
        _entered(try_file_lock),
        _entered(appending),
    ],
)
def test_a_pipe_is_refused_at_once(tmp_path: Path, use: Callable[[Path], Any]) -> None:
    pipe = tmp_path / JOURNAL_FILE
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match=f"{pipe}: it is no regular file"):
        use(pipe)


def test_files_folders_links_and_what_is_missing_are_as_open_has_them(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(FileNotFoundError):
        open_regular(file)
    with open_regular(link, "a+b", 0) as stream:
        stream.write(b"new")
    with open_regular(link) as stream:
        assert stream.read() == b"new"
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(OSError, match="no regular file"):
        open_regular(Path("/dev/zero"))
