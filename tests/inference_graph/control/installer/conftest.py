from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster_world import World, running_world


@pytest.fixture(scope="session")
def kubectl_program() -> str:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("needs kubectl")
    return program


@pytest.fixture
def new_world(tmp_path: Path, kubectl_program: str) -> Iterator[Callable[[], World]]:
    """Makes clusters that have all that Gearshift needs, and nothing of it."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running_world(tmp_path))


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()
