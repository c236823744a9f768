"""An InferenceGraph with a Splitter between the stable service of a model and its canary.

In KServe's Standard mode a graph names services, and goes past a canary of theirs, so the graph
itself has to split. Every step that names the model's service leads to a node of its own then::

    canary-small: Splitter
      - stable   small          weight 95
      - canary   small-canary   weight 5

The step of the reference, which answers sampled frames as well, stays with the stable service: both
are compared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from foundation.errors import ConfigurationError

Document = dict[str, Any]

_NODE = "canary-"
_REFERENCE_STEP = "reference"
STABLE, CANARY = "stable", "canary"


def with_canary(
    graph: Mapping[str, Any], service: str, canary: Mapping[str, str], weight: int
) -> Document:
    """The graph with a share of a service's requests for another.

    Args:
        graph: the InferenceGraph's document; with a Splitter already, its weights are changed.
        service: name of the stable service.
        canary: target of the canary's step: ``serviceName``, or ``serviceUrl``.
        weight: of the canary, whole per cent, 0 to 100.

    Raises:
        ConfigurationError: no step of the graph names the service.
    """
    split = without_canary(graph, service)
    nodes = split["spec"]["nodes"]
    name, found = _NODE + service, False
    for node in nodes.values():
        for step in node.get("steps", ()):
            if step.get("serviceName") == service and step.get("name") != _REFERENCE_STEP:
                del step["serviceName"]
                step["nodeName"] = name
                found = True
    if not found:
        raise ConfigurationError(
            f"no step of the InferenceGraph {graph['metadata']['name']} names the service "
            f"{service}; roll it out where it is used"
        )
    nodes[name] = {
        "routerType": "Splitter",
        "steps": [
            {"name": STABLE, "serviceName": service, "weight": 100 - weight},
            {"name": CANARY, **canary, "weight": weight},
        ],
    }
    return split


def without_canary(graph: Mapping[str, Any], service: str) -> Document:
    """The graph without the Splitter of a service.

    Args:
        graph: the InferenceGraph's document.
        service: name of the stable service.
    """
    whole: Document = copy.deepcopy(dict(graph))
    nodes = whole["spec"]["nodes"]
    name = _NODE + service
    for node in nodes.values():
        for step in node.get("steps", ()):
            if step.get("nodeName") == name:
                del step["nodeName"]
                step["serviceName"] = service
    nodes.pop(name, None)
    return whole


def weight_in(graph: Mapping[str, Any], service: str) -> int | None:
    """The canary's share of a service's requests in a graph; None without a Splitter.

    Applied again, the manifests leave the Splitter's node where it is, but no step leads to it.
    """
    name, nodes = _NODE + service, graph["spec"]["nodes"]
    node = nodes.get(name)
    steps = (step for one in nodes.values() for step in one.get("steps", ()))
    if node is None or all(step.get("nodeName") != name for step in steps):
        return None
    return next((int(step["weight"]) for step in node["steps"] if step["name"] == CANARY), None)
