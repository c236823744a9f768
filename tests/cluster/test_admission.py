"""Every overlay, as the real API server with KServe's real webhooks takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import Cluster, Document
from crd_schemas import graph_problems
from installed import ABSENT, NAMESPACE, Installed, kustomized
from overlays import OVERLAYS, rendered

HERE = Path(__file__).resolve().parent
GRAPH = next(one for one in rendered("cpu-shadow") if one["kind"] == "InferenceGraph")
_ALWAYS = (
    "poddisruptionbudget.policy/",
    "gateway.gateway.networking.k8s.io/",
    "httproute.gateway.networking.k8s.io/",
)
"""kubectl sends a selector, or a list with defaults, of these at each apply, and prints
"configured" of no change."""
_DEPRECATED = 'Warning: annotation "kubernetes.io/ingress.class" is deprecated'
"""GKE's load balancer knows no other way."""


@pytest.fixture(scope="module", autouse=True)
def room(bare_cluster: Cluster) -> Iterator[Installed]:
    made = Installed(bare_cluster)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}}
    bare_cluster.kubectl("apply", "-f", "-", text=yaml.safe_dump(space))
    yield made
    made.delete()


def key(document: Document) -> tuple[str, str, str]:
    return document["apiVersion"], document["kind"], document["metadata"]["name"]


def test_what_the_workflow_applies_is_admitted(bare_cluster: Cluster, room: Installed) -> None:
    services = bare_cluster.kubectl("kustomize", str(HERE / "overlay"))
    for text in (services, (HERE / "models.yaml").read_text()):
        words = ("apply", "--dry-run=server", "-n", room.namespace, "-f", "-")
        message = bare_cluster.kubectl(*words, text=text)
        assert "Warning" not in message, message


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_we_render_as_kustomize_does(bare_cluster: Cluster, overlay: str) -> None:
    ours = [one for one in rendered(overlay) if one["kind"] not in ABSENT]
    theirs = kustomized(bare_cluster, overlay)
    assert {key(one): one for one in ours} == {key(one): one for one in theirs}
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_admitted_and_a_second_apply_changes_nothing(
    bare_cluster: Cluster, overlay: str
) -> None:
    text = yaml.safe_dump_all(kustomized(bare_cluster, overlay))
    first = bare_cluster.kubectl("apply", "-f", "-", text=text)
    warnings = [line for line in first.splitlines() if line.startswith("Warning")]
    assert all(line.startswith(_DEPRECATED) for line in warnings), warnings
    again = bare_cluster.kubectl("apply", "-f", "-", text=text)
    changed = [
        line
        for line in again.splitlines()
        if not line.endswith(" unchanged") and not line.startswith((*_ALWAYS, "Warning"))
    ]
    assert changed == []
    assert bare_cluster.kubectl("diff", "-f", "-", text=text) == ""
    # What scales the services of this overlay has no part in the next one.
    bare_cluster.kubectl("delete", "hpa,scaledobjects", "--all", "-n", NAMESPACE)


def without_root(graph: Document) -> None:
    nodes = graph["spec"]["nodes"]
    nodes["first"] = nodes.pop("root")


def doubled_step(graph: Document) -> None:
    steps = graph["spec"]["nodes"]["models"]["steps"]
    steps[1]["name"] = steps[0]["name"]


def two_targets(graph: Document) -> None:
    graph["spec"]["nodes"]["models"]["steps"][0]["nodeName"] = "plain"


def no_target(graph: Document) -> None:
    del graph["spec"]["nodes"]["models"]["steps"][0]["serviceName"]


def splitter(*weights: int | None) -> Callable[[Document], None]:
    def change(graph: Document) -> None:
        steps = [
            {"name": str(index), "serviceName": "small"}
            | ({} if weight is None else {"weight": weight})
            for index, weight in enumerate(weights)
        ]
        graph["spec"]["nodes"]["models"] = {"routerType": "Splitter", "steps": steps}

    return change


@pytest.mark.parametrize(
    "change",
    [
        without_root,
        doubled_step,
        two_targets,
        no_target,
        splitter(90, 5),
        splitter(100, 5),
        splitter(95, None),
        splitter(95, 5),
        splitter(0, 100),
        lambda graph: None,
    ],
    ids=[
        "no root",
        "doubled step",
        "two targets",
        "no target",
        "95 %",
        "105 %",
        "no weight",
        "100 %",
        "0 and 100 %",
        "as it is",
    ],
)
def test_our_rules_for_graphs_are_the_webhooks(
    bare_cluster: Cluster, change: Callable[[Document], None]
) -> None:
    graph: Any = deepcopy(GRAPH)
    graph["metadata"]["name"] = "tried"
    change(graph)
    text = yaml.safe_dump(graph)
    message = bare_cluster.kubectl("create", "--dry-run=server", "-f", "-", text=text, check=False)
    assert ("created" in message) is (graph_problems(graph["spec"]["nodes"]) == []), message


def test_what_is_applied_here_is_all_but_the_load_balancers_own() -> None:
    kinds = {
        one["kind"]
        for overlay in OVERLAYS
        for one in rendered(overlay)
        if one["apiVersion"].partition("/")[0].endswith(".google.com")
        or one["apiVersion"].startswith("networking.gke.io/")
    }
    assert kinds == ABSENT
