"""MLflow's tracking address: checked before it is used, and given up on within seconds.

Left alone, MLflow makes a folder of a misspelled address, asks a server that is away for minutes,
and cuts the name of a database's file at a question mark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from foundation.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SQLITE = "sqlite:///"
_FILE = "mlflow.db"
NOTE_TAG = "mlflow.note.content"
"""MLflow shows it as the description of a run or an experiment, in Markdown."""
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
"""With it MLflow's page of an experiment opens on its runs, not on traces of language models."""
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https")
_SECONDS = 10
_CONNECTED = {"postgresql": {"connect_timeout": _SECONDS}, "mysql": {"connect_timeout": _SECONDS}}
"""What the drivers of a database take; others give up by themselves."""
_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


def database_in(runs: Path) -> str:
    """Address of the database in the folder of all runs, where no other is named.

    Raises:
        ConfigurationError: the folder's name has a character that MLflow does not take there.
    """
    return check_address(f"{SQLITE}{runs.resolve() / _FILE}")


def database_beside(folder: Path) -> str:
    """Address of the database for a folder of results, or for a ledger, where no other is named.

    It lies in the folder around it, so that all runs share one. A folder that has a database of its
    own, as earlier versions made it, keeps it.

    Raises:
        ConfigurationError: the folder's name has a character that MLflow does not take there.
    """
    return database_in(folder if (folder / _FILE).is_file() else folder.resolve().parent)


def check_address(uri: str) -> str:
    """Refuse an address of which MLflow makes something else than what is meant.

    Raises:
        ConfigurationError: no address of a database or of a server.
    """
    scheme, marked, rest = uri.partition("://")
    if not marked or scheme.partition("+")[0] not in (*_DATABASES, *_SERVERS, "databricks"):
        raise ConfigurationError(
            f"the tracking URI {uri!r} is no address of MLflow's; give sqlite:///FILE, the address "
            "of a server (http://HOST:PORT), or of a PostgreSQL, MySQL or MSSQL database"
        )
    if scheme in _SERVERS:
        try:
            known = urlsplit(uri).hostname and (urlsplit(uri).port or True)
        except ValueError:
            known = False
        if not known:
            raise ConfigurationError(f"the tracking URI {uri!r} names no host; correct it")
    if scheme == "sqlite" and any(mark in rest for mark in "?%\n"):
        raise ConfigurationError(
            f"the tracking URI {uri!r} has a ?, a % or a line break, which MLflow does not take in "
            "the name of a database's file; use another folder, or name another address"
        )
    return uri


def tracking_client(uri: str) -> MlflowClient:
    """A client of MLflow whose server or database was seen to answer.

    Raises:
        ConfigurationError: no address of MLflow's.
        StorageError: the server or the database does not answer.
    """
    check_address(uri)
    for name, value in _RETRIES.items():  # else 7 retries of 2 minutes each
        os.environ.setdefault(name, value)
    if uri.startswith(SQLITE):
        _check_file(Path(uri.removeprefix(SQLITE)), uri)
    if uri.partition("://")[0] in _SERVERS:
        _ask(uri)
    elif uri.partition("://")[0] != "databricks":
        _connect(uri)
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri, registry_uri=uri)


def experiment_id(
    client: MlflowClient, name: str, description: str, artifacts: Path | None = None
) -> str:
    """The id of an experiment, which is made where it is missing; its page opens on the runs.

    Args:
        client: of MLflow.
        name: of the experiment.
        description: Markdown that its page shows.
        artifacts: folder of a new experiment's artifacts; MLflow chooses without it.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        place = artifacts.resolve().as_uri() if artifacts is not None else None
        made = str(client.create_experiment(name, artifact_location=place))
        known: dict[str, str] = {}
    else:
        made, known = str(found.experiment_id), found.tags
    for tag, value in ((_KIND_TAG, _KIND), (NOTE_TAG, description)):
        if tag not in known:
            client.set_experiment_tag(made, tag, value)
    return made


def _check_file(file: Path, uri: str) -> None:
    """SQLAlchemy's own refusals are tracebacks of many pages."""
    if file.is_dir() or not file.parent.is_dir():
        what = "a folder" if file.is_dir() else "in a folder that is not there"
        raise StorageError(f"MLflow's database {uri} is {what}; check the tracking URI")


def _ask(uri: str) -> None:
    try:  # it answers; MLflow reports whether it lets us in
        with httpx.stream("GET", uri, timeout=_SECONDS):
            pass
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StorageError(
            f"MLflow at {uri} does not answer ({error}); start it, or check the tracking URI"
        ) from error


def _connect(uri: str) -> None:
    """MLflow tries ten times, for 102 s, whatever the reason."""
    import sqlalchemy
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    try:
        address = sqlalchemy.make_url(uri)
        options = _CONNECTED.get(address.get_backend_name(), {})
        engine = sqlalchemy.create_engine(address, connect_args=options, pool_size=1)
        try:
            sqlalchemy.inspect(engine).get_table_names()
        finally:
            engine.dispose()
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigurationError(
            f"the tracking URI of a {uri.partition('://')[0]} database needs a driver that is not "
            f"installed ({error}); install it, or name another address"
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise StorageError(
            f"MLflow's database {_without_password(uri)} cannot be used ({reason}); check that it "
            "is there, and the tracking URI"
        ) from error


def _without_password(uri: str) -> str:
    before, at, host = uri.rpartition("@")
    return f"{uri.partition('://')[0]}://…@{host}" if at and before else uri
