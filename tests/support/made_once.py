"""Work that modules share, done once in a run of the tests, by whichever worker comes first."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from foundation.file_lock import file_lock

_Made = TypeVar("_Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], _Made]) -> _Made:
    """Return what ``make`` returned for a folder; workers of pytest-xdist wait for each other.

    Args:
        factory: of the run.
        name: of the folder.
        make: writes into the folder; what it returns can be pickled. No test changes it.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, stored = base / f"once-{name}", base / f"once-{name}.pickle"
    with file_lock(base / f"once-{name}.lock"):
        if not stored.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
            folder.mkdir()
            stored.write_bytes(pickle.dumps(make(folder)))
        made: _Made = pickle.loads(stored.read_bytes())
    return made
