"""What the pages read: the prediction log, the runs' reports and MLflow; each opened when needed.

==================  ========================================================================
``Sources.log_of``   :class:`~dashboards.log.queries.LogQueries`: figures of a prediction log
``Sources.runs``     ``tuple[Run, ...]``: folders with ``report.json``, profile, replay, policy
``Sources.data_sets`` ``dict[str, KnownData]``: data sets of the runs and of the data folder
``Sources.registry`` ``tuple[RegisteredPolicy, ...]``: versions in MLflow's model registry
==================  ========================================================================

Runs and registry are looked at again at most every ten seconds. Whatever cannot be read raises a
``GearshiftError``, whose message states what to do; the shell shows it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.profiling.timing import TimingConfig
from components.tracking import database_beside
from dashboards.config import DashboardConfig
from dashboards.log.found import find_logs, last_written
from dashboards.log.queries import LogQueries
from dashboards.pages.data.found import KnownData, find_data
from dashboards.pages.policies.registry import RegisteredPolicy, registered_policies
from dashboards.pages.policies.runs import Run, find_runs
from foundation.errors import InvalidInput, StorageError
from inference_graph.router.policy import Policy

T = TypeVar("T")
_FRESH_SECONDS = 10.0
_REFERENCE_FILE = "reference.parquet"
"""As ``components.drift.reference`` names it, which loads training frameworks."""
_LADDER = Path(__file__).resolve().parents[1] / "ladder"


class Sources:
    """Everything the pages read; may be used from several threads.

    Attributes:
        config: how the dashboard runs.
    """

    def __init__(self, config: DashboardConfig) -> None:
        """Open nothing yet.

        Raises:
            ConfigurationError: the log's url is none.
        """
        self.config = config
        self._lock = threading.Lock()
        self._policies: dict[str, Policy] = {}
        self._logs: dict[str, LogQueries] = {}
        self._found: _Remembered[tuple[str, ...]] = _Remembered(self._find_logs)
        self.log_of(config.log)  # a url that is none is refused at the start
        self._runs: _Remembered[tuple[Run, ...]] = _Remembered(lambda: find_runs(config.runs))
        self._data: _Remembered[dict[str, KnownData]] = _Remembered(
            lambda: find_data(config.data, self.runs)
        )
        self._registry: _Remembered[tuple[RegisteredPolicy, ...]] = _Remembered(
            lambda: registered_policies(self.tracking_uri, config.model_name)
        )

    @property
    def log(self) -> LogQueries:
        """The prediction log of the configuration.

        Where no log was named and the usual place has no rows, it is the newest one below the
        folder of the runs, so that a demo's log is found without an option.
        """
        named = self.config.log
        if named == DashboardConfig.log and last_written(Path(named)) is None:
            others = [name for name in self.logs if name != named]
            named = others[0] if others else named
        return self.log_of(named)

    @property
    def logs(self) -> tuple[str, ...]:
        """The log of the configuration, then those below the folder of the runs, newest first."""
        return self._found.get()

    def log_of(self, name: str | None) -> LogQueries:
        """One of ``logs``; ``log`` for another name, which an address may hold."""
        if name != self.config.log and name not in self.logs:
            return self.log
        with self._lock:
            if name not in self._logs:
                opened = LogQueries(name, self.config.memory_rows, self.config.threads)
                self._logs[name] = opened
            return self._logs[name]

    def _find_logs(self) -> tuple[str, ...]:
        named = self.config.log
        known = Path(named).resolve()
        found = find_logs(self.config.runs.parent)
        return (named, *(str(path) for path in found if path.resolve() != known))

    @property
    def runs(self) -> tuple[Run, ...]:
        """Runs, newest first; empty where there is none."""
        return self._runs.get()

    @property
    def data_sets(self) -> dict[str, KnownData]:
        """Data sets by name; empty where there is none."""
        return self._data.get()

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
        return database_beside(self.config.runs)

    @property
    def ladder(self) -> Path:
        """Folder of the ladder: the one given, or the sample's."""
        return self.config.ladder or _LADDER

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the detectors' classes, by label; empty where the ladder has no card."""
        path = self.ladder / "card.json"
        try:
            names = json.loads(path.read_text(encoding="utf-8"))["class_names"]
            return tuple(str(name) for name in names)
        except (OSError, ValueError, KeyError, TypeError):
            return ()

    def policy(self, revision: str) -> Policy | None:
        """The policy with this revision, opened; None where no run or registry here has it.

        Raises:
            ModelError: the file is no policy this program can run.
        """
        with self._lock:
            if revision not in self._policies:
                path = self._policy_file(revision)
                if path is None:
                    return None
                self._policies[revision] = Policy(path)
            return self._policies[revision]

    def expected_shares(self, revision: str) -> Mapping[str, float] | None:
        """Share of the frames by rung that the policy had when it was judged, 0..1.

        From the ``report.json`` of the run that made it, or of its MLflow run: the row
        ``gearshift``. None where neither is at hand.
        """
        shares = self._reported(revision, "gearshift").get("shares")
        if not isinstance(shares, dict):
            return None
        return {str(rung): float(share) for rung, share in shares.items()}

    def reference_ms(self, revision: str) -> float | None:
        """Mean milliseconds of large alone, as the same report has it; None where there is none."""
        mean = self._reported(revision, "always-large").get("mean_ms")
        return float(mean) if isinstance(mean, int | float) else None

    def trained_agreement(self, revision: str) -> float | None:
        """Agreement with large on the held-out frames of the policy's training, 0..1.

        From ``reference.parquet`` beside the run's report, or in its MLflow run; None where neither
        is at hand.
        """
        for folder in self._folders(revision):
            path = folder / _REFERENCE_FILE
            with suppress(OSError, pa.ArrowException):
                held_out = pq.read_table(path, columns=["agreement", "held_out"]).filter(
                    pc.field("held_out")
                )
                mean = pc.mean(held_out["agreement"]).as_py()
                if mean is not None:
                    return float(mean)
        return None

    def _folders(self, revision: str) -> Iterator[Path]:
        """Where the files of a policy are: its run's folder, its artifacts in MLflow."""
        if not revision:
            return
        yield from (run.folder for run in self.runs if run.policy_revision == revision)
        for one in self._registered():
            if one.policy_revision == revision and one.artifacts is not None:
                yield one.artifacts

    @property
    def price_per_hour(self) -> float:
        """Price of an hour of the machine, USD: the newest run's, or the default."""
        for run in self.runs:
            try:
                timings = json.loads(run.timings.read_text(encoding="utf-8"))
                return float(timings["price_per_hour_usd"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return TimingConfig().price_per_hour_usd

    def _reported(self, revision: str, name: str) -> Mapping[str, Any]:
        """A row of the report that judged a policy; empty where it is not at hand."""
        entries: tuple[Run | RegisteredPolicy, ...] = (*self.runs, *self._registered())
        for entry in entries:
            if not revision or entry.policy_revision != revision:
                continue
            try:
                report = entry.report if isinstance(entry, Run) else entry.report()
                return next(row for row in report["rows"] if row["name"] == name)
            except (InvalidInput, KeyError, TypeError, StopIteration):
                continue
        return {}

    def _policy_file(self, revision: str) -> Path | None:
        files = (folder / "policy.onnx" for folder in self._folders(revision))
        return next((file for file in files if file.is_file()), None)

    def _registered(self) -> tuple[RegisteredPolicy, ...]:
        """The registry for what can do without it: a page on the log needs no MLflow."""
        try:
            return self.registry
        except StorageError:
            return ()

    def close(self) -> None:
        """Give the memory back."""
        for log in self._logs.values():
            log.close()


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
