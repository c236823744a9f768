from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.errors import StorageError
from foundation.file_lock import file_lock, try_file_lock, try_lock

_HOLD = """
import sys, time
from pathlib import Path
from foundation.file_lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with try_file_lock(path) as stream:
            assert stream is None
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with try_file_lock(path) as stream:
            assert stream is not None


def test_a_folder_can_be_locked_too(tmp_path: Path) -> None:
    handles = [os.open(tmp_path, os.O_RDONLY) for _ in range(2)]
    assert [try_lock(handle) for handle in handles] == [True, False]
    os.close(handles[0])
    assert try_lock(handles[1])
    os.close(handles[1])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="cannot write .*file/lock"),
        file_lock(tmp_path / "file" / "lock"),
    ):
        pass
