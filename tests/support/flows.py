"""Who may open a connection to whom: the list that the manifests' policies are held to.

Everything that is not listed is refused. A party is a set of pods with labels and a ServiceAccount;
a flow goes from a party, or from a namespace, to ports of another.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference_graph.contract import LADDER

HTTP, GRPC, GATEWAY, DASHBOARD, MLFLOW, DATABASE, OBJECTS = (
    8080,
    8081,
    8600,
    8602,
    5000,
    5432,
    8333,
)
AGENT = 9081
"""Where KServe's agent would listen, which nothing here has."""
PORTS = (80, HTTP, GRPC, AGENT, GATEWAY, DASHBOARD, MLFLOW, DATABASE, OBJECTS)


@dataclass(frozen=True)
class Party:
    """Pods that are allowed the same.

    Attributes:
        labels: what selects them.
        account: their ServiceAccount.
    """

    labels: dict[str, str]
    account: str


PARTIES = {
    **{rung: Party({"gearshift/model": rung}, "detector") for rung in LADDER},
    "router": Party({"gearshift/model": "router", "component": "predictor"}, "router"),
    "transformer": Party({"gearshift/model": "router", "component": "transformer"}, "transformer"),
    "graph": Party({"serving.kserve.io/inferencegraph": "gearshift"}, "graph"),
    **{
        name: Party({"app": name}, name)
        for name in (
            "gateway",
            "dashboard",
            "drift-check",
            "triggers",
            "rollout",
            "mlflow",
            "postgres",
            "objects",
            "kafka-worker",
            "preparation",
        )
    },
}
"""By name; a canary is of the party of the service whose place it may take."""

_LOG_READERS = ("gateway", "dashboard", "drift-check", "triggers", "rollout", "mlflow")
FLOWS: dict[tuple[str, int], frozenset[str]] = {
    # The graph asks for no token: it is for callers in its own namespace, which have a way there.
    ("graph", HTTP): frozenset(),
    ("transformer", HTTP): frozenset({"graph"}),
    ("router", HTTP): frozenset({"transformer"}),
    ("router", GRPC): frozenset({"transformer"}),
    **{(rung, HTTP): frozenset({"graph"}) for rung in LADDER},
    **{(rung, GRPC): frozenset({"gateway"}) for rung in LADDER},
    # Detectors' events, figures, and a canary's share.
    ("gateway", GATEWAY): frozenset({*LADDER, "dashboard", "rollout"}),
    ("mlflow", MLFLOW): frozenset({"dashboard"}),
    ("postgres", DATABASE): frozenset({"mlflow"}),
    ("objects", OBJECTS): frozenset(_LOG_READERS),
}
"""By target and port: the parties that may connect to it."""
OF_KUBEFLOW = {("mlflow", MLFLOW), ("objects", OBJECTS)}
"""Where the namespace of Kubeflow's runs may connect to: pipelines use both."""
OF_KAFKA = {
    **{(rung, GRPC): frozenset({"kafka-worker"}) for rung in LADDER},
    # Flink's managers among themselves, at ports of their choice.
    **{("preparation", port): frozenset({"preparation"}) for port in PORTS},
}
"""What the component ``kafka`` allows beside :data:`FLOWS`."""
IN_STORES = ("postgres", "objects")
"""Targets that the component ``stores`` brings."""
