"""Who reaches whom: NetworkPolicies and AuthorizationPolicies, judged as a cluster judges them.

The judges below restate the rules: a NetworkPolicy admits what one rule of one policy over the pod
admits, in both directions; Istio admits what an ALLOW policy over the pod admits, and nothing where
one matches the pod and none admits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flows import FLOWS, IN_STORES, OF_KAFKA, OF_KUBEFLOW, PARTIES, PORTS
from overlays import Documents, named, rendered
from rollout_samples import state

from inference_graph.contract import LADDER
from inference_graph.control.manifests import ManifestOptions, render, write_manifests
from inference_graph.control.rollout.services import canary_service

SPACE = "gearshift"
CLUSTER = ("kind", "gke", "onprem", "kafka")
Peer = tuple[str, Mapping[str, str]]
"""A namespace and labels of a pod."""


def chosen(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "Exists"
        if one["key"] not in labels:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())


def admits(rule: Mapping[str, Any], side: str, peer: Peer, port: int) -> bool:
    if "ports" in rule and all(one["port"] != port for one in rule["ports"]):
        return False
    if side not in rule:
        return True
    for one in rule[side]:
        if "ipBlock" in one:
            continue  # addresses outside; no pod of the cluster
        space = one.get("namespaceSelector")
        of_space = {"kubernetes.io/metadata.name": peer[0]}
        if (chosen(space, of_space) if space is not None else peer[0] == SPACE) and chosen(
            one.get("podSelector", {}), peer[1]
        ):
            return True
    return False


def network(documents: Documents, source: Peer, target: Peer, port: int) -> bool:
    for direction, side, here, there in (
        ("ingress", "from", target, source),
        ("egress", "to", source, target),
    ):
        if here[0] != SPACE:
            continue
        policies = [
            one["spec"]
            for one in named(documents, "NetworkPolicy").values()
            if direction.capitalize() in one["spec"]["policyTypes"]
            and chosen(one["spec"]["podSelector"], here[1])
        ]
        if policies and not any(
            admits(rule, side, there, port) for one in policies for rule in one.get(direction, ())
        ):
            return False
    return True


def mesh(documents: Documents, source: str, target: Mapping[str, str], port: int) -> bool:
    """Whether Istio lets an identity ns/NAMESPACE/sa/ACCOUNT connect."""
    policies = [
        one["spec"]
        for one in named(documents, "AuthorizationPolicy").values()
        if chosen(one["spec"].get("selector", {}), target)
    ]
    for one in policies:
        for rule in one.get("rules", ()):
            ports = [number for to in rule["to"] for number in to["operation"]["ports"]]
            sources = [entry["source"] for entry in rule.get("from", ())]
            known = not sources or any(
                f"cluster.local/{source}" in entry.get("principals", ())
                or source.split("/")[1] in entry.get("namespaces", ())
                for entry in sources
            )
            if str(port) in ports and known:
                return True
    return not policies


def reached(documents: Documents, target: str, port: int) -> set[str]:
    """The parties that get through to a party's port."""
    known = PARTIES
    return {
        name
        for name, party in known.items()
        if network(documents, (SPACE, party.labels), (SPACE, known[target].labels), port)
    }


@pytest.mark.parametrize("overlay", CLUSTER)
def test_the_network_lets_through_what_is_listed_and_nothing_else(overlay: str) -> None:
    documents = rendered(overlay)
    in_stores = "objects" in named(documents, "StatefulSet")
    for target in PARTIES:
        for port in PORTS:
            allowed = FLOWS.get((target, port), frozenset())
            if target in IN_STORES and not in_stores:
                allowed = frozenset()
            if overlay == "kafka":
                allowed = _in_kafka(target, port)
            assert reached(documents, target, port) == allowed, (target, port)
    assert reached(documents, "nano", 22) == set()


def _in_kafka(target: str, port: int) -> frozenset[str]:
    """Who reaches whom where frames come from Kafka, and of the rest only the base is there."""
    base = {*LADDER, "router", "transformer", "graph", "gateway", "kafka-worker", "preparation"}
    both = FLOWS.get((target, port), frozenset()) | OF_KAFKA.get((target, port), frozenset())
    return both & base if target in base else frozenset()


