"""A Prometheus of the platform's own, on this machine: what it scrapes, its rules, its data."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import InvalidInput
from foundation.storage import atomic_path
from inference_graph.control.embedded.supervisor import Service
from inference_graph.control.monitoring.alerts import GATEWAY_JOB, SERVICES_JOB
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.rules import rules_text
from inference_graph.control.notifications.webhooks import webhooks_of
from inference_graph.metric_names import STABLE, TRACK

EMBEDDED_OBJECTIVES = replace(Objectives(), scrape_seconds=5)
_RETENTION, _LARGEST = "15d", "1GB"
_FOLDER = "prometheus"
SERVICES_FILE = f"{_FOLDER}/services.json"
"""Below the state folder: the services that are scraped; Prometheus follows its changes."""
_TRIGGERS = "/v1/triggers"
"""Below it the gateway takes alerts as an Alertmanager does."""


@dataclass(frozen=True)
class Scraped:
    """A service that is looked at.

    Attributes:
        service: its name, a label of all its metrics.
        component: predictor or transformer; a label too.
        address: host:port of its HTTP server.
        track: whether it is the revision in use, or one that is rolled out; a label too.
    """

    service: str
    component: str
    address: str
    track: str = STABLE


@dataclass(frozen=True)
class MonitoringPlan:
    """What to start.

    Attributes:
        state: folder for the configuration, the rules and the data.
        address: host:port where Prometheus listens.
        gateway: host:port of the gateway.
        services: the others.
        notifier: host:port of what turns alerts into messages; none without it.
        rules: rules file in place of the project's own.
        objectives: thresholds of the alerts, and how often they are evaluated.
        token: what the gateway wants to be shown; nothing where access is open.
        triggers: whether alerts go to the gateway too, whose triggers wait for them.
    """

    state: Path
    address: str
    gateway: str
    services: Sequence[Scraped]
    notifier: str | None = None
    rules: Path | None = None
    objectives: Objectives = EMBEDDED_OBJECTIVES
    token: str | None = field(default=None, repr=False)
    triggers: bool = False


def monitoring_services(plan: MonitoringPlan) -> list[Service]:
    """Prometheus, and before it the notifier if there is one; writes their files.

    Args:
        plan: what to start.

    Raises:
        InvalidInput: Prometheus is not installed, or no such rules file.
        StorageError: the files cannot be written.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise InvalidInput(
            "there is no program `prometheus` for --monitoring; install it (Debian and Ubuntu: "
            "`apt install prometheus`), or leave the option out"
        )
    if plan.rules is not None and not plan.rules.is_file():
        raise InvalidInput(
            f"there is no rules file {plan.rules}; `gearshift rules --out {plan.rules}` writes one"
        )
    folder = (plan.state / _FOLDER).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    token = None if plan.token is None else _token_file(folder, plan.token)
    rules = folder / "rules.yaml"
    _write(
        rules,
        rules_text(plan.objectives) if plan.rules is None else plan.rules.read_text("utf-8"),
    )
    scrape(plan.state, plan.services)
    configuration = folder / "prometheus.yaml"
    _write(configuration, yaml.safe_dump(_configuration(plan, rules, token), sort_keys=False))
    command = (
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={_RETENTION}",
        f"--storage.tsdb.retention.size={_LARGEST}",
        f"--web.listen-address={plan.address}",
        "--log.level=warn",
    )
    url = f"http://{plan.address}"
    services = [Service("prometheus", command, f"{url}/-/ready", url)]
    if plan.notifier is not None:
        services.insert(0, _notifier(plan.notifier))
    return services


def scrape(state: Path, services: Sequence[Scraped]) -> None:
    """Have a platform's Prometheus look at these services from now on, and at no others.

    Args:
        state: the platform's folder.
        services: all of them.

    Raises:
        StorageError: the file cannot be written.
    """
    groups = [
        {
            "targets": [one.address],
            "labels": {"service": one.service, "component": one.component, TRACK: one.track},
        }
        for one in services
    ]
    _write(state / SERVICES_FILE, json.dumps(groups, indent=1) + "\n")


def wants_notifier() -> bool:
    """Whether a webhook is set, so that alerts have somewhere to go.

    Raises:
        ConfigurationError: a webhook's address that is none.
    """
    return bool(webhooks_of())


def _notifier(address: str) -> Service:
    host, _, port = address.rpartition(":")
    command = (
        sys.executable,
        "-m",
        "inference_graph.control.notifications",
        f"--host={host}",
        f"--port={port}",
    )
    return Service("notifier", command, f"http://{address}/healthz", f"http://{address}")


def _configuration(plan: MonitoringPlan, rules: Path, token: Path | None) -> dict[str, Any]:
    every = f"{plan.objectives.scrape_seconds}s"
    gateway: dict[str, Any] = {
        "job_name": GATEWAY_JOB,
        "static_configs": [{"targets": [plan.gateway]}],
    }
    if token is not None:
        gateway["authorization"] = {"credentials_file": str(token)}
    services = {
        "job_name": SERVICES_JOB,
        "file_sd_configs": [{"files": [str((plan.state / SERVICES_FILE).resolve())]}],
    }
    written: dict[str, Any] = {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
        },
        "rule_files": [str(rules)],
        "scrape_configs": [gateway, services],
    }
    receivers: list[dict[str, Any]] = []
    if plan.notifier is not None:
        receivers.append({"static_configs": [{"targets": [plan.notifier]}]})
    if plan.triggers:
        receivers.append(
            {"path_prefix": _TRIGGERS, "static_configs": [{"targets": [plan.gateway]}]}
        )
        if token is not None:
            receivers[-1]["authorization"] = {"credentials_file": str(token)}
    if receivers:
        written["alerting"] = {
            "alertmanagers": [{"api_version": "v2", **receiver} for receiver in receivers]
        }
    return written


def _token_file(folder: Path, token: str) -> Path:
    """Prometheus reads a token from a file only, which no other user may read."""
    path = folder / "scrape-token"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(token)
    return path


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
