"""Processes that use one ledger at the same time; each order that went wrong, step by step."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from experiment_samples import attempt, small_ledger, write

from components.experiments.launches import note_interrupted
from components.experiments.locks import attempt_lock, held
from foundation.errors import StorageError
from foundation.file_lock import file_lock

pytestmark = pytest.mark.usefixtures("no_shipped")


def test_what_another_process_adds_while_files_are_looked_through_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = small_ledger(tmp_path), small_ledger(tmp_path)
    look = one._files

    def looked() -> Any:
        found = look()
        if not other.known:
            other.new("mine", "")
        return found

    monkeypatch.setattr(one, "_files", looked)
    one.refresh()
    assert other.experiment("mine").name == "mine"


def test_two_runs_of_one_name_at_once_share_a_child_or_get_two(tmp_path: Path) -> None:
    write(tmp_path, "base")
    ledgers = [small_ledger(tmp_path) for _ in range(4)]
    start, made = threading.Barrier(4), []

    def run(number: int) -> None:
        start.wait()
        values = {"refine.timesteps": 1000 + number % 2}
        made.append(ledgers[number].child_for("base", "run", values, ["run"]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.name for one in made) == ["run", "run", "run-2", "run-2"]
    assert {tuple(one.changes.items()) for one in made if one.name == "run"} != {
        tuple(one.changes.items()) for one in made if one.name == "run-2"
    }


def test_who_asks_for_a_lock_s_holder_is_none(tmp_path: Path) -> None:
    lock, asking, asked = tmp_path / "lock", threading.Event(), threading.Event()

    def ask() -> None:
        with file_lock(lock):  # as `holder` does, on a busy machine
            asking.set()
            time.sleep(0.2)
        asked.set()

    thread = threading.Thread(target=ask)
    thread.start()
    asking.wait()
    with held(lock) as mine:
        assert mine and asked.is_set()
    thread.join()


def test_a_launch_that_ends_while_it_is_looked_at_is_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "base")
    running = attempt("base", state="running")
    one, other = small_ledger(tmp_path), small_ledger(tmp_path)
    one.index.put_attempts([running])
    known, launch = one.index.attempts, contextlib.ExitStack()
    launch.enter_context(held(attempt_lock(one.folder, "base.1")))

    def read(*question: Any) -> Any:
        found = known(*question)
        if not one.index._db.in_transaction:  # when the process of the launch can write its end
            other.index.put_attempts([replace(running, state="succeeded")])
            launch.close()
        return found

    monkeypatch.setattr(one.index, "attempts", read)
    note_interrupted(one)
    assert other.index.attempt("base.1").state == "succeeded"


def test_a_rebuild_that_fails_leaves_the_index_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "base")
    made, other = small_ledger(tmp_path), small_ledger(tmp_path)
    (made.folder / "seals.jsonl").touch()
    made.index.put_attempts([attempt("base")])

    def fail() -> Any:
        assert other.index.attempt("base.1")  # nobody sees it empty
        raise StorageError("MLflow is away")

    monkeypatch.setattr(made.records, "all", fail)
    with pytest.raises(StorageError, match="away"):
        made.rebuild()
    assert made.index.attempt("base.1") == other.index.attempt("base.1")
