"""A broker of its own, and the job's environment; skipped where either is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from kafka_fixtures import started_broker

if TYPE_CHECKING:
    from secure_kafka import SecureBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    from pipelines.streams.local_flink import is_installed

    if not is_installed():
        pytest.skip("needs PyFlink's environment: python -m pipelines.streams.local_flink")
    with started_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running
