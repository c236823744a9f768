"""A whole cluster for the session, but for containers: see ``pods``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import Cluster, control_plane
from kserve_controller import kserve_controller
from pods import Pods, tended_pods
from tools import folder, missing

HERE = Path(__file__).resolve().parent

_WANTED = "GEARSHIFT_CLUSTER"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def tools() -> Path:
    """Folder of the programs."""
    if os.environ.get(_WANTED) != "1":
        pytest.skip("make test-cluster runs these")
    if lacking := missing():
        pytest.fail(
            f"{', '.join(lacking)} are missing; make test-cluster builds them", pytrace=False
        )
    return folder()


@pytest.fixture(scope="session")
def bare_cluster(tools: Path) -> Iterator[Cluster]:
    """A control plane with KServe's controller, and without nodes."""
    kept = os.environ.get("GEARSHIFT_CLUSTER_LOGS")
    where = Path(tempfile.mkdtemp(prefix="gearshift-cluster-", dir=kept))
    try:
        with control_plane(where) as cluster, kserve_controller(cluster):
            yield cluster
    finally:
        if kept is None:
            shutil.rmtree(where, ignore_errors=True)


@pytest.fixture(scope="session")
def pods(bare_cluster: Cluster) -> Iterator[Pods]:
    """The nodes, whose pods become ready."""
    with tended_pods(bare_cluster) as tended:
        yield tended


@pytest.fixture
def cluster(bare_cluster: Cluster, pods: Pods) -> Cluster:
    """A cluster whose pods become ready."""
    return bare_cluster
