"""Key pairs and a trust file in this test's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.signing.keys import PrivateKey, new_key, read_private_key


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], tuple[PrivateKey, Path]]:
    def make(name: str) -> tuple[PrivateKey, Path]:
        private, public = new_key(name, tmp_path / "keys")
        return read_private_key(private), public

    return make


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    return tmp_path / "trust.json"
