"""Which frames a policy was learned from, by its results folder or the model registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow.artifacts
from mlflow.exceptions import MlflowException

from components.evaluation.learned_frames import FRAMES_FILE, LearnedFrames, read_frames
from components.tracking import SQLITE, tracking_client
from foundation.errors import NotFound, StorageError


def frames_of(name: str, tracking_uri: str, model_name: str) -> LearnedFrames:
    """The frames of a policy.

    Args:
        name: results folder of a run; else a version or an alias in the model registry.
        tracking_uri: of MLflow.
        model_name: of the policy in the model registry.

    Raises:
        InvalidInput: its frames were not written down, by an earlier version.
        NotFound: there is no such folder, version or alias.
        StorageError: MLflow cannot be reached or read.
    """
    if Path(name).is_dir():
        return read_frames(Path(name) / FRAMES_FILE)
    database = Path(tracking_uri.removeprefix(SQLITE))
    if tracking_uri.startswith(SQLITE) and not database.is_file():  # MLflow would make it
        raise NotFound(f"{name!r} is no folder, and there is no {database}; give --runs")
    client = tracking_client(tracking_uri)
    try:
        version = (
            client.get_model_version(model_name, name)
            if name.isdecimal()
            else client.get_model_version_by_alias(model_name, name)
        )
    except MlflowException as error:
        raise NotFound(
            f"{name!r} is no folder, and no version or alias of {model_name} at {tracking_uri} "
            f"({str(error).splitlines()[0]}); give a results folder or --runs"
        ) from error
    with tempfile.TemporaryDirectory(prefix="gearshift-frames-") as scratch:
        try:
            found = mlflow.artifacts.download_artifacts(
                run_id=version.run_id,
                artifact_path=FRAMES_FILE,
                dst_path=scratch,
                tracking_uri=tracking_uri,
            )
        except (MlflowException, OSError) as error:
            raise StorageError(
                f"version {version.version} of {model_name} has no {FRAMES_FILE} at {tracking_uri} "
                f"({str(error).splitlines()[0]}); earlier versions wrote none, train again"
            ) from error
        return read_frames(Path(found))
