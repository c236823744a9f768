"""Brokers that are away or refuse: the worker reports it, tries again, and goes on once it can."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from gateway_samples import Rungs
from kafka_fixtures import started_broker
from kafka_samples import Topics, worker
from processes import until
from secure_kafka import PASSWORDS, SecureBroker

from foundation.errors import ConfigurationError
from inference_graph.control.embedded.platform import free_ports
from inference_graph.streams.broker import Broker
from inference_graph.streams.config import KafkaConfig, client_options
from inference_graph.streams.uncommitted import UncommittedMessages
from pipelines.streams.local_broker import LocalBroker


def credentials(folder: Path, user: str, password: str) -> Path:
    for name, text in (("username", user), ("password", password + "\n")):
        (folder / name).write_text(text)
    return folder


def test_a_broker_that_starts_later_is_found(rungs: Rungs, tmp_path: Path) -> None:
    pytest.importorskip("confluent_kafka")
    with contextlib.closing(free_ports()) as ports:
        address = f"127.0.0.1:{next(ports)}"
    with worker(KafkaConfig(bootstrap=address), rungs, ready=False) as gateway:
        until(lambda: f"no broker answers at {address}" in gateway.http.get("/readyz").text)
        assert gateway.http.get("/readyz").status_code == 503
        assert gateway.http.get("/healthz").status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_frames_wait_for_a_broker_that_restarts(
    rungs: Rungs, tmp_path: Path, broker: SecureBroker
) -> None:
    with contextlib.closing(free_ports()) as found:
        ports = next(found), next(found)
    with LocalBroker(tmp_path / "own", ports) as own:
        topics = Topics(own)
        camera = topics.camera()
        with worker(topics.config(), rungs) as gateway:
            for _ in range(10):
                camera.send()
            camera.flush()
            topics.read("detections", 5)
            own.kill()
            for _ in range(10):
                camera.send()
            time.sleep(0.5)
            own.start()
            camera.flush()
            answers = topics.read("detections", 20, 200)
            until(lambda: gateway.http.get("/readyz").status_code == 200)
    assert [one["value"]["frame"] for one in answers] == [str(number) for number in range(20)]


def client_threads() -> int:
    """Threads of this process that run a Kafka client."""
    tasks = Path("/proc/self/task").glob("*/comm")
    return sum(task.read_text().startswith("rdk:main") for task in tasks)


def test_a_closed_connection_leaves_no_client(topics: Topics) -> None:
    """It would go on connecting, and log that no broker answers, as long as it is referenced."""
    before = client_threads()
    connection = Broker(topics.config(), UncommittedMessages())
    assert client_threads() == before + 2
    connection.close()
    until(lambda: client_threads() == before, 30)


def test_a_worker_signs_in_over_tls(
    topics: Topics, rungs: Rungs, broker: SecureBroker, tmp_path: Path
) -> None:
    camera = topics.camera()
    camera.send()
    camera.flush()
    config = topics.config(
        bootstrap=broker.secure,
        security="sasl_ssl",
        mechanism="PLAIN",
        ca=broker.ca,
        credentials=credentials(tmp_path, "worker", PASSWORDS["worker"]),
    )
    with worker(config, rungs):
        assert len(topics.read("detections", 1)) == 1


@pytest.mark.parametrize(
    ("user", "password", "reason"),
    [
        ("stranger", PASSWORDS["stranger"], "grant its user Read"),
        ("worker", "wrong", "no broker answers"),
    ],
)
def test_who_has_no_rights_learns_which_to_ask_for(
    topics: Topics,
    rungs: Rungs,
    broker: SecureBroker,
    tmp_path: Path,
    user: str,
    password: str,
    reason: str,
) -> None:
    config = topics.config(
        bootstrap=broker.secure,
        security="sasl_ssl",
        mechanism="PLAIN",
        ca=broker.ca,
        credentials=credentials(tmp_path, user, password),
    )
    with worker(config, rungs, ready=False) as gateway:
        until(lambda: reason in gateway.http.get("/readyz").text)
        assert password not in gateway.http.get("/readyz").text


@pytest.mark.parametrize(
    ("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_a_missing_client_fails_where_everything_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("GEARSHIFT_REQUIRE_ALL", required)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("pipelines.streams.local_broker.is_installed", lambda: True)
    with pytest.raises(outcome), started_broker(tmp_path):
        pass


def test_secrets_come_from_the_environment_or_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = KafkaConfig(bootstrap="b:1", security="sasl_plaintext")
    with pytest.raises(ConfigurationError, match="set \\$GEARSHIFT_KAFKA_USERNAME"):
        client_options(config)
    monkeypatch.setenv("GEARSHIFT_KAFKA_USERNAME", "ann")
    monkeypatch.setenv("GEARSHIFT_KAFKA_PASSWORD", "s3cret")
    options = client_options(config)
    assert (options["sasl.username"], options["sasl.password"]) == ("ann", "s3cret")
    with pytest.raises(ConfigurationError, match="username cannot be read"):
        client_options(
            KafkaConfig(bootstrap="b:1", security="sasl_plaintext", credentials=tmp_path)
        )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"frames": "a", "detections": "a"}, "a name of its own"),
        ({"dead_letters": ""}, "a name of its own"),
        ({"certificate": Path("a.pem")}, "belong together"),
        ({"ca": Path("a.pem")}, "uses no certificates"),
        ({"max_age": 0}, "max_age is 0"),
        ({"security": "tls"}, "security is tls"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    given: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        KafkaConfig(**given)  # type: ignore[arg-type]
