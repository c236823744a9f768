"""Frames from Kafka on a cluster: how brokers are reached, where the log lies, what is scraped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from overlays import named, rendered
from test_overlays_valid import complaints

from feature_transformer.image import DecodeLimits
from flink.config import parse
from foundation.command_line import read_options
from foundation.errors import ConfigurationError
from inference_graph.control.manifests import ManifestOptions, render, write_manifests
from inference_graph.streams.config import BrokerConfig

SECRET = {
    "ssl": {"ca.crt", "user.crt", "user.key"},
    "sasl_plaintext": {"username", "password"},
    "sasl_ssl": {"ca.crt", "username", "password"},
}


def overlay(folder: Path, base: str, *components: str) -> list[dict[str, Any]]:
    """An overlay of one's own on another one."""
    mine = folder / "overlays" / "mine"
    mine.mkdir(parents=True)
    listed = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../{base}"],
        "components": [f"../../components/{name}" for name in components],
    }
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(listed))
    return render(mine)


def broker_options(arguments: list[str]) -> BrokerConfig:
    names = ("security", "mechanism", "credentials", "ca", "certificate", "private_key")
    given = [one for one in arguments if one[2:].partition("=")[0] in names]
    return read_options(parse(["--bootstrap=b:1", *given]), BrokerConfig)


@pytest.mark.parametrize("security", SECRET)
def test_worker_job_and_autoscaler_reach_secured_brokers(security: str, tmp_path: Path) -> None:
    options = ManifestOptions(kafka_security=security, kafka_mechanism="SCRAM-SHA-256")
    write_manifests(tmp_path, options)
    documents = render(tmp_path / "overlays" / "kafka")
    worker = named(documents, "StatefulSet")["kafka-worker"]["spec"]["template"]["spec"]
    job = named(documents, "FlinkDeployment")["preparation"]["spec"]
    found = [
        (worker["containers"][0]["args"], worker),
        (job["job"]["args"], job["podTemplate"]["spec"]),
    ]
    for arguments, pod in found:
        brokers = broker_options(arguments)
        assert brokers.security == security
        (volume,) = (one for one in pod["volumes"] if one["name"] == "kafka")
        assert volume["secret"] == {"secretName": "gearshift-kafka"}
        (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "kafka")
        files = {
            path.name
            for path in (brokers.ca, brokers.certificate, brokers.private_key)
            if path is not None and str(path.parent) == mount["mountPath"]
        }
        if security.startswith("sasl"):
            assert brokers.mechanism == "SCRAM-SHA-256"
            assert str(brokers.credentials) == mount["mountPath"]
            files |= {"username", "password"}
        assert files == SECRET[security]
    (trigger,) = named(documents, "ScaledObject")["kafka-worker"]["spec"]["triggers"]
    authentication = named(documents, "TriggerAuthentication")[trigger["authenticationRef"]["name"]]
    keys = {one["key"] for one in authentication["spec"]["secretTargetRef"]}
    assert keys == SECRET[security]
    assert trigger["metadata"]["tls"] == ("enable" if security.endswith("ssl") else "disable")
    sasl = "scram_sha256" if security.startswith("sasl") else None
    assert trigger["metadata"].get("sasl") == sasl
    assert [
        text for one in documents if "kserve" not in one["apiVersion"] for text in complaints(one)
    ] == []


def test_an_unknown_way_to_the_brokers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="kafka_security is 'tls'; give plaintext, ssl"):
        ManifestOptions(kafka_security="tls")
    with pytest.raises(ConfigurationError, match="kafka_mechanism is 'GSSAPI'"):
        ManifestOptions(kafka_mechanism="GSSAPI")


@pytest.mark.parametrize(
    ("base", "bucket", "url"),
    [("onprem", "s3", "s3://fleet/log?"), ("gke", "gs", "gs://fleet/log")],
)
def test_the_workers_log_lies_where_the_gateways_does(
    base: str, bucket: str, url: str, tmp_path: Path
) -> None:
    write_manifests(tmp_path, ManifestOptions(bucket="fleet", prometheus_release="mine"))
    documents = overlay(tmp_path, base, "kafka", f"kafka-bucket-{bucket}", "kafka-monitoring")
    sets = named(documents, "StatefulSet")
    pods = {name: sets[name]["spec"]["template"]["spec"] for name in ("gateway", "kafka-worker")}
    logs = {
        one.partition("=")[2]
        for pod in pods.values()
        for one in pod["containers"][0]["args"]
        if one.startswith(("--log_url", "--log-url"))
    }
    assert len(logs) == 1 and logs.pop().startswith(url)
    keys = [pod["containers"][0].get("envFrom") for pod in pods.values()]
    assert keys[0] == keys[1]
    policies = named(documents, "NetworkPolicy")
    ways = {
        port["port"]
        for one in policies.values()
        if "Egress" in one["spec"]["policyTypes"]
        and one["spec"]["podSelector"] == {"matchLabels": {"app": "kafka-worker"}}
        for rule in one["spec"]["egress"]
        for port in rule["ports"]
    }
    assert {"s3": 8333, "gs": 443}[bucket] in ways
    monitor = named(documents, "PodMonitor")["gearshift-kafka-worker"]
    labels = sets["kafka-worker"]["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = {one["name"] for one in pods["kafka-worker"]["containers"][0]["ports"]}
    assert endpoint["port"] in ports and endpoint["path"] == "/metrics"
    assert monitor["metadata"]["labels"]["release"] == "mine"
    assert [
        text for one in documents if "kserve" not in one["apiVersion"] for text in complaints(one)
    ] == []


def test_topics_that_are_read_hold_what_a_frame_may_have_and_nothing_packed() -> None:
    topics = named(rendered("kafka"), "KafkaTopic")
    for name in ("frames", "prepared"):
        assert topics[name]["spec"]["config"]["compression.type"] == "uncompressed", name
    largest = topics["frames"]["spec"]["config"]["max.message.bytes"]
    assert largest >= DecodeLimits.max_bytes + 2**16
