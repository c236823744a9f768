"""A broker for tests that ask for one; skipped without Java, the client or the jars."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from secure_kafka import SecureBroker


@contextmanager
def started_broker(folder: Path) -> Iterator[SecureBroker]:
    from pipelines.streams.local_broker import is_installed

    if importlib.util.find_spec("confluent_kafka") is None:
        # Jars that are there mean that Kafka is to be tested.
        if is_installed() and os.environ.get("GEARSHIFT_REQUIRE_ALL") == "1":
            pytest.fail("Kafka's jars are there and the extra streams is missing", pytrace=False)
        pytest.skip("needs the extra streams")
    if not is_installed():
        pytest.skip("needs Java and Kafka's jars: python -m pipelines.streams.local_broker")
    from secure_kafka import SecureBroker

    with SecureBroker(folder) as running:
        yield running
