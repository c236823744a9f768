"""Our services as pods of a real node, asked by real clients."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from control_plane import Cluster, Document, control_plane, wait
from installed import NAMESPACE, Installed
from kserve_controller import documents, kserve_controller
from load import TOKEN
from node_images import archives
from pods import Pods, run_beside
from real_node import lacking, node
from tiny_models import save_detector, save_policy

from feature_transformer.observation import OBSERVATION_SIZE
from inference_graph.contract import LADDER
from inference_graph.gateway.access import Role, token_entry

HERE = Path(__file__).resolve().parent
_WANTED = "GEARSHIFT_NODE"


class Beside(Pods):
    """What no kubelet does: volumes for claims, and a Gateway's word on a route."""

    def __init__(self, cluster: Cluster, volumes: Path) -> None:
        super().__init__(cluster)
        self._volumes = volumes

    def _tend(self, pod: Document) -> None:
        """The kubelet's affair."""

    def _path_of(self, claim: Document) -> str:
        space, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        path = self._volumes / (name if space == NAMESPACE else f"{space}-{name}")
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        return str(path)


@pytest.fixture(scope="session")
def volumes() -> Iterator[Path]:
    """The folders behind the claims; the models' holds quick detectors and policies, twice."""
    folder = Path(tempfile.mkdtemp(prefix="gearshift-volumes-"))
    folder.chmod(0o755)
    models = folder / "gearshift-models"
    for name, score in (("ladder", 0.9), ("ladder-2", 0.8)):
        (models / name).mkdir(parents=True)
        for rung in LADDER:
            row = (128.0, 96.0, 100.0, 80.0, score, 0.0)
            save_detector(models / name / f"{rung}.onnx", [row])
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    for name, gains in (("policy", (0.0, 9.0, 0.0)), ("policy-2", (0.0, 8.0, 0.0))):
        (models / name).mkdir()
        save_policy(models / name / "policy.onnx", weights, gains)
    for path in (models, *models.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def real_cluster(volumes: Path) -> Iterator[Cluster]:
    """A control plane with KServe, and a node that runs pods."""
    if os.environ.get(_WANTED) != "1":
        pytest.skip("make test-pods runs these")
    if wanted := lacking():
        pytest.fail(f"{', '.join(wanted)} are missing on this machine", pytrace=False)
    kept = os.environ.get("GEARSHIFT_CLUSTER_LOGS")
    where = Path(tempfile.mkdtemp(prefix="gearshift-node-", dir=kept))
    try:
        with (
            control_plane(where) as cluster,
            kserve_controller(cluster),
            node(cluster, list(archives().values())),
            run_beside(Beside(cluster, volumes)),
        ):
            yield cluster
    finally:
        if kept is None:
            shutil.rmtree(where, ignore_errors=True)


@pytest.fixture(scope="session")
def services(real_cluster: Cluster) -> Installed:
    """The services as pods that are ready."""
    rendered = documents(real_cluster.kubectl("kustomize", str(HERE / "overlay")))
    installed = Installed(real_cluster, start_seconds=900)
    give_token(installed)
    installed.apply(
        [
            one
            for one in rendered
            if one["metadata"]["name"] != "rollout" or one["kind"] != "Deployment"
        ]
    )
    wait("the gateway", lambda: gateway_is_ready(installed), 900)
    return installed


def give_token(installed: Installed) -> None:
    """The gateway's token, which clients and detectors present."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    line = json.dumps(token_entry(TOKEN, "test", [Role.STREAM, Role.EVENTS, Role.OPERATE]))
    contents = {
        "gearshift-tokens": {
            "tokens.jsonl": f"{line}\n",
            "event-key": "an event key of the test's own",
        },
        "gearshift-events": {"url": f"http://logger:{TOKEN}@gateway/v1/events"},
    }
    secrets = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": content,
        }
        for name, content in contents.items()
    ]
    installed.cluster.apply([space, *secrets])


def gateway_is_ready(installed: Installed) -> bool:
    """Whether the gateway's pods are ready."""
    found = installed.cluster.ask(f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/gateway")
    return bool(found["status"].get("readyReplicas"))
