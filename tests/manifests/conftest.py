from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from crd_schemas import validators

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def known() -> dict[tuple[str, str], Any]:
    """Validators of KServe's CRDs, which lie beside the repository."""
    folder = REPOSITORY.parent / "shared" / "kserve-crds"
    if not folder.is_dir():
        pytest.skip("needs KServe's CRDs in ../shared/kserve-crds")
    found = validators(folder)
    if not found and os.environ.get("GEARSHIFT_REQUIRE_ALL") == "1":
        pytest.fail(f"{folder} holds no CRD")
    return found
