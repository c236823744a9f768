from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_server import bare
from crd_schemas import problems, validators

REPOSITORY = Path(__file__).resolve().parents[2]


CRDS = REPOSITORY.parent / "shared" / "kserve-crds"


@pytest.fixture(scope="session")
def complain(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], list[str]]:
    """What KServe would refuse of a document; where its CRDs are missing, nothing."""
    if not CRDS.is_dir():
        return lambda document: []
    known = request.getfixturevalue("known")
    return lambda document: problems(bare(document), known)


@pytest.fixture(scope="session")
def known() -> dict[tuple[str, str], Any]:
    """Validators of KServe's CRDs, which lie beside the repository."""
    folder = CRDS
    if not folder.is_dir():
        pytest.skip("needs KServe's CRDs in ../shared/kserve-crds")
    found = validators(folder)
    if not found and os.environ.get("GEARSHIFT_REQUIRE_ALL") == "1":
        pytest.fail(f"{folder} holds no CRD")
    return found
