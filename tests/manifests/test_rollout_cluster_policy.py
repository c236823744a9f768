"""A policy's rollout on a cluster, with a gateway beside the services: streams have their share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from buckets import make_bucket, s3_server
from cluster_server import PLURALS, Cluster, Document, kubeconfig, served_cluster
from gateway_samples import gateway_settings, served
from rollout_samples import state
from service_process import brightness_policy

from foundation.errors import ConfigurationError, InvalidInput, StorageError
from foundation.signing import signature_file
from foundation.storage import sha256_file
from inference_graph.clients.canaries import CanaryClient
from inference_graph.control.manifests import render
from inference_graph.control.manifests.names import MANIFESTS
from inference_graph.control.rollout.cluster import ClusterRolloutConfig, ClusterTraffic, connected
from inference_graph.control.rollout.policy_files import PolicyFiles
from inference_graph.control.rollout.state import RolloutState
from inference_graph.control.rollout.traffic import Pending
from inference_graph.gateway import runtime
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.prediction_log.place import open_place


@dataclass
class Fleet:
    """A cluster and its gateway.

    Attributes:
        volume: behind the claim ``gearshift-models``.
        settings: of the gateway, to start it again.
        gateway: how it is asked.
        config: of the traffic.
    """

    cluster: Cluster
    volume: Path
    settings: GatewaySettings
    gateway: CanaryClient
    config: ClusterRolloutConfig

    def traffic(self, **options: Any) -> ClusterTraffic:
        config = ClusterRolloutConfig(**(vars(self.config) | options))
        return ClusterTraffic(connected(config), config)

    def done(self, ask: Callable[[], Any]) -> Any:
        """Ask until it is done, a step of the cluster between two times."""
        for _ in range(200):
            try:
                return ask()
            except Pending:
                self.cluster.kserve.step()
        raise AssertionError("it never ends")

    @property
    def policy(self) -> dict[str, Any]:
        return self.gateway.revisions()["policy"]


@pytest.fixture
def fleet(
    complain: Callable[[Document], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    monkeypatch.setattr(runtime, "_FIRST_LOOK", 0.0)  # no rung is there to wait for
    cluster = Cluster(complain)
    for document in render(MANIFESTS / "overlays" / "cpu-shadow"):
        if document["kind"] in PLURALS:
            cluster.put(PLURALS[document["kind"]], document)
    cluster.kserve.settle()
    volume = tmp_path / "volume"
    for number, name in enumerate(("policy", "policy-2")):
        (volume / name).mkdir(parents=True)
        brightness_policy(volume / name / "policy.onnx", 0.02 + number)
    promoted = volume / "promoted" / "policy.onnx"
    settings = gateway_settings(policy=volume / "policy" / "policy.onnx", promoted=promoted)
    with served_cluster(cluster) as url, served(settings, {}) as gateway:
        config = ClusterRolloutConfig(
            gateway=gateway.url,
            kubeconfig=kubeconfig(tmp_path, url),
            claim=f"gearshift-models={volume}",
            promoted=promoted,
        )
        yield Fleet(cluster, volume, settings, CanaryClient(gateway.url), config)


def rollout_to(volume: Path, name: str) -> RolloutState:
    digest = sha256_file(volume / name / "policy.onnx")
    source = f"pvc://gearshift-models/{name}"
    return state(model="policy", source=source, sha256=digest, canary=digest[:12])


def revision(volume: Path, name: str) -> str:
    return sha256_file(volume / name / "policy.onnx")[:12]


def test_streams_have_the_share_of_each_step_and_keep_what_is_promoted(fleet: Fleet) -> None:
    traffic, rollout = fleet.traffic(), rollout_to(fleet.volume, "policy-2")
    old, new = revision(fleet.volume, "policy"), revision(fleet.volume, "policy-2")

    prepared = fleet.done(lambda: traffic.prepare(rollout))
    assert (prepared.stable, prepared.canary, prepared.service) == (old, new, "router-canary")
    fleet.done(lambda: traffic.shift(rollout, 25))
    assert fleet.policy == {"model": "policy", "stable": old, "revision": new, "weight": 25}
    at_work = state(**{**vars(rollout), "phase": "step", "step": rollout.plan.steps.index(25)})
    assert traffic.flows(at_work)
    fleet.gateway.remove("policy")  # as a gateway that was started again has it
    assert not traffic.flows(at_work)

    fleet.done(lambda: traffic.promote(rollout))
    assert fleet.policy == {"model": "policy", "stable": new, "revision": "", "weight": 0}
    fleet.done(lambda: traffic.promote(rollout))  # as after a crash before it was written down
    with served(fleet.settings, {}) as again:
        assert again.runtime.in_use.policy.revision == new


def test_withdrawn_streams_are_as_before(fleet: Fleet) -> None:
    traffic, rollout = fleet.traffic(), rollout_to(fleet.volume, "policy-2")
    old = revision(fleet.volume, "policy")
    fleet.done(lambda: traffic.prepare(rollout))
    fleet.done(lambda: traffic.shift(rollout, 50))
    fleet.done(lambda: traffic.withdraw(rollout))
    assert fleet.policy == {"model": "policy", "stable": old, "revision": "", "weight": 0}
    assert not (fleet.volume / "promoted").exists()


@pytest.mark.parametrize("place", ["_take_traffic_away", "_policies.keep", "_gateway.use_policy"])
def test_withdrawn_in_the_middle_of_a_promotion(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    traffic, rollout = fleet.traffic(), rollout_to(fleet.volume, "policy-2")
    old, new = revision(fleet.volume, "policy"), revision(fleet.volume, "policy-2")

    class Stopped(Exception):
        """In place of a kill."""

    def stop(*arguments: object) -> None:
        raise Stopped

    fleet.done(lambda: traffic.prepare(rollout))
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        part, _, name = place.rpartition(".")
        patched.setattr(getattr(traffic, part) if part else traffic, name, stop)
        fleet.done(lambda: traffic.promote(rollout))
    assert fleet.policy["stable"] == (old if place == "_gateway.use_policy" else new)
    fleet.done(lambda: traffic.withdraw(rollout))
    assert fleet.policy == {"model": "policy", "stable": old, "revision": "", "weight": 0}
    with served(fleet.settings, {}) as again:
        assert again.runtime.in_use.policy.revision == old


@pytest.mark.parametrize(
    ("source", "claim"),
    [
        ("pvc://gearshift-models/policy-2", "others=/nowhere"),
        ("https://models.example/policy-2", "gearshift-models=/nowhere"),
        ("s3://models/policy-2", "gearshift-models=/nowhere"),
    ],
)
def test_what_gateways_cannot_be_given_is_judged_by_the_graphs_requests(
    fleet: Fleet, source: str, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    rollout = state(**{**vars(rollout_to(fleet.volume, "policy-2")), "source": source})
    traffic = fleet.traffic(claim=claim)
    prepared = fleet.done(lambda: traffic.prepare(rollout))
    assert prepared.stable == ""
    fleet.done(lambda: traffic.shift(rollout, 25))
    assert fleet.policy["revision"] == ""
    step = rollout.plan.steps.index(25)
    assert traffic.flows(state(**{**vars(rollout), "phase": "step", "step": step}))
    fleet.done(lambda: traffic.promote(rollout))


def test_a_gateway_with_a_fixed_rung_takes_no_part(fleet: Fleet) -> None:
    rollout = rollout_to(fleet.volume, "policy-2")
    with served(gateway_settings(always="nano"), {}) as fixed:
        traffic = fleet.traffic(gateway=fixed.url)
        assert fleet.done(lambda: traffic.prepare(rollout)).stable == ""
        fleet.done(lambda: traffic.shift(rollout, 25))
        fleet.done(lambda: traffic.promote(rollout))


def test_a_source_without_a_policy_is_named(fleet: Fleet) -> None:
    rollout = rollout_to(fleet.volume, "policy-2")
    nowhere = state(**{**vars(rollout), "source": "pvc://gearshift-models/policy-3"})
    with pytest.raises(InvalidInput, match="policy-3 has no policy.onnx"):
        fleet.done(lambda: fleet.traffic().prepare(nowhere))
    with pytest.raises(ConfigurationError, match="give NAME=FOLDER"):
        fleet.traffic(claim="gearshift-models")


def test_a_policy_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = brightness_policy(tmp_path / "policy.onnx")
    signature_file(policy).write_bytes(b"signed")
    with s3_server(monkeypatch) as (host, port):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        make_bucket(f"{host}:{port}", "models")
        place = open_place("s3://models/policy-2?region=us-east-1")
        for path in (policy, signature_file(policy)):
            place.put(path.name, path)
        files = PolicyFiles(promoted=tmp_path / "promoted" / "policy.onnx")
        assert files.reads("s3://models/policy-2")
        with files.opened("s3://models/policy-2") as found:
            assert found.read_bytes() == policy.read_bytes()
            files.keep(found)
        missing = files.opened("s3://models/policy-3")
        with pytest.raises(StorageError, match="cannot be read"):
            missing.__enter__()
        assert not files.reads("s3://models/policy-3")
    kept = tmp_path / "promoted" / "policy.onnx"
    assert kept.read_bytes() == policy.read_bytes()
    assert signature_file(kept).read_bytes() == b"signed"
