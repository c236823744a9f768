"""How the dashboard runs; reading its options imports no Dash."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

from pydantic import Field

from foundation.addresses import split_address
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.path_roles import InputPath, InputText, KeptFolder
from serving_kit.foreign_pages import is_loopback


@configuration
class DashboardConfig:
    """What the dashboard reads, and where it listens. It writes nothing unless a reviewer is named.

    Attributes:
        log: folder or bucket (s3://, gs://) of the prediction log. Pages offer it and the logs
            below the folder around `runs`; without it, the newest of them is shown where the usual
            one has no rows.
        runs: folder of a pipeline run, or of several in folders of their own.
        drift: folder in which `gearshift drift check` leaves what it found.
        rollout: folder of the rollouts, in the state folder of `gearshift up`.
        tracking_uri: MLflow's tracking URI; empty means `mlflow.db` in the folder around
            `runs`.
        feedback: folder of the decisions on feedback, and of what was imported.
        data: folder of a data set, or of several; those of the runs are shown beside them.
        ledger: folder of the experiment ledger, as `gearshift experiment` writes it.
        reviewer: who decides on feedback in this dashboard; without it, decisions are off.
        ladder: folder whose card.json names the detectors' classes; the sample ladder without it.
        model_name: name of the policy in MLflow's model registry.
        gateway_url: address of the gateway whose health is shown; empty for none. Its figures are
            read with the token in the environment variable GEARSHIFT_TOKEN, if there is one.
        prometheus_url: address of the Prometheus whose alerts are shown; empty for none.
        host: address to listen on.
        hosts: names it answers to besides those of loopback, separated by commas, * for any; on
            another address than loopback any does without it.
        port: TCP port; 0 takes a free one.
        open_access: listen on other than a loopback address, though everybody who reaches it can
            see the frames that the log keeps; put a proxy that asks for a login before it.
        title: what the pages are called.
        refresh_seconds: pause between two looks at the log while a page is open.
        memory_rows: answers kept in memory, the newest; about 50 bytes each.
        threads: threads that answer queries.
    """

    log: InputText = "runs/up/log"
    runs: InputPath = Path("runs/demo")
    drift: InputPath = Path("runs/drift")
    rollout: InputPath = Path("runs/up/rollout")
    tracking_uri: str = ""
    feedback: KeptFolder = Path("runs/feedback")
    data: InputPath = Path("data")
    ledger: KeptFolder = Path("runs/experiments")
    reviewer: str = ""
    ladder: InputPath | None = None
    model_name: str = "gearshift-policy"
    gateway_url: str = "http://127.0.0.1:8600"
    prometheus_url: str = ""
    host: str = "127.0.0.1"
    hosts: str = ""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8602
    open_access: bool = False
    title: str = "Gearshift"
    refresh_seconds: Annotated[float, Field(ge=0.2, le=3600)] = 2.0
    memory_rows: Annotated[int, Field(ge=1000, le=10**9)] = 20_000_000
    threads: Annotated[int, Field(ge=1, le=256)] = 2

    def __post_init__(self) -> None:
        """Refuse addresses that cannot be, and such as would open the dashboard to everybody.

        Raises:
            ConfigurationError: names the value and what to give.
        """
        if not self.log:
            raise ConfigurationError("log is empty; give the folder or bucket of a prediction log")
        for name in ("gateway_url", "prometheus_url"):
            url = getattr(self, name)
            if url and not (
                url.startswith(("http://", "https://")) and split_address(url).hostname
            ):
                raise ConfigurationError(f"{name} is {url}; give one as http://127.0.0.1:8600")
        if self.reviewer and not is_loopback(self.host.strip("[]")):
            raise ConfigurationError(
                f"host {self.host} is no loopback address, and everybody who reaches it would "
                f"decide as {self.reviewer}; review on 127.0.0.1, or with gearshift feedback review"
            )
        if not self.open_access and not is_loopback(self.host.strip("[]")):
            raise ConfigurationError(
                f"host {self.host} is no loopback address, and the dashboard has no "
                "login; put a proxy that does before it and give open_access, or keep 127.0.0.1"
            )


def check_installed() -> None:
    """Refuse to go on without the packages that only the dashboard needs.

    Raises:
        ConfigurationError: names the one that is missing and what to install.
    """
    for name in ("dash", "dash_ag_grid", "dash_mantine_components", "duckdb"):
        if importlib.util.find_spec(name) is None:
            raise ConfigurationError(
                f"the dashboard needs the package {name}; install gearshift with the extra "
                "'dashboard': pip install 'gearshift[dashboard]'"
            )
