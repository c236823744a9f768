"""What an InferenceGraph is: nodes with steps, checked as KServe checks them.

The shape is the ``openAPIV3Schema`` of KServe 0.20's CRD ``inferencegraphs.serving.kserve.io``,
read strictly: an unknown field is refused, as ``kubectl apply`` does. On top of it stand the rules
of KServe's validating webhook: the graph's name, a node ``root``, step names unique within their
node, exactly one target for a step, weights of a Splitter that add up to 100.

Six rules are ours. KServe admits such graphs, and they fail on every request or for ever: a
``nodeName`` that no node has, nodes that lead back to themselves or nest more than :data:`DEEPEST`
deep, a node without steps, a weight outside 0..100, a ``serviceUrl`` that is no http(s) address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import ConfigurationError
from inference_graph.graph.manifest import API_VERSION, KIND, read_manifest
from inference_graph.graph.schema import (
    NODE,
    SCALE_METRICS,
    SPEC,
    STEP,
    TIMEOUT_NAMES,
    TIMEOUTS,
    TOP,
    checked_fields,
)

ROOT = "root"
"""The node a request enters by."""
DEEPEST = 100
"""Nodes on one way through a graph: each takes of Python's stack while a request is in it."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


class RouterType(StrEnum):
    """How a node leads a request through its steps."""

    SEQUENCE = "Sequence"
    SPLITTER = "Splitter"
    ENSEMBLE = "Ensemble"
    SWITCH = "Switch"


@dataclass(frozen=True)
class GraphStep:
    """One step of a node; texts are empty where the manifest has none.

    Attributes:
        name: unique within its node; the key of the step's answer in an Ensemble.
        node_name: target, another node of the graph.
        service_name: target, an InferenceService.
        service_url: target, any http(s) address.
        data: ``$response`` for the previous step's answer; anything else is the node's input.
        condition: a GJSON path that must exist; a Switch and a Sequence look at it.
        weight: whole per cent of a Splitter's requests.
        hard: whether the node fails with this step.
        map_predictions: whether ``predictions`` are sent as ``instances``; in a Sequence only.
    """

    name: str = ""
    node_name: str = ""
    service_name: str = ""
    service_url: str = ""
    data: str = ""
    condition: str = ""
    weight: int | None = None
    hard: bool = False
    map_predictions: bool = False


@dataclass(frozen=True)
class Node:
    """A node: how it routes, and its steps in the manifest's order."""

    router_type: RouterType
    steps: tuple[GraphStep, ...]


@dataclass(frozen=True)
class RouterTimeouts:
    """Limits in whole seconds, with the router's own defaults; 0 or less means no limit.

    Attributes:
        server_read: for receiving a request.
        server_write: from a request's headers to the end of its answer.
        server_idle: for the next request on a connection that is kept open.
        service_client: for one call of one step.
    """

    server_read: int = 60
    server_write: int = 60
    server_idle: int = 180
    service_client: int | None = None


@dataclass(frozen=True)
class InferenceGraphSpec:
    """A whole graph; making one checks it.

    Attributes:
        name: ``metadata.name``.
        nodes: by name.
        timeout: seconds for a whole request, ``spec.timeout`` (Knative's ``timeoutSeconds``).
        timeouts: ``spec.routerTimeouts``.

    Raises:
        ConfigurationError: a rule of the webhook or one of ours is broken; the message starts
            with the path in the manifest.
    """

    name: str
    nodes: Mapping[str, Node]
    timeout: int | None = None
    timeouts: RouterTimeouts = field(default_factory=RouterTimeouts)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"metadata.name: {self.name!r} is no graph name; it starts with a lower-case "
                "letter, goes on with letters, digits or '-', and ends with a letter or digit"
            )
        if ROOT not in self.nodes:
            raise ConfigurationError(f"spec.nodes: no node named {ROOT!r}, where requests enter")
        for name, node in self.nodes.items():
            _check_node(f"spec.nodes.{name}", node, self.nodes)
        _check_nesting(self.nodes)

    @property
    def service_names(self) -> frozenset[str]:
        """Every InferenceService that a step names."""
        steps = (step for node in self.nodes.values() for step in node.steps)
        return frozenset(step.service_name for step in steps if step.service_name)

    @property
    def conditions(self) -> frozenset[str]:
        """Every GJSON path that routing evaluates."""
        looking = (RouterType.SWITCH, RouterType.SEQUENCE)
        nodes = (node for node in self.nodes.values() if node.router_type in looking)
        return frozenset(step.condition for node in nodes for step in node.steps if step.condition)


