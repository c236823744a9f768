from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from components.experiments.locks import held
from foundation.errors import StorageError
from foundation.file_lock import file_lock, sign_lock, try_file_lock, try_lock
from foundation.json_lines import appending, continuing
from inference_graph.control.embedded.running import only_platform
from inference_graph.control.rollout.state import controlling
from inference_graph.control.triggers.launch import Slot
from inference_graph.prediction_log.intake import incoming
from inference_graph.prediction_log.log_config import LogConfig
from inference_graph.prediction_log.writer import PredictionLog

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


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EACCES, errno.EBADF])
@pytest.mark.parametrize(
    "hold",
    [
        file_lock,
        try_file_lock,
        appending,
        lambda path: continuing(path, 99),
        held,
        lambda path: held(path, wait=True),
        lambda path: Slot(path.parent),
        lambda path: only_platform(path.parent),
        lambda path: controlling(path.parent),
        lambda path: incoming(PredictionLog(LogConfig(str(path.parent)))),
    ],
)
def test_a_disk_without_locks_is_named_in_one_line(
    hold: Callable[[Path], AbstractContextManager[Any]],
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(StorageError, match=f"cannot write .*{os.strerror(number)}; choose") as met,
        hold(tmp_path / "lock"),
    ):
        pass
    assert "\n" not in str(met.value) and str(tmp_path) in str(met.value)


def test_a_full_disk_is_named_where_the_holder_leaves_word(tmp_path: Path) -> None:
    with (
        open("/dev/full", "r+b", buffering=0) as full,
        pytest.raises(StorageError, match="cannot write .*lock: "),
    ):
        sign_lock(full, tmp_path / "lock", b"1")
