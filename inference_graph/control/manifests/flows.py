"""Who may open a connection to whom: the one list that network and mesh policies are made from.

Everything that is not in it is refused. A party is a set of pods with labels and a ServiceAccount
of its own; a flow goes from a party, or from outside, to a port of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_graph.contract import LADDER
from inference_graph.control.manifests.dashboard import DASHBOARD
from inference_graph.control.manifests.documents import DETECTOR, TRANSFORMER
from inference_graph.control.manifests.drift import DRIFT
from inference_graph.control.manifests.gateway import GATEWAY, GATEWAY_PORT
from inference_graph.control.manifests.graphs import GRAPH, GRAPH_ACCOUNT
from inference_graph.control.manifests.mlflow import MLFLOW, MLFLOW_PORT
from inference_graph.control.manifests.parts import (
    GRPC_PORT,
    HTTP_PORT,
    MODEL_LABEL,
    ROUTER,
    ManifestOptions,
)
from inference_graph.control.manifests.rollout import ROLLOUT
from inference_graph.control.manifests.stores import DATABASE, DATABASE_PORT, OBJECTS, OBJECTS_PORT
from inference_graph.control.manifests.triggers import TRIGGERS

AGENT_PORT = 9081
"""KServe's payload logger stands before a logged container's HTTP port and listens here."""
EVERYBODY = "everybody"
"""Source of a flow that is open to every address: the target asks for a token itself."""


@dataclass(frozen=True)
class Party:
    """Pods that are allowed the same.

    Attributes:
        labels: what selects them.
        account: their ServiceAccount.
    """

    labels: dict[str, str]
    account: str


@dataclass(frozen=True)
class Flow:
    """A connection that is allowed.

    Attributes:
        source: name of a party, `everybody`, or `namespace:NAME` for all pods of a namespace.
        target: name of a party, or `port` alone for a destination outside of the namespace.
        ports: TCP ports of the target's pods.
    """

    source: str
    target: str
    ports: tuple[int, ...]


def parties() -> dict[str, Party]:
    """All of them, by name; a canary is of the party of the service whose place it may take."""
    part = "component"
    services = {rung: Party({MODEL_LABEL: rung}, DETECTOR) for rung in LADDER}
    return {
        **services,
        ROUTER: Party({MODEL_LABEL: ROUTER, part: "predictor"}, ROUTER),
        TRANSFORMER: Party({MODEL_LABEL: ROUTER, part: "transformer"}, TRANSFORMER),
        GRAPH_ACCOUNT: Party({"serving.kserve.io/inferencegraph": GRAPH}, GRAPH_ACCOUNT),
        **{
            name: Party({"app": name}, name)
            for name in (GATEWAY, DASHBOARD, DRIFT, TRIGGERS, ROLLOUT, MLFLOW, DATABASE, OBJECTS)
        },
    }


def serving_flows(options: ManifestOptions) -> list[Flow]:
    """What the base needs: the graph and the gateway alone reach the detectors."""
    flows = [
        Flow(EVERYBODY, GATEWAY, (GATEWAY_PORT,)),
        # The graph asks nobody for a token: it is for callers in its own namespace.
        Flow(f"namespace:{options.namespace}", GRAPH_ACCOUNT, (HTTP_PORT,)),
        Flow(GRAPH_ACCOUNT, TRANSFORMER, (HTTP_PORT,)),
        Flow(TRANSFORMER, ROUTER, (HTTP_PORT, GRPC_PORT)),
    ]
    for rung in LADDER:
        flows += [
            Flow(GRAPH_ACCOUNT, rung, (HTTP_PORT, AGENT_PORT)),
            Flow(GATEWAY, rung, (GRPC_PORT,)),
            Flow(rung, GATEWAY, (GATEWAY_PORT,)),  # the payload logger's events
        ]
    return flows


def component_flows(options: ManifestOptions) -> dict[str, list[Flow]]:
    """What each component needs besides, by the component's name."""
    runs = f"namespace:{options.kubeflow_namespace}"
    # KServe's storage initializer runs in the pods that load weights.
    loading = (*LADDER, ROUTER) if options.storage.startswith("s3://") else ()
    return {
        "dashboard": [Flow(DASHBOARD, GATEWAY, (GATEWAY_PORT,))],
        "rollout": [Flow(ROLLOUT, GATEWAY, (GATEWAY_PORT,))],
        "mlflow": [
            Flow(DASHBOARD, MLFLOW, (MLFLOW_PORT,)),
            Flow(runs, MLFLOW, (MLFLOW_PORT,)),  # pipelines register policies
        ],
        "stores": [
            Flow(MLFLOW, DATABASE, (DATABASE_PORT,)),
            *(
                Flow(source, OBJECTS, (OBJECTS_PORT,))
                for source in (GATEWAY, DASHBOARD, DRIFT, TRIGGERS, ROLLOUT, MLFLOW, *loading)
            ),
            Flow(runs, OBJECTS, (OBJECTS_PORT,)),  # pipelines read the log
        ],
    }


def all_flows(options: ManifestOptions) -> list[Flow]:
    """The base's and every component's."""
    parts = component_flows(options).values()
    return [*serving_flows(options), *(one for part in parts for one in part)]


def concerned(flows: Sequence[Flow]) -> list[str]:
    """Names of the parties that flows begin or end at, in the order of :func:`parties`."""
    named = {name for flow in flows for name in (flow.source, flow.target)}
    return [name for name in parties() if name in named]