@pytest.mark.parametrize(
    ("name", "port", "open_"),
    [
        ("kafka-worker", 9092, True),
        ("preparation", 9092, True),
        ("gateway", 9092, False),
        ("kafka-worker", 22, False),
        ("nano", 9092, False),
    ],
)
def test_workers_and_the_job_alone_reach_the_brokers(name: str, port: int, open_: bool) -> None:
    brokers: Peer = ("kafka", {"strimzi.io/cluster": "kafka"})
    documents = rendered("kafka")
    assert network(documents, (SPACE, PARTIES[name].labels), brokers, port) is open_
    assert not network(documents, brokers, (SPACE, PARTIES[name].labels), port)


@pytest.mark.parametrize("overlay", CLUSTER)
@pytest.mark.parametrize("name", [*LADDER, "router"])
def test_a_canary_reaches_and_is_reached_as_the_service_whose_place_it_takes(
    overlay: str, name: str
) -> None:
    documents = rendered(overlay)
    service = named(documents, "InferenceService")[name]
    made = canary_service(service, state(model="policy" if name == "router" else name))
    assert made["metadata"]["name"] == f"{name}-canary"
    for part in made["spec"]:
        # KServe gives a pod its service's labels, and these two.
        own = {"serving.kserve.io/inferenceservice": f"{name}-canary", "component": part}
        canary = made["metadata"]["labels"] | own
        party = PARTIES["transformer" if part == "transformer" else name]
        for port in (8080, 8081, 9081):
            for other in PARTIES.values():
                for source, target in ((other, canary), (canary, other)):
                    pair = [
                        one if isinstance(one, dict) else one.labels for one in (source, target)
                    ]
                    stable = [party.labels if one is canary else one for one in pair]
                    assert network(documents, (SPACE, pair[0]), (SPACE, pair[1]), port) == network(
                        documents, (SPACE, stable[0]), (SPACE, stable[1]), port
                    )
                identity = f"ns/{SPACE}/sa/{other.account}"
                assert mesh(documents, identity, canary, port) == mesh(
                    documents, identity, party.labels, port
                )
        assert network(documents, (SPACE, PARTIES["graph"].labels), (SPACE, canary), 8080) is (
            part == "transformer" or name != "router"
        )


@pytest.mark.parametrize("overlay", CLUSTER)
def test_other_namespaces_reach_the_gateway_only(overlay: str) -> None:
    documents = rendered(overlay)
    stranger: Peer = ("elsewhere", {})
    open_ports = {
        (name, port)
        for name, party in PARTIES.items()
        for port in PORTS
        if network(documents, stranger, (SPACE, party.labels), port)
    }
    assert open_ports == {("gateway", 8600)}
    kubeflow: Peer = ("kubeflow", {})
    if overlay == "kafka":
        return  # Kubeflow is no part of it
    in_stores = "objects" in named(documents, "StatefulSet")
    for target, port in OF_KUBEFLOW:
        expected = in_stores or target not in IN_STORES
        assert network(documents, kubeflow, (SPACE, PARTIES[target].labels), port) is expected


def goes_out(documents: Documents, labels: Mapping[str, str], port: int) -> bool:
    """Whether pods with these labels reach an address outside of the cluster."""
    return any(
        one["port"] == port
        for policy in named(documents, "NetworkPolicy").values()
        if chosen(policy["spec"]["podSelector"], labels)
        for rule in policy["spec"].get("egress", ())
        for one in rule.get("ports", ())
        if any(to.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for to in rule.get("to", ()))
    )


@pytest.mark.parametrize(
    ("storage", "port"),
    [
        ("pvc://claim", None),
        ("s3://fleet/models", 443),
        ("gs://fleet/models", 443),
        ("https://models.example/a", 443),
        ("https://models.example:8443/a", 8443),
        ("hf://org/model", 443),
    ],
)
def test_weights_can_be_loaded_from_where_they_are(
    storage: str, port: int | None, tmp_path: Path
) -> None:
    """KServe's storage initializer is in the pod, and its policies once let it go nowhere."""
    write_manifests(tmp_path, ManifestOptions(storage=storage))
    documents = render(tmp_path / "overlays" / "onprem")
    known = PARTIES
    for name in known:
        out = {one for one in (80, 443, 8443) if goes_out(documents, known[name].labels, one)}
        if name in (*LADDER, "router"):
            assert out == ({port} if port else set()), name
        elif name != "rollout":
            assert not out, name
    accounts = named(documents, "ServiceAccount")
    for name in ("detector", "router", "transformer", "graph"):
        keyed = storage.startswith("s3://") and name in ("detector", "router")
        assert accounts[name].get("secrets") == ([{"name": "gearshift-s3"}] if keyed else None)
        # Of the cluster's own store, too.
        inside = reached(documents, "objects", 8333)
        assert ({"nano", "router"} <= inside) is storage.startswith("s3://")
    for name in ("nano", "router"):
        metadata = [one for one in named(documents, "NetworkPolicy") if one == f"identity-{name}"]
        assert bool(metadata) is storage.startswith("gs://")


