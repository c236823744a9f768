"""The drift pipeline as a recurring run of Kubeflow Pipelines."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
from pydantic import Field

from foundation.configuration import configuration
from foundation.errors import AccessError, ConfigurationError, Unavailable
from pipelines.definition import write_pipeline
from pipelines.drift.pipeline import monitoring_pipeline
from pipelines.placement import PlacementConfig

_PAGE = 100


@configuration
class ScheduleConfig:
    """Where and how often the drift pipeline runs.

    Attributes:
        host: address of Kubeflow Pipelines' API, for example http://127.0.0.1:8888.
        namespace: of the runs, where Kubeflow serves several users.
        experiment: Kubeflow experiment of the runs.
        name: of the recurring run; one of that name is replaced.
        every_hours: hours between two runs.
        image: container image of the steps.
        service_account: Kubernetes service account that the steps use; the default one without.
    """

    host: str = "http://127.0.0.1:8888"
    namespace: str = ""
    experiment: str = "gearshift"
    name: str = "gearshift-drift"
    every_hours: Annotated[float, Field(ge=0.1, le=24 * 31)] = 6.0
    image: str = PlacementConfig.image
    service_account: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigurationError where an address or a name is missing."""
        if not self.host.startswith(("http://", "https://")):
            raise ConfigurationError(f"host is {self.host!r}; give one as http://127.0.0.1:8888")
        for name in ("experiment", "name"):
            if not getattr(self, name):
                raise ConfigurationError(f"{name} is empty; give one")


@dataclass(frozen=True)
class Scheduled:
    """The recurring run that was made, and how many of its name it replaced."""

    recurring_run_id: str
    name: str
    every_hours: float
    replaced: int


def schedule_monitoring(
    config: ScheduleConfig, arguments: Mapping[str, Any], token: str | None = None
) -> Scheduled:
    """Make the recurring run, in place of one of the same name.

    Args:
        config: where, and how often.
        arguments: the pipeline's parameters.
        token: bearer token of the API, where it asks for one.

    Raises:
        AccessError: the API does not know the token, or refuses it.
        Unavailable: it does not answer, or answers an error.
        ConfigurationError: a parameter that the pipeline does not have.
    """
    with _one_line(config.host), _quiet(), tempfile.TemporaryDirectory() as folder:
        import kfp

        _ask(config.host, token)
        package = write_pipeline(
            monitoring_pipeline(PlacementConfig(image=config.image)), Path(folder)
        )
        client = kfp.Client(
            host=config.host, namespace=config.namespace or "kubeflow", existing_token=token
        )
        namespace = config.namespace or None
        experiment = client.create_experiment(config.experiment, namespace=namespace)
        older = _of_name(client, config.name, experiment.experiment_id)
        made = client.create_recurring_run(
            experiment.experiment_id,
            config.name,
            description="Compares the prediction log with the policy's training reference.",
            interval_second=round(config.every_hours * 3600),
            max_concurrency=1,
            no_catchup=True,  # one look at the newest window is worth as much as several
            params=dict(arguments),
            pipeline_package_path=str(package),
            service_account=config.service_account or None,
        )
        # Last, so that something is scheduled at every moment.
        for one in older:
            client.delete_recurring_run(one)
    return Scheduled(
        str(made.recurring_run_id), config.name, config.every_hours, replaced=len(older)
    )


def _ask(host: str, token: str | None) -> None:
    """Ask whether a server answers: KFP's client would try for half a minute, and log it all.

    Raises:
        AccessError: the token is refused.
        Unavailable: no server answers.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{host.rstrip('/')}/apis/v2beta1/healthz", headers=headers, timeout=20)
    except httpx.HTTPError as error:
        raise _unreachable(host, error) from error
    if answer.status_code in (401, 403):
        raise _refused(host, f"{answer.status_code} {answer.reason_phrase}")


def _unreachable(host: str, error: Exception) -> Unavailable:
    return Unavailable(f"no Kubeflow Pipelines at {host} ({type(error).__name__}); check --host")


def _refused(host: str, status: str) -> AccessError:
    return AccessError(
        f"Kubeflow Pipelines at {host} refuses this ({status}); set GEARSHIFT_KFP_TOKEN to a token "
        "that may make recurring runs"
    )


def _of_name(client: Any, name: str, experiment: str) -> list[str]:
    """Ids of the recurring runs of a name, over all pages."""
    found, page = [], ""
    while True:
        answer = client.list_recurring_runs(
            page_token=page, page_size=_PAGE, experiment_id=experiment
        )
        found += [
            str(one.recurring_run_id)
            for one in answer.recurring_runs or ()
            if one.display_name == name
        ]
        page = answer.next_page_token or ""
        if not page:
            return found


@contextlib.contextmanager
def _one_line(host: str) -> Iterator[None]:
    import kfp_server_api  # type: ignore[import-untyped]  # it has no types
    import urllib3

    try:
        yield
    except kfp_server_api.ApiException as error:
        status = f"{error.status} {error.reason}"
        if error.status in (401, 403):
            raise _refused(host, status) from error
        raise Unavailable(f"Kubeflow Pipelines at {host} answers {status}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _unreachable(host, error) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the client prints belongs beside the results, not among them."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
