"""Compiled pipelines as new versions in Kubeflow Pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import kfp
from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]  # ships no types
from urllib3.exceptions import HTTPError

from foundation.errors import InvalidInput, Unavailable


@dataclass(frozen=True)
class Uploaded:
    """A pipeline's new version: names of both, and whether the pipeline was new as well."""

    pipeline: str
    version: str
    created: bool


def upload_pipelines(
    folder: Path, endpoint: str, version: str, token: str | None = None
) -> tuple[Uploaded, ...]:
    """Upload every compiled pipeline of a folder; each is called as its file is.

    Args:
        folder: where ``gearshift pipeline compile`` wrote.
        endpoint: URL of Kubeflow Pipelines.
        version: name of the new versions.
        token: bearer token, if one is needed.

    Raises:
        InvalidInput: the folder holds no pipeline, or Kubeflow refuses one.
        Unavailable: no server answers at the endpoint.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise InvalidInput(f"{folder} holds no pipeline; run gearshift pipeline compile first")
    try:
        client = kfp.Client(host=endpoint, existing_token=token)
        return tuple(_upload(client, file, version) for file in files)
    except ApiException as error:
        raise InvalidInput(
            f"{endpoint} refuses a pipeline ({error.status} {error.reason}); check the token, and "
            f"that no version {version} is there yet"
        ) from error
    except (HTTPError, OSError) as error:
        raise Unavailable(
            f"no Kubeflow Pipelines answers at {endpoint} ({type(error).__name__}); check the URL"
        ) from error


def _upload(client: kfp.Client, file: Path, version: str) -> Uploaded:
    name = file.stem
    known = client.get_pipeline_id(name)
    if known is None:
        known = client.upload_pipeline(str(file), pipeline_name=name).pipeline_id
        created = True
    else:
        created = False
    client.upload_pipeline_version(str(file), pipeline_version_name=version, pipeline_id=known)
    return Uploaded(name, version, created)
