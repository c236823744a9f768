"""A real Prometheus on a real gateway: its targets, rules and alerts, and who is notified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gateway_samples import Rungs, Served, gateway_settings, jpeg, served
from processes import closed_port, until
from webhook_server import WebhookServer, webhook_server

from foundation.errors import InvalidInput
from inference_graph.control.embedded.monitoring import (
    EMBEDDED_OBJECTIVES,
    MonitoringPlan,
    Scraped,
    monitoring_services,
    wants_notifier,
)
from inference_graph.control.embedded.supervisor import Supervisor
from inference_graph.control.monitoring.alerts import alert_rules
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.notifications.webhooks import GENERIC_VARIABLE, SLACK_VARIABLE
from inference_graph.gateway.access import add_token

pytestmark = [pytest.mark.promtool, pytest.mark.timeout(300)]

QUICK = replace(EMBEDDED_OBJECTIVES, scrape_seconds=1, patience_seconds=1)


def free_address() -> str:
    return f"127.0.0.1:{closed_port()}"


def api(plan: MonitoringPlan, what: str, **parameters: str) -> Any:
    answer = httpx.get(f"http://{plan.address}/api/v1/{what}", params=parameters, trust_env=False)
    return answer.raise_for_status().json()["data"]


@pytest.fixture
def gateway(rungs: Rungs, tmp_path: Path) -> Iterator[Served]:
    settings = gateway_settings(log_url=str(tmp_path / "log"), always="small", breaker_failures=1)
    with served(settings, rungs) as running:
        yield running


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookServer]:
    with webhook_server() as server:
        monkeypatch.setenv(GENERIC_VARIABLE, f"{server.url}/secret")
        monkeypatch.delenv(SLACK_VARIABLE, raising=False)
        yield server


def test_an_alert_from_a_rung_to_a_webhook(
    gateway: Served, rungs: Rungs, webhook: WebhookServer, tmp_path: Path
) -> None:
    assert wants_notifier()
    gone = free_address()
    plan = MonitoringPlan(
        tmp_path / "up",
        free_address(),
        gateway.url.removeprefix("http://"),
        [Scraped("gone", "predictor", gone)],
        notifier=free_address(),
        objectives=QUICK,
    )
    with Supervisor(monitoring_services(plan), tmp_path / "logs") as supervisor:
        supervisor.start()
        supervisor.wait_ready(120)
        health = until(
            lambda: (
                {
                    one["labels"]["job"]: one["health"]
                    for one in api(plan, "targets")["activeTargets"]
                    if one["health"] != "unknown"
                }.items()
                >= {("gearshift-gateway", "up"), ("gearshift-services", "down")}
                and api(plan, "targets")["activeTargets"]
            )
        )
        labels = {one["labels"]["job"]: one["labels"] for one in health}
        assert labels["gearshift-services"]["service"] == "gone"
        (group,) = api(plan, "rules", type="alert")["groups"]
        assert {rule["name"] for rule in group["rules"]} == {
            rule["alert"] for rule in alert_rules(Objectives())
        }

        # One rung breaks; its neighbour answers, and people are notified.
        rungs["small"].failing = True
        headers = {"content-type": "image/jpeg"}
        answer = gateway.http.post("/v1/detect", content=jpeg(), headers=headers).json()
        assert answer["fallback"]

        def reported(title: str) -> list[Any]:
            return [one.body for one in webhook.received if one.body["title"] == title]

        # On a busy machine a scrape may come too late, and an alert begin a second time.
        message, *_ = until(lambda: reported("small is left alone"))
        assert (message["level"], message["fields"]["rung"]) == ("critical", "small")
        assert message["link"].endswith("GearshiftRungDown.md")
        until(lambda: reported("gearshift-services cannot be watched"))

        rungs["small"].failing = False
        message, *_ = until(lambda: reported("Resolved: small is left alone"))
        assert message["level"] == "good"
        pids = [state.pid for state in supervisor.poll(restart=False)]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)
    assert "secret" not in (tmp_path / "logs" / "notifier.log").read_text()


def test_a_gateway_with_tokens(rungs: Rungs, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    token = add_token(tokens, "prometheus", ["operate"])
    with served(gateway_settings(tokens=tokens), rungs) as gateway:
        plan = MonitoringPlan(
            tmp_path / "up",
            free_address(),
            gateway.url.removeprefix("http://"),
            [],
            objectives=QUICK,
            token=token,
        )
        with Supervisor(monitoring_services(plan), tmp_path / "logs") as supervisor:
            supervisor.start()
            supervisor.wait_ready(120)
            until(lambda: api(plan, "query", query='up{job="gearshift-gateway"} == 1')["result"])
    assert token not in repr(plan)
    held = tmp_path / "up" / "prometheus" / "scrape-token"
    assert held.stat().st_mode & 0o077 == 0
    assert token not in (held.parent / "prometheus.yaml").read_text()


def plan_of(tmp_path: Path, **changes: Any) -> MonitoringPlan:
    plan = MonitoringPlan(tmp_path, "127.0.0.1:1", "127.0.0.1:2", [])
    return replace(plan, **changes)


def test_without_prometheus_it_states_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match="Debian and Ubuntu: `apt install prometheus`"):
        monitoring_services(plan_of(tmp_path))


def test_rules_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("groups: []\n")
    monitoring_services(plan_of(tmp_path, rules=own))
    assert (tmp_path / "prometheus" / "rules.yaml").read_text() == "groups: []\n"
    with pytest.raises(InvalidInput, match=r"no rules file nowhere.yaml; `gearshift rules --out"):
        monitoring_services(plan_of(tmp_path, rules=Path("nowhere.yaml")))


def test_without_a_webhook_there_is_no_notifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(GENERIC_VARIABLE, raising=False)
    monkeypatch.delenv(SLACK_VARIABLE, raising=False)
    assert not wants_notifier()
    (service,) = monitoring_services(plan_of(tmp_path))
    assert service.name == "prometheus"
    written = yaml.safe_load((tmp_path / "prometheus" / "prometheus.yaml").read_text())
    assert "alerting" not in written