def load_graph(source: Path | str | Mapping[str, Any]) -> InferenceGraphSpec:
    """Read and check an InferenceGraph.

    Args:
        source: a YAML file, or its document.

    Raises:
        ConfigurationError: not readable, or no valid InferenceGraph; the message gives the file
            and the path in it, such as ``graph.yaml: spec.nodes.root.steps[1].weight: …``.
    """
    if isinstance(source, Mapping):
        return _graph(source)
    document = read_manifest(Path(source))
    try:
        return _graph(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None


def _check_node(where: str, node: Node, nodes: Mapping[str, Node]) -> None:
    if not node.steps:
        raise ConfigurationError(f"{where}.steps: a node needs at least one step to answer")
    taken: set[str] = set()
    for index, step in enumerate(node.steps):
        here = f"{where}.steps[{index}]"
        if step.name and step.name in taken:
            raise ConfigurationError(f"{here}.name: {step.name!r} names a step of this node twice")
        taken.add(step.name)
        targets = [one for one in (step.node_name, step.service_name, step.service_url) if one]
        if len(targets) != 1:
            raise ConfigurationError(
                f"{here}: names {len(targets)} targets; a step has exactly one of nodeName, "
                "serviceName and serviceUrl"
            )
        if step.node_name and step.node_name not in nodes:
            raise ConfigurationError(f"{here}.nodeName: the graph has no node {step.node_name!r}")
        if step.service_url:
            _check_url(f"{here}.serviceUrl", step.service_url)
    if node.router_type is RouterType.SPLITTER:
        _check_weights(where, node.steps)


def _check_url(where: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(sign.isspace() for sign in url):
        raise ConfigurationError(f"{where}: {url!r} is no address such as http://host:port/path")


def _check_weights(where: str, steps: Sequence[GraphStep]) -> None:
    total = 0
    for index, step in enumerate(steps):
        here = f"{where}.steps[{index}].weight"
        if step.weight is None:
            raise ConfigurationError(f"{here}: missing; every step of a Splitter has a weight")
        if not 0 <= step.weight <= 100:
            raise ConfigurationError(f"{here}: {step.weight} is no per cent in 0..100")
        total += step.weight
    if total != 100:
        raise ConfigurationError(f"{where}: the weights of a Splitter add up to 100, not {total}")


def _check_nesting(nodes: Mapping[str, Node]) -> None:
    depths: dict[str, int] = {}
    for start in (ROOT, *nodes):
        # Depth first with a stack of our own: a long chain of nodes must not exhaust Python's.
        trail = {start: iter(_targets(nodes[start]))}
        while trail:
            name = next(reversed(trail))
            target = next(trail[name], None)
            if target is None:
                del trail[name]
                depths[name] = 1 + max((depths[one] for one in _targets(nodes[name])), default=0)
            elif target in trail:
                passed = [*trail, target]
                shown = " -> ".join(passed[passed.index(target) :])
                raise ConfigurationError(f"spec.nodes: the nodes lead in a circle: {shown}")
            elif target not in depths:
                trail[target] = iter(_targets(nodes[target]))
    if depths[ROOT] > DEEPEST:
        raise ConfigurationError(
            f"spec.nodes: a way through the graph passes {depths[ROOT]} nodes; {DEEPEST} at most"
        )


def _targets(node: Node) -> list[str]:
    return [step.node_name for step in node.steps if step.node_name]


def _graph(document: Mapping[str, Any]) -> InferenceGraphSpec:
    top = checked_fields(document, "", TOP)
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if top[key] != wanted:
            raise ConfigurationError(f"{key}: {top[key]!r} is not {wanted!r}")
    name = (top["metadata"] or {}).get("name")
    if not isinstance(name, str):
        raise ConfigurationError("metadata.name: missing; a graph needs a name")
    if top["spec"] is None:
        raise ConfigurationError("spec: missing")
    spec = checked_fields(top["spec"], "spec", SPEC)
    if spec["nodes"] is None:
        raise ConfigurationError("spec.nodes: missing")
    if spec["scaleMetric"] not in (None, *SCALE_METRICS):
        raise ConfigurationError(f"spec.scaleMetric: is none of {', '.join(SCALE_METRICS)}")
    given = checked_fields(spec["routerTimeouts"] or {}, "spec.routerTimeouts", TIMEOUTS)
    known = {TIMEOUT_NAMES[key]: value for key, value in given.items() if value is not None}
    nodes = {key: _node(value, f"spec.nodes.{key}") for key, value in spec["nodes"].items()}
    return InferenceGraphSpec(name, nodes, spec["timeout"], RouterTimeouts(**known))


def _node(document: Any, where: str) -> Node:
    fields = checked_fields(document, where, NODE)
    try:
        router_type = RouterType(fields["routerType"])
    except ValueError:
        raise ConfigurationError(
            f"{where}.routerType: {fields['routerType']!r} is none of {', '.join(RouterType)}"
        ) from None
    steps = enumerate(fields["steps"] or ())
    return Node(router_type, tuple(_step(one, f"{where}.steps[{at}]") for at, one in steps))


def _step(document: Any, where: str) -> GraphStep:
    fields = checked_fields(document, where, STEP)
    if fields["dependency"] not in (None, "", "Soft", "Hard"):
        raise ConfigurationError(f"{where}.dependency: is neither 'Soft' nor 'Hard'")
    return GraphStep(
        name=fields["name"] or "",
        node_name=fields["nodeName"] or "",
        service_name=fields["serviceName"] or "",
        service_url=fields["serviceUrl"] or "",
        data=fields["data"] or "",
        condition=fields["condition"] or "",
        weight=fields["weight"],
        hard=fields["dependency"] == "Hard",
        map_predictions=bool(fields["mapPredictionsToInstances"]),
    )
