"""`gearshift up --kafka`: what the gateway gets, and what is refused before anything starts."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from foundation.command_line import add_options, read_options
from foundation.errors import ConfigurationError
from inference_graph.control.embedded.config import UpConfig
from inference_graph.streams.config import KafkaConfig


def test_the_gateway_reads_its_options_as_they_were_given(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.touch()
    given = UpConfig(
        open_access=True,
        kafka="one:9092,two:9092",
        kafka_frames="prepared",
        kafka_security="ssl",
        kafka_ca=authorities,
    )
    parser = argparse.ArgumentParser()
    add_options(parser, KafkaConfig, "frames from Kafka")
    command = [f"--{name}={value}" for name, value in given.kafka_options.items()]
    assert read_options(parser.parse_args(command), KafkaConfig) == KafkaConfig(
        bootstrap="one:9092,two:9092", frames="prepared", security="ssl", ca=authorities
    )


def test_without_brokers_there_are_none() -> None:
    assert UpConfig(open_access=True, kafka_frames="prepared").kafka_options == {}


def test_a_mistake_is_seen_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens.jsonl"
    tokens.touch()
    monkeypatch.delenv("GEARSHIFT_EVENT_KEY", raising=False)
    for wrong, text in (
        ({"tokens": tokens}, "GEARSHIFT_EVENT_KEY"),
        ({"open_access": True, "kafka_frames": "detections"}, "a name of its own"),
        ({"open_access": True, "kafka_security": "sasl_ssl"}, "GEARSHIFT_KAFKA_USERNAME"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            UpConfig(kafka="one:9092", **wrong)  # type: ignore[arg-type]
