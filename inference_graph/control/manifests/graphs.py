"""The InferenceGraph: the router, then the rung it chose, with or without the reference."""

from __future__ import annotations

from inference_graph.contract import LADDER, REFERENCE
from inference_graph.control.manifests.parts import ROUTER, STANDARD, Document, resources

GRAPH = "gearshift"
GRAPH_ACCOUNT = "graph"
"""ServiceAccount of its pods."""


def graph(nodes: Document) -> Document:
    """The InferenceGraph over given nodes."""
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": {"name": GRAPH, "annotations": dict(STANDARD)},
        "spec": {
            "nodes": nodes,
            "serviceAccountName": GRAPH_ACCOUNT,
            "resources": resources("500m", "256Mi"),
            "routerTimeouts": {"serverRead": 30, "serverWrite": 30, "serviceClient": 30},
        },
    }


def plain_nodes() -> Document:
    """One rung looks at every frame: the answer is ``{"primary": {"predictions": ...}}``."""
    return {"root": _root("plain"), "plain": _ensemble(), "models": _models()}


def shadow_nodes() -> Document:
    """The reference looks at sampled frames too: its answer is ``"reference"`` beside.

    A sampled request waits for both, so the router samples few.
    """
    detect = {
        "routerType": "Switch",
        "steps": [
            {
                "name": "sampled",
                "nodeName": "sampled",
                "condition": "[@this].#(route.shadow==true)",
            },
            {"name": "plain", "nodeName": "plain", "condition": "@this"},
        ],
    }
    sampled = _ensemble()
    sampled["steps"].append(
        {"name": "reference", "serviceName": REFERENCE, "dependency": "Soft"},
    )
    return {
        "root": _root("detect"),
        "detect": detect,
        "plain": _ensemble(),
        "sampled": sampled,
        "models": _models(),
    }


def _root(detect: str) -> Document:
    return {
        "routerType": "Sequence",
        "steps": [
            {"name": "route", "serviceName": ROUTER, "dependency": "Hard"},
            # Without data the step would get the frame without the decision.
            {"name": "detect", "nodeName": detect, "data": "$response", "dependency": "Hard"},
        ],
    }


def _ensemble() -> Document:
    return {
        "routerType": "Ensemble",
        "steps": [{"name": "primary", "nodeName": "models", "dependency": "Hard"}],
    }


def _models() -> Document:
    """The chosen rung; a decision that names none falls to the reference, never to a 404."""
    steps = [
        {
            "name": rung,
            "serviceName": rung,
            "condition": "@this" if rung == REFERENCE else f'[@this].#(route.model=="{rung}")',
        }
        for rung in LADDER
    ]
    return {"routerType": "Switch", "steps": steps}
