"""What the job reads and writes, and how it keeps its state."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from foundation.command_line import add_options
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.path_roles import InputPath
from inference_graph.streams.config import KEY_PASSWORD, BrokerConfig, secret
from inference_graph.streams.preparation import PreparationConfig


@configuration
class JobConfig:
    """Topics and state of the job.

    Attributes:
        frames: topic of the frames, as cameras publish them.
        prepared: topic of the frames that go on to the workers.
        minutes: topic of each camera's minutes, for drift.
        dead_letters: topic of the messages that cannot be used, with the reason.
        group: consumer group, and the start of the transactional ids.
        out_of_order_seconds: how much later than others a frame may be published and still count
            for its minute.
        idle_seconds: a partition that is silent for so long holds no minute open.
        checkpoint_seconds: between two checkpoints; what is published becomes visible with them.
        checkpoints: folder or bucket of the checkpoints; Flink's own setting without it.
        parallelism: tasks that prepare frames; 0 leaves it to the cluster.
        bounded: end with the newest message that is there at the start.
        jar: the Kafka connector's jar; the cluster's own without it.
    """

    frames: str = "frames"
    prepared: str = "prepared"
    minutes: str = "minutes"
    dead_letters: str = "dead-letters"
    group: str = "gearshift-preparation"
    out_of_order_seconds: Annotated[int, Field(ge=0, le=86_400)] = 5
    idle_seconds: Annotated[int, Field(ge=1, le=86_400)] = 15
    checkpoint_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 2.0
    checkpoints: str = ""
    parallelism: Annotated[int, Field(ge=0, le=1000)] = 0
    bounded: bool = False
    jar: InputPath | None = None

    def __post_init__(self) -> None:
        """Refuse topics that are the same, or that SQL cannot name.

        Raises:
            ConfigurationError: names them.
        """
        topics = [self.frames, self.prepared, self.minutes, self.dead_letters]
        if len(set(topics)) < len(topics) or not all(topics) or ";" in "".join(topics):
            raise ConfigurationError(
                f"the topics are {', '.join(map(repr, topics))}; give each a name of its own"
            )


def connector_options(config: BrokerConfig) -> dict[str, str]:
    """How Kafka's Java client reaches the brokers, as options of Flink's connector.

    Raises:
        ConfigurationError: no broker is named, or a secret or a file is missing.
    """
    if not config.bootstrap:
        raise ConfigurationError("no broker is named; give --bootstrap HOST:PORT")
    options = {"bootstrap.servers": config.bootstrap, "security.protocol": config.security.upper()}
    if config.security.startswith("sasl"):
        user, password = _quoted(secret(config, "username")), _quoted(secret(config, "password"))
        kind = "plain.Plain" if config.mechanism == "PLAIN" else "scram.Scram"
        # The connector's jar holds Kafka's classes under a name of its own.
        module = f"org.apache.flink.kafka.shaded.org.apache.kafka.common.security.{kind}LoginModule"
        options |= {
            "sasl.mechanism": config.mechanism,
            "sasl.jaas.config": f"{module} required username={user} password={password};",
        }
    if config.ca is not None:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(config.ca)}
    if config.certificate is not None and config.private_key is not None:
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": config.certificate.read_text("ascii"),
            "ssl.keystore.key": config.private_key.read_text("ascii"),
        }
        if os.environ.get(KEY_PASSWORD):
            options["ssl.key.password"] = os.environ[KEY_PASSWORD]
    return {f"properties.{name}": value for name, value in options.items()}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of ``python -m flink.job``; the process's own without arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m flink.job",
        description="Prepare the frames of a Kafka topic: decoded under limits, without metadata, "
        "shrunk, without near repeats, with the observation; and write each camera's minutes.",
    )
    add_options(parser, JobConfig, "the job")
    add_options(parser, BrokerConfig, "brokers")
    add_options(parser, PreparationConfig, "frames")
    return parser.parse_args(arguments)


def _quoted(text: str) -> str:
    """Text as a string of a JAAS configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
