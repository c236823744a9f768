"""A manifest is refused where KServe's schema or webhook refuses it, with the path in the YAML."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.errors import ConfigurationError
from inference_graph.graph import load_graph
from inference_graph.graph.schema import NODE, SPEC, STEP, TIMEOUTS
from inference_graph.graph.spec import GraphStep, Node, RouterTimeouts, RouterType

GRAPH = """
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata:
  name: two-ways
  annotations: {serving.kserve.io/deploymentMode: Standard}
spec:
  timeout: 7
  minReplicas: 1
  resources: {limits: {cpu: "1"}}
  routerTimeouts: {serviceClient: 3, serverIdle: 9}
  nodes:
    root:
      routerType: Sequence
      steps:
        - {serviceName: router, name: route, dependency: Hard}
        - nodeName: fork
          data: $response
          condition: route
    fork:
      routerType: Splitter
      steps:
        - {serviceUrl: "http://a:8080/v1/models/a:predict", weight: 20}
        - {serviceUrl: "https://b/", weight: 80, mapPredictionsToInstances: true}
"""


def document() -> Any:
    return yaml.safe_load(GRAPH)


def test_a_manifest_has_its_content(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(GRAPH)
    graph = load_graph(path)
    assert graph == load_graph(str(path)) == load_graph(document())
    assert (graph.name, graph.timeout) == ("two-ways", 7)
    assert graph.timeouts == RouterTimeouts(60, 60, 9, 3)
    assert dict(graph.nodes) == {
        "root": Node(
            RouterType.SEQUENCE,
            (
                GraphStep("route", service_name="router", hard=True),
                GraphStep(node_name="fork", data="$response", condition="route"),
            ),
        ),
        "fork": Node(
            RouterType.SPLITTER,
            (
                GraphStep(service_url="http://a:8080/v1/models/a:predict", weight=20),
                GraphStep(service_url="https://b/", weight=80, map_predictions=True),
            ),
        ),
    }
    assert graph.service_names == {"router"}
    assert graph.conditions == {"route"}


def test_the_graph_is_found_among_other_documents(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(f"kind: InferenceService\n---\n{GRAPH}\n---\n---\nkind: ConfigMap\n")
    assert load_graph(path).name == "two-ways"
    path.write_text(f"{GRAPH}\n---\n{GRAPH}")
    with pytest.raises(ConfigurationError, match="holds 2 documents of kind InferenceGraph"):
        load_graph(path)
    path.write_text("kind: ConfigMap\n")
    with pytest.raises(ConfigurationError, match="holds 0 documents"):
        load_graph(path)


def at(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        place = graph
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def without(*keys: Any) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        place = graph
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


NODES = ("spec", "nodes")
FIRST = (*NODES, "root", "steps", 0)
FORK = (*NODES, "fork", "steps")

REFUSED: list[tuple[str, Callable[[Any], None], str]] = [
    # The CRD's schema.
    ("api version", at("apiVersion", value="serving.kserve.io/v1"), "apiVersion: "),
    ("kind", at("kind", value="InferenceService"), "kind: 'InferenceService' is not "),
    ("unknown at the top", at("specs", value={}), "specs: unknown field"),
    ("no spec", without("spec"), "spec: missing"),
    ("no nodes", without("spec", "nodes"), "spec.nodes: missing"),
    ("unknown in the spec", at("spec", "replicas", value=1), "spec.replicas: unknown field"),
    ("text for a number", at("spec", "timeout", value="7"), "spec.timeout: '7' is not a whole"),
    ("truth for a number", at("spec", "timeout", value=True), "spec.timeout: True is not a whole"),
    ("scale metric", at("spec", "scaleMetric", value="fun"), "spec.scaleMetric: "),
    (
        "unknown timeout",
        at("spec", "routerTimeouts", "step", value=1),
        "spec.routerTimeouts.step: unknown field",
    ),
    ("nodes are a mapping", at(*NODES, value=[]), "spec.nodes: [] is not a mapping"),
    ("a node's name", at(*NODES, 1, value={}), "spec.nodes: has a key that is no text"),
    ("a node is a mapping", at(*NODES, "root", value="x"), "spec.nodes.root: is no mapping"),
    ("no router type", without(*NODES, "root", "routerType"), "spec.nodes.root.routerType: None"),
    (
        "unknown router type",
        at(*NODES, "root", "routerType", value="Single"),
        "spec.nodes.root.routerType: 'Single' is none of Sequence, Splitter, Ensemble, Switch",
    ),
    (
        "unknown in a node",
        at(*NODES, "root", "routes", value=[]),
        "spec.nodes.root.routes: unknown field",
    ),
    (
        "unknown in a step",
        at(*FIRST, "retry", value={}),
        "spec.nodes.root.steps[0].retry: unknown field",
    ),
    (
        "a step is a mapping",
        at(*FIRST, value="router"),
        "spec.nodes.root.steps[0]: is no mapping",
    ),
    (
        "dependency",
        at(*FIRST, "dependency", value="hard"),
        "spec.nodes.root.steps[0].dependency: ",
    ),
    (
        "condition is text",
        at(*FIRST, "condition", value=True),
        "spec.nodes.root.steps[0].condition: True is not a text",
    ),
    (
        "weight is whole",
        at(*FORK, 0, "weight", value=20.0),
        "spec.nodes.fork.steps[0].weight: 20.0 is not a whole number",
    ),
    # The webhook.
    ("no name", without("metadata", "name"), "metadata.name: missing"),
    ("name", at("metadata", "name", value="Two_Ways"), "metadata.name: 'Two_Ways' is no graph"),
    ("name's end", at("metadata", "name", value="two-"), "metadata.name: 'two-' is no graph"),
    ("no root", without(*NODES, "root"), "spec.nodes: no node named 'root'"),
    (
        "step name twice",
        at(*NODES, "root", "steps", 1, "name", value="route"),
        "spec.nodes.root.steps[1].name: 'route'",
    ),
    (
        "two targets",
        at(*FIRST, "nodeName", value="fork"),
        "spec.nodes.root.steps[0]: names 2 targets",
    ),
    (
        "no target",
        without(*FIRST, "serviceName"),
        "spec.nodes.root.steps[0]: names 0 targets",
    ),
    (
        "no weight",
        without(*FORK, 1, "weight"),
        "spec.nodes.fork.steps[1].weight: missing",
    ),
    (
        "weights",
        at(*FORK, 1, "weight", value=79),
        "spec.nodes.fork: the weights of a Splitter add up to 100, not 99",
    ),
    # Ours.
    (
        "weight below nothing",
        at(*FORK, 1, "weight", value=-1),
        "spec.nodes.fork.steps[1].weight: -1 is no per cent",
    ),
    (
        "no such node",
        at(*NODES, "root", "steps", 1, "nodeName", value="spoon"),
        "spec.nodes.root.steps[1].nodeName: the graph has no node 'spoon'",
    ),
    ("no steps", at(*FORK, value=[]), "spec.nodes.fork.steps: a node needs at least one step"),
    (
        "a circle of one",
        at(*FORK, 0, value={"nodeName": "fork", "weight": 20}),
        "spec.nodes: the nodes lead in a circle: fork -> fork",
    ),
    (
        "a circle",
        at(*FORK, 0, value={"nodeName": "root", "weight": 20}),
        "spec.nodes: the nodes lead in a circle: root -> fork -> root",
    ),
    *(
        (
            f"address {url!r}",
            at(*FORK, 0, "serviceUrl", value=url),
            "spec.nodes.fork.steps[0].serviceUrl: ",
        )
        for url in ("a:8080", "grpc://a:1", "http://", "http://a:99999/", "http://a b/", "http://[")
    ),
]


@pytest.mark.parametrize(
    ("change", "reported"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_graph_is_refused_with_its_path(
    change: Callable[[Any], None], reported: str, tmp_path: Path
) -> None:
    graph = deepcopy(document())
    change(graph)
    with pytest.raises(ConfigurationError) as error:
        load_graph(graph)
    assert str(error.value).startswith(reported)
    assert "\n" not in str(error.value)
    if graph["kind"] == "InferenceGraph":
        path = tmp_path / "graph.yaml"
        path.write_text(yaml.safe_dump(graph))
        with pytest.raises(ConfigurationError) as error:
            load_graph(path)
        assert str(error.value).startswith(f"{path}: {reported}")


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("kind: [", "no valid YAML"),
        (GRAPH.replace("minReplicas: 1", "timeout: 8"), "the key 'timeout' is written twice"),
        ("kind: InferenceGraph\na: *b", "no valid YAML"),
        ("[" * 500, "no valid YAML"),
        ("a: !!python/object:os.system x", "no valid YAML"),
    ],
)
def test_broken_yaml_is_refused(text: str, reported: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=reported):
        load_graph(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_graph(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_graph(path)
    path.write_text("#" * 2_000_000)
    with pytest.raises(ConfigurationError, match="larger than"):
        load_graph(path)


def test_merge_keys_and_anchors_are_yaml(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(
        GRAPH.replace("{serviceName: router,", "&one {serviceName: router,").replace(
            "- nodeName: fork", "- <<: *one\n          name: again\n        - nodeName: fork"
        )
    )
    steps = load_graph(path).nodes["root"].steps
    assert steps[1] == GraphStep("again", service_name="router", hard=True)


def chain(length: int) -> Any:
    """Nodes in a row after the root, which also leads to the middle of them."""
    nodes: dict[str, Any] = {
        f"n{index}": {"routerType": "Sequence", "steps": [{"nodeName": f"n{index + 1}"}]}
        for index in range(1, length - 1)
    }
    nodes[f"n{length - 1}"] = {"routerType": "Sequence", "steps": [{"serviceUrl": "http://a"}]}
    steps = [{"nodeName": f"n{length // 2}"}, {"nodeName": "n1"}]
    graph = document()
    graph["spec"]["nodes"] = nodes | {"root": {"routerType": "Sequence", "steps": steps}}
    return graph


def test_nodes_nest_so_deep_and_no_deeper() -> None:
    assert len(load_graph(chain(100)).nodes) == 100
    for length in (101, 400):
        with pytest.raises(ConfigurationError, match=f"passes {length} nodes; 100 at most"):
            load_graph(chain(length))


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("inference_graph_spec", SPEC),
        ("inference_router", NODE),
        ("inference_step", STEP),
        ("inferece_graph_router_timeouts", TIMEOUTS),
    ],
)
def test_the_fields_are_those_of_the_installed_kserve(model: str, known: dict[str, type]) -> None:
    # Read, not imported: importing the SDK takes ten seconds.
    found = importlib.util.find_spec("kserve")
    assert found is not None and found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0]) / "models" / f"v1alpha1_{model}.py"
    tables = {
        target.id: ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    words = {"str": str, "int": int, "bool": bool}
    theirs = {
        tables["attribute_map"][name]: words.get(kind, list if kind.startswith("list") else dict)
        for name, kind in tables["openapi_types"].items()
    }
    assert theirs == dict(known)
