"""The job's options: those of the manifests, and how Kafka's Java client gets the secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from overlays import named, rendered

from flink.config import JobConfig, connector_options, parse
from foundation.command_line import read_options
from foundation.errors import ConfigurationError
from inference_graph.streams.config import BrokerConfig


def test_the_manifests_start_the_job_with_options_that_it_has() -> None:
    job = named(rendered("kafka"), "FlinkDeployment")["preparation"]["spec"]["job"]
    assert job["args"][:2] == ["-pym", "flink.job"]
    given = parse(job["args"][2:])
    assert read_options(given, JobConfig) == JobConfig()
    assert read_options(given, BrokerConfig).bootstrap == "kafka-kafka-bootstrap.kafka:9092"


def test_what_it_publishes_is_what_the_worker_and_the_autoscaler_read() -> None:
    documents = rendered("kafka")
    worker = named(documents, "StatefulSet")["kafka-worker"]["spec"]["template"]["spec"]
    arguments = worker["containers"][0]["args"]
    assert f"--frames={JobConfig.prepared}" in arguments
    (trigger,) = named(documents, "ScaledObject")["kafka-worker"]["spec"]["triggers"]
    assert trigger["metadata"]["topic"] == JobConfig.prepared
    topics = set(named(documents, "KafkaTopic"))
    assert topics == {"frames", "prepared", "minutes", "detections", "dead-letters"}


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSHIFT_KAFKA_USERNAME", "job")
    monkeypatch.setenv("GEARSHIFT_KAFKA_PASSWORD", 'a"b\\c')
    found = connector_options(BrokerConfig(bootstrap="b:1", security="sasl_ssl"))
    assert found["properties.security.protocol"] == "SASL_SSL"
    assert found["properties.sasl.mechanism"] == "SCRAM-SHA-512"
    login = found["properties.sasl.jaas.config"]
    assert "ScramLoginModule required" in login
    assert login.endswith('username="job" password="a\\"b\\\\c";')


def test_certificates_are_read(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate", "private_key")}
    for name, path in files.items():
        path.write_text(f"-- {name} --")
    found = connector_options(BrokerConfig(bootstrap="b:1", security="ssl", **files))
    assert found["properties.ssl.truststore.location"] == str(files["ca"])
    assert found["properties.ssl.keystore.key"] == "-- private_key --"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"prepared": "frames"}, "a name of its own"),
        ({"minutes": "a;b"}, "a name of its own"),
        ({"checkpoint_seconds": 0}, "checkpoint_seconds is 0"),
    ],
)
def test_a_mistake_is_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        JobConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no broker is named"):
        connector_options(BrokerConfig())
