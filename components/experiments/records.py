"""Attempts in MLflow: one run each, made and sealed before anything else runs."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from components.experiments.attempt import Attempt
from components.experiments.seal import Seal, opened
from components.tracking import NOTE_TAG, SQLITE, experiment_id, tracking_client
from foundation.errors import SealBroken, StorageError

EXPERIMENT = "gearshift-experiments"
"""MLflow's experiment of all attempts."""
_ABOUT = (
    "Launches of experiments, each sealed before it ran: `gearshift experiment list`. The policy "
    "that a launch trained is a run of its own; both link to each other."
)
SEAL_FILE = "seal.json"
_TAG = "gearshift."
_logger = logging.getLogger(__name__)
_FIGURES = "figures"
_BATCH = 100
_TEXTS = tuple(
    one.name for one in fields(Attempt) if one.name not in (_FIGURES, "overrides", "run_id")
)
_STATUS = {
    "queued": "SCHEDULED",
    "running": "RUNNING",
    "interrupted": "KILLED",
    "cancelled": "KILLED",
    "failed": "FAILED",
    "succeeded": "FINISHED",
}


class Records:
    """The attempts of a ledger in MLflow, which is imported when the first one is asked for."""

    def __init__(self, tracking_uri: str, artifacts: Path) -> None:
        """Nothing is opened yet.

        Args:
            tracking_uri: of MLflow.
            artifacts: folder of artifacts where MLflow is a database file; a server has its own.
        """
        self.tracking_uri = tracking_uri
        self._artifacts = artifacts
        self._opened: Any = None

    def create(self, attempt: Attempt, sealed: Seal) -> str:
        """Make the run of an attempt and put the seal into it.

        Returns:
            The run's id.

        Raises:
            StorageError: MLflow cannot be reached or written to.
        """
        with self.connected() as client:
            run = client.create_run(
                self._experiment(client),
                run_name=attempt.attempt,
                tags={
                    **_tags(attempt),
                    f"{_TAG}seal": sealed.sha256,
                    f"{_TAG}hypothesis": sealed.contract.hypothesis,
                    NOTE_TAG: launch_note(attempt, sealed),
                },
            )
            run_id = str(run.info.run_id)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / SEAL_FILE
                record = {"sha256": sealed.sha256, "content": sealed.content}
                file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
                client.log_artifact(run_id, str(file))
            log_inputs(client, run_id, sealed)
            client.update_run(run_id, status=_STATUS[attempt.state])
        return run_id

    def update(self, attempt: Attempt) -> None:
        """Write down where an attempt stands; raises ``StorageError`` as ``create``."""
        from mlflow.entities import Metric, RunTag

        with self.connected() as client:
            tags = [RunTag(name, value) for name, value in _tags(attempt).items()]
            client.log_batch(attempt.run_id, tags=tags)
            metrics = [Metric(name, value, 0, 0) for name, value in attempt.figures.items()]
            if attempt.state == "succeeded" and metrics:
                for start in range(0, len(metrics), 500):
                    client.log_batch(attempt.run_id, metrics=metrics[start : start + 500])
            client.update_run(attempt.run_id, status=_STATUS[attempt.state])

    def attach(self, attempt: Attempt, files: tuple[Path, ...]) -> None:
        """Keep files with an attempt's run, those that are there; raises as ``create``."""
        with self.connected() as client:
            for file in files:
                if file.is_file():
                    client.log_artifact(attempt.run_id, str(file))

    def seal_of(self, run_id: str) -> Seal:
        """The seal of a run, verified against its own hash and against the run's tag.

        Raises:
            SealBroken: it was changed, or is gone.
            StorageError: MLflow cannot be reached.
        """
        with self.connected() as client:
            tag = client.get_run(run_id).data.tags.get(f"{_TAG}seal", "")
            with tempfile.TemporaryDirectory() as folder:
                try:
                    file = Path(client.download_artifacts(run_id, SEAL_FILE, folder))
                    record = json.loads(file.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise SealBroken(f"run {run_id} has no {SEAL_FILE} that can be read") from error
        if not isinstance(record, dict):
            raise SealBroken(f"run {run_id} has no {SEAL_FILE} that can be read")
        found = opened(record.get("content"), str(record.get("sha256")))
        if found.sha256 != tag:
            raise SealBroken(
                f"the seal of {found.attempt} is {found.sha256[:12]}, its run says {tag[:12]}; "
                "one of them was changed afterwards"
            )
        return found

    def get(self, run_id: str) -> Attempt:
        """The attempt of a run; raises ``StorageError`` as ``create``."""
        with self.connected() as client:
            return _attempt(client.get_run(run_id))

    def all(self) -> Iterator[Attempt]:
        """Every attempt, the newest first; raises ``StorageError`` as ``create``."""
        with self.connected() as client:
            found = client.get_experiment_by_name(EXPERIMENT)
            token: str | None = ""
            while found is not None and token is not None:
                page = client.search_runs(
                    [found.experiment_id], max_results=1000, page_token=token or None
                )
                for run in page:
                    if f"{_TAG}attempt" not in run.data.tags:
                        continue
                    try:
                        yield _attempt(run)
                    except StorageError as error:  # one run must not cost all others
                        _logger.warning("%s", error)
                token = page.token or None

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """A client of MLflow; what MLflow raises in the block becomes ``StorageError``."""
        from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self._opened is None:
                logging.getLogger("mlflow").setLevel(logging.WARNING)
                MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
                if self.tracking_uri.startswith(SQLITE):
                    place = Path(self.tracking_uri.removeprefix(SQLITE))
                    place.parent.mkdir(parents=True, exist_ok=True)
                self._opened = tracking_client(self.tracking_uri)
            yield self._opened
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise StorageError(
                f"MLflow at {self.tracking_uri} cannot be used ({reason}); check tracking_uri"
            ) from error

    def _experiment(self, client: Any) -> str:
        own = self.tracking_uri.startswith(SQLITE)
        return experiment_id(client, EXPERIMENT, _ABOUT, self._artifacts if own else None)


def log_inputs(client: Any, run_id: str, sealed: Seal) -> None:
    """Log every option of a launch, the versions of what it read, and the data set.

    Args:
        client: of MLflow.
        run_id: of the launch's run, or of its policy's.
        sealed: the launch's seal.
    """
    from mlflow.entities import Dataset, DatasetInput, Param

    versions = sealed.content["versions"]
    options = {
        f"{stage}.{name}": value
        for stage, chosen in sealed.content["configuration"].items()
        for name, value in chosen.items()
    }
    parameters = [
        Param(name, str(value)[:6000])
        for name, value in {**options, "source": sealed.content["source"], **versions}.items()
    ]
    for start in range(0, len(parameters), _BATCH):
        client.log_batch(run_id, params=parameters[start : start + _BATCH])
    source = sealed.content["source"] or "sample scenes"
    dataset = Dataset(
        Path(source).name[:500] or source[:500],
        str(versions.get("data_version") or source)[-36:],
        "local",
        json.dumps({"uri": source}),
    )
    client.log_inputs(run_id, [DatasetInput(dataset)])


def launch_note(attempt: Attempt, sealed: Seal) -> str:
    """The description of a launch's run, Markdown."""
    contract = sealed.contract
    lines = [
        f"**{contract.objective}** ({contract.author})",
        contract.hypothesis,
        f"Expected: `{contract.expected}`",
        f"`gearshift experiment show {attempt.experiment}`",
    ]
    return "\n\n".join(lines)


def _tags(attempt: Attempt) -> dict[str, str]:
    values = {name: getattr(attempt, name) for name in _TEXTS}
    tags = {
        f"{_TAG}{name}": "" if value is None else str(value)[:5000]
        for name, value in values.items()
    }
    tags[f"{_TAG}overrides"] = json.dumps(dict(attempt.overrides))
    return tags


def _attempt(run: Any) -> Attempt:
    """What a run's tags state; raises ``StorageError`` where somebody else changed them."""
    tags: Mapping[str, str] = run.data.tags
    values: dict[str, Any] = {name: tags.get(f"{_TAG}{name}", "") for name in _TEXTS}
    try:
        code = values["exit_code"]
        values["exit_code"] = int(code) if code else None
        found = Attempt(
            **values,
            run_id=str(run.info.run_id),
            figures=dict(run.data.metrics),
            overrides=dict(json.loads(tags.get(f"{_TAG}overrides", "{}"))),
        )
        if found.state not in _STATUS or found.attempt != f"{found.experiment}.{found.number}":
            raise ValueError("its state or its name is none")
    except (ValueError, TypeError, RecursionError) as error:
        raise StorageError(
            f"the run {run.info.run_id} has tags that this program did not write "
            f"({' '.join(str(error).split())[:100]}); correct or delete it in MLflow"
        ) from error
    return found
