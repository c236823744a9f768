"""The gateway's triggers: who may ask, what alerts do, and that streams go on meanwhile."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gateway_samples import Rungs, Served, asked, gateway_settings, jpeg, served, talk
from processes import closed_port, until

from foundation.errors import ConfigurationError
from inference_graph.control.embedded.monitoring import (
    EMBEDDED_OBJECTIVES,
    MonitoringPlan,
    monitoring_services,
)
from inference_graph.control.embedded.supervisor import Supervisor
from inference_graph.control.triggers.audit import read_audit
from inference_graph.control.triggers.http import triggers_routes
from inference_graph.gateway.access import add_token
from inference_graph.gateway.app import build_app

ALERT = {
    "labels": {"alertname": "GearshiftAccuracyLow", "severity": "warning", "namespace": "n"},
    "annotations": {"summary": "The chosen rungs see less than large would"},
    "startsAt": "2026-11-21T12:00:00.5Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "status": "firing",
    "fingerprint": "c0ffee",
}


def write_triggers(folder: Path, code: str = "pass", **limits: Any) -> Path:
    file = folder / "triggers.yaml"
    document = {
        "state": str(folder / "state"),
        "limits": {"cooldown_hours": 0, "per_day": 100} | limits,
        "launch": {"command": [sys.executable, "-c", code]},
        "rules": [{"name": "accuracy", "when": "alert", "alerts": ["GearshiftAccuracyLow"]}],
    }
    file.write_text(yaml.safe_dump(document))
    return file


def webhook(*alerts: dict[str, Any]) -> dict[str, Any]:
    """What Alertmanager posts (webhook version 4)."""
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "gearshift",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts),
    }


@pytest.fixture
def gateway(rungs: Rungs, tmp_path: Path) -> Iterator[Served]:
    with served(gateway_settings(triggers=write_triggers(tmp_path)), rungs) as running:
        yield running


def ask(gateway: Served, **body: Any) -> httpx.Response:
    return gateway.http.post(
        "/v1/triggers", json={"request_id": "1", "reason": "new camera"} | body
    )


def state_of(gateway: Served) -> Path:
    """Where `write_triggers` put the state."""
    return Path(gateway.runtime.settings.triggers).parent / "state"


def settle(gateway: Served, launches: int) -> None:
    """Until so many launches have an outcome."""
    state = state_of(gateway)
    until(lambda: len(read_audit(state).outcomes) >= launches)


def test_a_request_launches_once(gateway: Served) -> None:
    first = ask(gateway)
    assert first.status_code == 202
    message = first.json()
    assert (message["fired"], message["reason"]) == (True, "local asked for it: new camera")
    settle(gateway, 1)
    again = ask(gateway, reason="again")
    assert (again.status_code, again.json()["fired"]) == (200, False)
    assert f"launch {message['launch']} of" in again.json()["reason"]
    assert ask(gateway, request_id="2").status_code == 202
    settle(gateway, 2)
    audit = read_audit(state_of(gateway))
    assert [(one.who, one.when, one.verdict) for one in audit.decisions] == [
        ("local", "request", "fired"),
        ("local", "request", "known"),
        ("local", "request", "fired"),
    ]
    assert {one.outcome for one in audit.outcomes} == {"succeeded"}


def test_an_alert_of_alertmanager_fires_once_for_each_start(gateway: Served) -> None:
    def post(*alerts: dict[str, Any]) -> httpx.Response:
        return gateway.http.post("/v1/triggers/alertmanager", json=webhook(*alerts))

    fired = post(ALERT)
    assert (fired.status_code, fired.json()["fired"]) == (202, True)
    assert "The chosen rungs see less than large would" in fired.json()["reason"]
    settle(gateway, 1)
    assert post(ALERT).status_code == 200  # it is repeated for as long as it fires
    over = post(ALERT | {"status": "resolved", "endsAt": "2026-11-21T13:00:00Z"})
    assert (over.status_code, "is over" in over.json()["reason"]) == (200, True)
    other = ALERT | {"labels": {"alertname": "GearshiftRungDown"}}
    strange = post(other)
    assert strange.status_code == 200
    assert strange.json()["reason"] == "no rule waits for GearshiftRungDown"
    assert strange.json()["decisions"] == []
    assert post().json()["reason"] == "no alert came"
    again = post(other, ALERT | {"startsAt": "2026-11-22T12:00:00Z"})
    assert (again.status_code, len(again.json()["decisions"])) == (202, 1)
    settle(gateway, 2)


def test_prometheus_may_post_itself(gateway: Served) -> None:
    alert = {key: ALERT[key] for key in ("labels", "annotations", "startsAt")}
    path = "/v1/triggers/api/v2/alerts"
    statuses = [gateway.http.post(path, json=[alert]).status_code]
    settle(gateway, 1)
    statuses += [gateway.http.post(path, json=[alert]).status_code for _ in range(2)]
    assert statuses == [202, 200, 200]


def test_streams_go_on_while_something_runs(rungs: Rungs, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
    with served(gateway_settings(triggers=write_triggers(tmp_path, wait)), rungs) as gateway:

        async def session(stream: Any) -> list[str]:
            answers = await asked(stream, jpeg())
            started = ask(gateway)
            busy = ask(gateway, request_id="2")
            assert (started.status_code, busy.status_code) == (202, 200)
            assert "still runs" in busy.json()["reason"]
            answers += await asked(stream, *(jpeg(seed) for seed in range(20)))
            return [answer["type"] for answer in answers]

        assert talk(gateway.stream, session) == ["detections"] * 21
        assert read_audit(state_of(gateway)).outcomes == ()
        go.touch()
        settle(gateway, 1)


def test_only_operators_may_ask(rungs: Rungs, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    names = {role: add_token(tokens, f"an-{role}", [role]) for role in ("stream", "operate")}
    options: dict[str, Any] = {"tokens": tokens, "triggers": write_triggers(tmp_path)}
    with served(gateway_settings(**options), rungs) as gateway:
        paths = (
            "/v1/triggers",
            "/v1/triggers/alertmanager",
            "/v1/triggers/api/v2/alerts",
        )
        for path in paths:
            assert gateway.http.post(path, json={}).status_code == 401
            as_streamer = {"authorization": f"Bearer {names['stream']}"}
            assert gateway.http.post(path, json={}, headers=as_streamer).status_code == 403
        gateway.http.headers["authorization"] = f"Bearer {names['operate']}"
        assert ask(gateway).json()["reason"] == "an-operate asked for it: new camera"
        settle(gateway, 1)
    (decision,) = read_audit(tmp_path / "state").decisions
    assert decision.who == "an-operate"


def test_limits_are_reported(rungs: Rungs, tmp_path: Path) -> None:
    file = write_triggers(tmp_path, cooldown_hours=6)
    with served(gateway_settings(triggers=file), rungs) as gateway:
        assert ask(gateway).status_code == 202
        settle(gateway, 1)
        refused = ask(gateway, request_id="2")
        assert (refused.status_code, "the cool-down lasts until" in refused.json()["reason"]) == (
            200,
            True,
        )


def test_without_a_file_there_is_nothing_to_launch(rungs: Rungs) -> None:
    with served(gateway_settings(), rungs) as gateway:
        answer = ask(gateway)
    assert (answer.status_code, "--triggers FILE" in answer.json()["detail"]) == (404, True)


def test_a_broken_audit_refuses_and_streams_go_on(rungs: Rungs, tmp_path: Path) -> None:
    with served(gateway_settings(triggers=write_triggers(tmp_path)), rungs) as gateway:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "audit.jsonl").write_text("x\n")
        answer = ask(gateway)
        assert answer.status_code == 503
        assert "audit.jsonl line 1 is no JSON object" in answer.json()["detail"]
        sent = {"content": jpeg(), "headers": {"content-type": "image/jpeg"}}
        assert gateway.http.post("/v1/detect", **sent).status_code == 200


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    file = write_triggers(tmp_path)
    file.write_text(file.read_text().replace("rules:", "rulez:"))
    with pytest.raises(ConfigurationError, match="did you mean 'rules'"):
        build_app(gateway_settings(triggers=file), more_routes=(triggers_routes,))


def test_a_flood_is_slowed(gateway: Served) -> None:
    body = json.dumps(webhook()).encode()
    headers = {"content-type": "application/json"}
    statuses = [
        gateway.http.post("/v1/triggers/alertmanager", content=body, headers=headers).status_code
        for _ in range(70)
    ]
    assert statuses[:60] == [200] * 60 and 429 in statuses


@pytest.mark.promtool
@pytest.mark.timeout(300)
def test_a_real_prometheus_tells_the_gateway(rungs: Rungs, tmp_path: Path) -> None:
    """As `gearshift up --monitoring --triggers FILE` sets it up, tokens and all."""
    tokens = tmp_path / "tokens.jsonl"
    token = add_token(tokens, "prometheus", ["operate"])
    options: dict[str, Any] = {"tokens": tokens, "triggers": write_triggers(tmp_path)}
    # It waits: Prometheus forgets for a minute what fires before it knows whom to tell.
    always = {"alert": "GearshiftAccuracyLow", "expr": "vector(1)", "for": "8s"}
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [always]}]}))
    with served(gateway_settings(**options), rungs) as gateway:
        plan = MonitoringPlan(
            tmp_path / "up",
            f"127.0.0.1:{closed_port()}",
            gateway.url.removeprefix("http://"),
            [],
            rules=rules,
            objectives=replace(EMBEDDED_OBJECTIVES, scrape_seconds=1),
            token=token,
            triggers=True,
        )
        with Supervisor(monitoring_services(plan), tmp_path / "logs") as supervisor:
            supervisor.start()
            settle(gateway, 1)
    audit = read_audit(tmp_path / "state")
    assert [(one.who, one.rule, one.fired) for one in audit.launches] == [
        ("prometheus", "accuracy", True)
    ]
