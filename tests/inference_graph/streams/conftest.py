"""One broker for the session: Apache Kafka's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka_fixtures import started_broker

if TYPE_CHECKING:
    from kafka_samples import Topics
    from secure_kafka import SecureBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with started_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def topics(broker: SecureBroker) -> Topics:
    from kafka_samples import Topics

    return Topics(broker.broker)


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """A folder that stands for a bucket."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder
