"""Registered policies, read from MLflow; MLflow is imported when the first one is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from components.tracking import SQLITE, tracking_client
from foundation.addresses import split_address
from foundation.errors import InvalidInput, StorageError


@dataclass(frozen=True)
class RegisteredPolicy:
    """One version in MLflow's model registry.

    Attributes:
        name: of the model.
        version: its number as text.
        run_id: MLflow run that made it.
        created: when; aware, UTC.
        description: its card, Markdown.
        tags: figures of the report as text (retained, latency_ratio, gap_share, latency_weight)
            and the file's sha256.
        aliases: names that point to it.
        artifacts: the run's artifacts on this machine; None where they lie elsewhere.
    """

    name: str
    version: str
    run_id: str
    created: datetime
    description: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    artifacts: Path | None

    @property
    def policy_revision(self) -> str:
        """First 12 digits of the policy's digest, as the log has it."""
        return self.tags.get("sha256", "")[:12]

    def report(self) -> Mapping[str, Any]:
        """The ``report.json`` its run logged.

        Raises:
            InvalidInput: it is not on this machine, or broken.
        """
        path = (self.artifacts or Path("elsewhere")) / "report.json"
        try:
            content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"the report of {self.name} version {self.version} is not at {path}; "
                "open the dashboard where MLflow keeps its artifacts"
            ) from error
        return content


def registered_policies(tracking_uri: str, model_name: str) -> tuple[RegisteredPolicy, ...]:
    """All versions of a policy, newest first; none where no database is.

    Raises:
        StorageError: MLflow cannot be reached or read.
    """
    database = sqlite_file(tracking_uri)
    if database is not None and not database.is_file():
        return ()  # MLflow would make it, and the dashboard writes nothing
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = tracking_client(tracking_uri)
        found = client.search_model_versions(f"name = '{model_name}'")
        names = _aliases(client, model_name) if found else {}
        policies = [
            RegisteredPolicy(
                name=one.name,
                version=str(one.version),
                run_id=one.run_id,
                created=datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
                description=one.description or "",
                tags=dict(one.tags),
                aliases=names.get(str(one.version), ()),
                artifacts=_local(client.get_run(one.run_id).info.artifact_uri),
            )
            for one in found
        ]
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise StorageError(
            f"MLflow at {tracking_uri} cannot be read ({reason}); check tracking_uri"
        ) from error
    return tuple(sorted(policies, key=lambda one: int(one.version), reverse=True))


def sqlite_file(tracking_uri: str) -> Path | None:
    """The database's file; None for any other kind of tracking URI."""
    return Path(tracking_uri.removeprefix(SQLITE)) if tracking_uri.startswith(SQLITE) else None


def _aliases(client: Any, model_name: str) -> dict[str, tuple[str, ...]]:
    """Aliases by version. A search for versions leaves them out; the model itself has them."""
    found: dict[str, tuple[str, ...]] = {}
    for alias, version in sorted(client.get_registered_model(model_name).aliases.items()):
        found[str(version)] = (*found.get(str(version), ()), alias)
    return found


def _local(uri: str) -> Path | None:
    parts = split_address(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
