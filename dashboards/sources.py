"""What the pages read: the prediction log, the runs' reports and MLflow; each opened when needed.

==================  ========================================================================
``Sources.log``      :class:`~dashboards.log_queries.LogQueries`: figures of the prediction log
``Sources.runs``     ``tuple[Run, ...]``: folders with ``report.json``, profile, replay, policy
``Sources.registry`` ``tuple[RegisteredPolicy, ...]``: versions in MLflow's model registry
==================  ========================================================================

Runs and registry are looked at again at most every ten seconds. Whatever cannot be read raises a
``GearshiftError``, whose message says what to do; the shell shows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from dashboards.config import DashboardConfig
from dashboards.log_queries import LogQueries
from dashboards.registry import RegisteredPolicy, registered_policies
from dashboards.runs import Run, find_runs

T = TypeVar("T")
_FRESH_SECONDS = 10.0


class Sources:
    """Everything the pages read; may be used from several threads.

    Attributes:
        config: how the dashboard runs.
        log: the prediction log.
    """

    def __init__(self, config: DashboardConfig) -> None:
        """Open nothing yet.

        Raises:
            ConfigurationError: the log's url is none.
        """
        self.config = config
        self.log = LogQueries(config.log, config.memory_rows, config.threads)
        self._runs: _Remembered[tuple[Run, ...]] = _Remembered(lambda: find_runs(config.runs))
        self._registry: _Remembered[tuple[RegisteredPolicy, ...]] = _Remembered(
            lambda: registered_policies(self.tracking_uri, config.model_name)
        )

    @property
    def runs(self) -> tuple[Run, ...]:
        """Runs, newest first; empty where there is none."""
        return self._runs.get()

    @property
    def registry(self) -> tuple[RegisteredPolicy, ...]:
        """Registered policies, newest first; empty where there is none.

        Raises:
            StorageError: MLflow cannot be reached or read.
        """
        return self._registry.get()

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI; by default the database that the runs left."""
        if self.config.tracking_uri:
            return self.config.tracking_uri
        return f"sqlite:///{(self.config.runs / 'mlflow.db').resolve()}"

    def policy_file(self, revision: str) -> Path | None:
        """The policy with this revision, on this machine; None where there is none."""
        for run in self.runs:
            if revision and run.policy_revision == revision:
                return run.policy
        return None

    def close(self) -> None:
        """Give the memory back."""
        self.log.close()


class _Remembered(Generic[T]):
    """A value that is made again when it is older than some seconds; errors are not kept."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._value: tuple[float, T] | None = None

    def get(self) -> T:
        with self._lock:
            if self._value is None or time.monotonic() - self._value[0] > _FRESH_SECONDS:
                self._value = (time.monotonic(), self._make())
            return self._value[1]
