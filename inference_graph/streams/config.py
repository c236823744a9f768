"""Which topics frames come from and answers go to, and how the brokers are reached."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Literal

from pydantic import Field

from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.path_roles import InputPath

USERNAME, PASSWORD, KEY_PASSWORD = (
    f"GEARSHIFT_KAFKA_{name}" for name in ("USERNAME", "PASSWORD", "KEY_PASSWORD")
)
"""Environment variables of the secrets; a command line would show them to everybody."""

Security = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@configuration
class BrokerConfig:
    """How brokers are reached.

    Attributes:
        bootstrap: brokers to begin with, as `HOST:PORT`, separated by commas; frames come from
            Kafka only where it is given.
        security: how brokers are reached: plaintext, ssl, sasl_plaintext or sasl_ssl.
        mechanism: of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        credentials: folder with the files `username` and `password`, as Kubernetes mounts a
            secret; $GEARSHIFT_KAFKA_USERNAME and $GEARSHIFT_KAFKA_PASSWORD without it.
        ca: file of the authorities (PEM) whose brokers are trusted; the system's without it.
        certificate: file of this client's certificate (PEM), for mutual TLS.
        private_key: file of its key (PEM); $GEARSHIFT_KAFKA_KEY_PASSWORD decrypts it.
    """

    bootstrap: str = ""
    security: Security = "plaintext"
    mechanism: Mechanism = "SCRAM-SHA-512"
    credentials: InputPath | None = None
    ca: InputPath | None = None
    certificate: InputPath | None = None
    private_key: InputPath | None = None

    def __post_init__(self) -> None:
        """Refuse values that contradict each other.

        Raises:
            ConfigurationError: names them.
        """
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigurationError("certificate and private_key belong together; give both")
        if self.security in ("plaintext", "sasl_plaintext") and (self.ca or self.certificate):
            raise ConfigurationError(
                f"security is {self.security}, which uses no certificates; give ssl or sasl_ssl"
            )


@configuration
class KafkaConfig(BrokerConfig):
    """Frames from Kafka.

    Attributes:
        frames: topic of the frames.
        detections: topic of the answers.
        dead_letters: topic of the messages that cannot be used, with the reason.
        feedback: topic of feedback on answers; none is read without it.
        group: consumer group; the workers of one group share the frames.
        worker: this worker's name, unique in its group: a worker that is started again under its
            name takes over at once. Made of host and process without it.
        max_age: a frame older than so many seconds is skipped; none is without it.
        references: prefix of the addresses that a frame may name in place of an image, as
            `s3://bucket/frames/`, with options of the connection as a query behind it; references
            are refused without it.
        held_messages: frames that are read ahead at most.
        held_megabytes: megabytes of them at most.
        session_seconds: a worker that is silent for so long loses its frames to the others.
        transaction_seconds: answers of a worker that died become visible, or are dropped, after
            this time at the latest.
    """

    frames: str = "frames"
    detections: str = "detections"
    dead_letters: str = "dead-letters"
    feedback: str = ""
    group: str = "gearshift"
    worker: str = ""
    max_age: Annotated[float, Field(ge=0.001, le=1e9)] | None = None
    references: str = ""
    held_messages: Annotated[int, Field(ge=1, le=100_000)] = 128
    held_megabytes: Annotated[int, Field(ge=1, le=100_000)] = 64
    session_seconds: Annotated[float, Field(ge=6, le=300)] = 10.0
    transaction_seconds: Annotated[float, Field(ge=1, le=900)] = 10.0

    def __post_init__(self) -> None:
        """Refuse values that contradict each other.

        Raises:
            ConfigurationError: names them.
        """
        BrokerConfig.__post_init__(self)
        topics = [self.frames, self.detections, self.dead_letters]
        topics += [self.feedback] if self.feedback else []
        if len(set(topics)) < len(topics) or not all(topics):
            raise ConfigurationError(
                f"the topics are {', '.join(map(repr, topics))}; give each a name of its own"
            )
        if self.references and not self.references.partition("?")[0].endswith("/"):
            # s3://frames would allow s3://frames-of-others as well.
            raise ConfigurationError(
                f"references is {self.references!r}; end it with a slash, as s3://bucket/frames/"
            )

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.worker or f"{socket.gethostname()}-{os.getpid()}"


def client_options(config: BrokerConfig) -> dict[str, str | int | float | bool]:
    """What consumer, producer and administration have in common, for librdkafka.

    Raises:
        ConfigurationError: a secret is missing, or its file cannot be read.
    """
    options: dict[str, str | int | float | bool] = {
        "bootstrap.servers": config.bootstrap,
        "client.id": f"gearshift-{socket.gethostname()}-{os.getpid()}",
        "security.protocol": config.security,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2000,
        "topic.metadata.refresh.interval.ms": 10_000,
        "log_level": 3,
    }
    if config.security.startswith("sasl"):
        options |= {
            "sasl.mechanism": config.mechanism,
            "sasl.username": secret(config, "username"),
            "sasl.password": secret(config, "password"),
        }
    for name, path in (
        ("ssl.ca.location", config.ca),
        ("ssl.certificate.location", config.certificate),
        ("ssl.key.location", config.private_key),
    ):
        if path is not None:
            if not path.is_file():
                raise ConfigurationError(f"{path} is no file; give a PEM file")
            options[name] = str(path)
    if config.private_key is not None and os.environ.get(KEY_PASSWORD):
        options["ssl.key.password"] = os.environ[KEY_PASSWORD]
    return options


def secret(config: BrokerConfig, name: Literal["username", "password"]) -> str:
    """A secret of SASL, from its folder or its environment variable.

    Raises:
        ConfigurationError: it is missing, or its file cannot be read.
    """
    folder, variable = config.credentials, {"username": USERNAME, "password": PASSWORD}[name]
    if folder is not None:
        try:
            return (folder / name).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{folder / name} cannot be read; --credentials needs the files username and "
                "password"
            ) from error
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigurationError(
            f"SASL needs a {name}; set ${variable}, or give --credentials FOLDER"
        )
    return value