@pytest.mark.parametrize("overlay", ["gke", "onprem"])
def test_prometheus_reads_figures_and_asks_no_detector_over_grpc(overlay: str) -> None:
    documents = rendered(overlay)
    prometheus: Peer = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
    nano = (SPACE, PARTIES["nano"].labels)
    assert network(documents, prometheus, nano, 8080)
    assert not network(documents, prometheus, nano, 8081)
    assert not network(rendered("kind"), prometheus, nano, 8080)


def test_what_is_in_no_policys_labels_can_do_nothing() -> None:
    documents = rendered("kind")
    intruder: Peer = (SPACE, {"app": "intruder"})
    for name, party in PARTIES.items():
        for port in (5000, 5432, 8080, 8081, 8333, 8600, 8602, 9081):
            assert not network(documents, intruder, (SPACE, party.labels), port), name


class TestMesh:
    def test_it_lets_through_what_is_listed_and_nothing_else(self) -> None:
        """By identity: rungs share an account, and two ports are open, for others ask there."""
        documents = rendered("gke")
        for target, party in PARTIES.items():
            for port in PORTS:
                allowed = {PARTIES[one].account for one in FLOWS.get((target, port), ())}
                got = {
                    other.account
                    for other in PARTIES.values()
                    if mesh(documents, f"ns/{SPACE}/sa/{other.account}", party.labels, port)
                }
                if (target, port) in (("gateway", 8600), ("dashboard", 8602), ("graph", 8080)):
                    allowed = {other.account for other in PARTIES.values()}
                assert got == allowed, (target, port)
        for target, port in OF_KUBEFLOW:
            assert mesh(documents, "ns/kubeflow/sa/x", PARTIES[target].labels, port)

    def test_a_detector_takes_the_graph_and_the_gateway_only(self) -> None:
        documents = rendered("gke")
        nano = PARTIES["nano"].labels
        callers = {party.account for party in PARTIES.values()} | {"default"}
        for port, allowed in ((8081, {"gateway"}), (9081, set()), (8080, {"graph"})):
            assert {
                one for one in callers if mesh(documents, f"ns/{SPACE}/sa/{one}", nano, port)
            } == allowed
        assert not mesh(documents, "ns/elsewhere/sa/gateway", nano, 8081)

    def test_its_tunnel_is_open_for_the_same_pairs(self) -> None:
        documents = rendered("gke")
        pairs = {
            (source, target)
            for source, other in PARTIES.items()
            for target, party in PARTIES.items()
            if network(documents, (SPACE, other.labels), (SPACE, party.labels), 15008)
        }
        assert ("gateway", "nano") in pairs and ("dashboard", "nano") not in pairs
        assert ("mlflow", "postgres") in pairs and ("gateway", "postgres") not in pairs

    def test_who_shows_no_certificate_is_refused_but_at_two_ports(self) -> None:
        peers = named(rendered("gke"), "PeerAuthentication")
        assert peers["default"]["spec"] == {"mtls": {"mode": "STRICT"}}
        plain = {
            (one["spec"]["selector"]["matchLabels"]["app"], port)
            for one in peers.values()
            for port in one["spec"].get("portLevelMtls", {})
        }
        assert plain == {("gateway", "8600"), ("dashboard", "8602")}
        assert (
            named(rendered("gke"), "Namespace")[SPACE]["metadata"]["labels"][
                "istio.io/dataplane-mode"
            ]
            == "ambient"
        )


@pytest.mark.parametrize("overlay", [*CLUSTER, "edge"])
def test_a_policy_holds_nothing_that_every_apply_would_change(overlay: str) -> None:
    for name, one in named(rendered(overlay), "NetworkPolicy").items():
        assert [] not in one["spec"].values(), name
        assert {"ingress", "egress"} & set(one["spec"]) or name == "default-deny"
    refused = named(rendered(overlay), "NetworkPolicy")["default-deny"]["spec"]
    assert refused == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
