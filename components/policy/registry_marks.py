"""What a comparison came to, noted at a version of the model registry."""

from __future__ import annotations

from mlflow.exceptions import MlflowException

from components.tracking import tracking_client
from foundation.errors import StorageError

CHALLENGE_TAG = "challenge"
RELEASED_ALIAS = "released"


def mark_version(tracking_uri: str, name: str, version: str, verdict: str) -> None:
    """Tag a version with the verdict; the alias `released` names the released version.

    A version that was refused loses the alias, which the first version of a registry has.

    Args:
        tracking_uri: of MLflow.
        name: of the registered model.
        version: of it.
        verdict: "released" or "refused".

    Raises:
        StorageError: MLflow cannot be reached, or knows no such version.
    """
    client = tracking_client(tracking_uri)
    try:
        client.set_model_version_tag(name, version, CHALLENGE_TAG, verdict)
        if verdict == RELEASED_ALIAS:
            client.set_registered_model_alias(name, RELEASED_ALIAS, version)
        elif str(client.get_registered_model(name).aliases.get(RELEASED_ALIAS)) == version:
            client.delete_registered_model_alias(name, RELEASED_ALIAS)
    except MlflowException as error:
        raise StorageError(
            f"MLflow at {tracking_uri} refused to mark version {version} of {name} "
            f"({str(error).splitlines()[0]}); check register.tracking_uri"
        ) from error
