"""The whole platform under a real Prometheus: every query of Grafana finds what it asks for."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from promql import metric_names
from tiny_models import MakePolicy, drawn

from dashboards.grafana.files import pages
from feature_transformer.observation import OBSERVATION_SIZE
from foundation.gpu import watch_gpus
from inference_graph.clients.gateway import StreamClient, StreamOptions, encode
from inference_graph.contract import LADDER
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.platform import Platform
from inference_graph.control.embedded.supervisor import READY
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.rules import rules_text
from inference_graph.control.notifications.webhooks import GENERIC_VARIABLE, SLACK_VARIABLE

pytestmark = [pytest.mark.promtool, pytest.mark.timeout(600)]

FRAME = drawn(240, 320)


def api(platform: Platform, what: str, **parameters: str) -> Any:
    url = f"{platform.prometheus}/api/v1/{what}"
    answer = httpx.get(url, params=parameters, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def until(ask: Callable[[], Any], seconds: float = 180) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.2)
    raise AssertionError(f"nothing came within {seconds} s")


async def stream(platform: Platform) -> list[dict[str, Any]]:
    async with StreamClient(platform.gateway, options=StreamOptions()) as client:
        return [dict(message) async for message in client.stream([FRAME] * 3)]


def test_queries_find_their_metrics_and_a_killed_rung_is_reported(
    make_policy: MakePolicy, sample_ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (GENERIC_VARIABLE, SLACK_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    rules = tmp_path / "rules.yaml"
    rules.write_text(rules_text(replace(Objectives(), patience_seconds=2)))
    config = UpConfig(
        policy=make_policy(np.zeros((OBSERVATION_SIZE, 3), np.float32), (1.0, 0.0, 0.0)),
        ladder=sample_ladder,
        state=tmp_path / "up",
        port=0,
        graph_port=0,
        open_access=True,
        deadline_ms=30_000.0,
        shadow_share=1.0,
        ready_seconds=450.0,
        monitoring=True,
        prometheus_port=0,
        scrape_seconds=2,
        rules=rules,
    )
    with Platform(config) as platform:
        platform.start()
        states = {state.name: state for state in platform.states()}
        assert states["prometheus"].state == READY
        assert states["prometheus"].address == platform.prometheus

        # Everything that is counted happens once.
        answers = asyncio.run(stream(platform))
        assert {answer["answered_by"] for answer in answers} == {"nano"}
        body = {"event_id": answers[0]["event_id"], "kind": "confirm"}
        reported = httpx.post(f"{platform.gateway}/v1/feedback", json=body, trust_env=False)
        assert reported.is_success, reported.text
        image = {"instances": [{"image": {"b64": base64.b64encode(encode(FRAME)).decode()}}]}
        assert httpx.post(platform.graph, json=image, timeout=60, trust_env=False).is_success

        targets = until(lambda: all_up(platform))
        assert targets == {
            ("gearshift-gateway", ""),
            *(("gearshift-services", f"{rung} predictor") for rung in LADDER),
            ("gearshift-services", "router predictor"),
            ("gearshift-services", "router transformer"),
        }

        asked = [query.expression for page in pages(Objectives()) for query in page.queries]
        wanted = {name for expression in asked for name in metric_names(expression)}
        if not watch_gpus(CollectorRegistry()):
            wanted = {name for name in wanted if not name.startswith("gearshift_gpu_")}
        # Only a worker on Kafka has these; its own test reads them.
        wanted = {name for name in wanted if not name.startswith("gearshift_kafka_")}
        until(lambda: names(platform) >= wanted)
        for expression in asked:
            for variable, text in (("$namespace", ".*"), ("$__rate_interval", "1m")):
                expression = expression.replace(variable, text)
            api(platform, "query", query=expression)
        (retained,) = api(platform, "query", query="gearshift:frames:rate5m")["result"]
        assert float(retained["value"][1]) >= 0

        # The supervisor is not polled, so it is not started again.
        os.kill(states["small"].pid or 0, signal.SIGKILL)
        until(lambda: ("GearshiftTargetDown", "small") in firing(platform))
        pids = [state.pid for state in platform._supervisor.poll(restart=False)]
    for pid in filter(None, pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def all_up(platform: Platform) -> set[tuple[str, str]] | None:
    targets = api(platform, "targets")["activeTargets"]
    if {one["health"] for one in targets} != {"up"}:
        return None
    return {
        (labels["job"], f"{labels.get('service', '')} {labels.get('component', '')}".strip())
        for labels in (one["labels"] for one in targets)
    }


def names(platform: Platform) -> set[str]:
    return set(api(platform, "label/__name__/values"))


def firing(platform: Platform) -> set[tuple[str, str | None]]:
    return {
        (one["labels"]["alertname"], one["labels"].get("service"))
        for one in api(platform, "alerts")["alerts"]
        if one["state"] == "firing"
    }
