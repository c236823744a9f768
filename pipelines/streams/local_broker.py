"""Apache Kafka's own broker on this machine, as one process in KRaft mode.

``python -m pipelines.streams.local_broker`` fetches its jars with Maven, once, into
``~/.cache/gearshift/kafka``; Maven's own settings define from where.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from foundation.errors import Unavailable
from inference_graph.streams.broker import kafka
from pipelines.streams.maven import cache, fetch_jars

VERSION = "4.1.1"
_START_SECONDS = 120.0
_LOGGING = """Configuration:
  Appenders: {Console: {name: Console, target: SYSTEM_ERR}}
  Loggers: {Root: {level: warn, AppenderRef: {ref: Console}}}
"""
_SMALL = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def jars() -> Path:
    """Folder of the broker's jars, or where they will lie."""
    return cache("kafka", VERSION)


def is_installed() -> bool:
    """Whether a broker can be started without fetching anything."""
    return shutil.which("java") is not None and (jars() / f"kafka_2.13-{VERSION}.jar").is_file()


def install() -> Path:
    """The broker's jars, fetched with Maven where they are not there.

    Raises:
        ConfigurationError: Java or Maven is not installed.
        InvalidInput: Maven cannot fetch them.
    """
    if not is_installed():
        fetch_jars("org.apache.kafka", "kafka_2.13", VERSION, jars())
    return jars()


class LocalBroker:
    """One broker; a context manager that ends it. Its ports stay the same when it restarts.

    Attributes:
        bootstrap: its address without security.
    """

    def __init__(
        self,
        folder: Path,
        ports: Sequence[int],
        listeners: Mapping[str, tuple[str, int]] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        """A broker that does not run yet.

        Args:
            folder: of its data; an empty one, or that of a broker before it.
            ports: of the broker and of its controller.
            listeners: further ones: security protocol and port by name.
            properties: further settings of the server.
        """
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = f"127.0.0.1:{ports[0]}"
        names = {"PLAIN": ("PLAINTEXT", ports[0]), **(listeners or {})}
        addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, (_, port) in names.items())
        protocols = ",".join(f"{name}:{protocol}" for name, (protocol, _) in names.items())
        self._properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{ports[1]}",
            "listeners": f"{addresses},CONTROLLER://127.0.0.1:{ports[1]}",
            "advertised.listeners": addresses,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{protocols}",
            "log.dirs": str(folder / "data"),
            "auto.create.topics.enable": "false",
            # Of one broker there is one copy.
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "offsets.topic.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
            **(properties or {}),
        }

    def __enter__(self) -> LocalBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ConfigurationError: Java or Maven is not installed.
            InvalidInput: the jars cannot be fetched.
            Unavailable: it ended, or does not answer.
        """
        install()
        self._folder.mkdir(parents=True, exist_ok=True)
        settings, logging = self._folder / "server.properties", self._folder / "log4j2.yaml"
        lines = (f"{name}={value}\n" for name, value in self._properties.items())
        settings.write_text("".join(lines), encoding="utf-8")
        logging.write_text(_LOGGING, encoding="utf-8")
        if not (self._folder / "data").is_dir():
            cluster = f"--cluster-id={base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]}"
            formatted = subprocess.run(
                [*self._java("kafka.tools.StorageTool"), "format", cluster, "-c", settings],
                capture_output=True,
                text=True,
                check=False,
            )
            if formatted.returncode:
                raise Unavailable(f"the broker's folder cannot be made: {formatted.stderr[-300:]}")
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java("kafka.Kafka"), str(settings)], stdout=log, stderr=log
            )
        admin = kafka().admin.AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        end = time.monotonic() + _START_SECONDS
        while not _answers(lambda: admin.list_topics(timeout=1.0)):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise Unavailable(f"the broker did not start; see {self._folder / 'broker.log'}")

    def stop(self) -> None:
        """End it; what it stored stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def create_topics(self, partitions: int, *names: str) -> None:
        """Make topics; see :func:`create_topics`.

        Raises:
            Unavailable: one cannot be made.
        """
        create_topics(self.bootstrap, partitions, names)

    def _java(self, main: str) -> list[str]:
        return [
            "java",
            *_SMALL,
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.yaml'}",
            "-cp",
            f"{jars()}/*",
            main,
        ]


def create_topics(bootstrap: str, partitions: int, names: Iterable[str]) -> None:
    """Make topics whose messages are stored unpacked, as a worker wants those that it reads.

    Args:
        bootstrap: the brokers.
        partitions: of each topic.
        names: of the topics.

    Raises:
        Unavailable: one cannot be made.
    """
    client = kafka()
    admin = client.admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    settings = {"compression.type": "uncompressed"}
    wanted = [client.admin.NewTopic(name, partitions, 1, config=settings) for name in names]
    for name, made in admin.create_topics(wanted).items():
        try:
            made.result(30)
        except client.KafkaException as error:
            reason = error.args[0].str()
            raise Unavailable(f"topic {name} cannot be made at {bootstrap}: {reason}") from error


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except kafka().KafkaException:
        time.sleep(0.1)
        return False
    return True


if __name__ == "__main__":
    if "--cached" in sys.argv:
        sys.exit(0 if is_installed() else 1)
    print(install())
