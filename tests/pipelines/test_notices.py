"""The notices of a run's end, which never make a run fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner
from webhook_server import webhook_server

import gearshift
from foundation.errors import ConfigurationError, StepFailed
from inference_graph.control.notifications.webhooks import (
    GENERIC_VARIABLE,
    SLACK_VARIABLE,
    TOKEN_VARIABLE,
)
from pipelines.notices import notify_at_the_end
from pipelines.training.run import TrainingRun

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (GENERIC_VARIABLE, SLACK_VARIABLE, TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def run_in(out: Path, passed: bool = True, retained: float | None = 0.9531) -> TrainingRun:
    rows = [
        {"name": "oracle", "retained": 1.0, "mean_ms": 1.0, "usd_per_million": 1.0},
        {"name": "gearshift", "retained": retained, "mean_ms": 17.34, "usd_per_million": 0.428},
    ]
    (out / "report.json").write_text(json.dumps({"rows": rows}))
    outcome = "registered as gearshift-policy 3" if passed else "refused: gap 0.1 below 0.2"
    return TrainingRun(out, outcome, passed, out / "data", {}, {})


@pytest.mark.parametrize(("retained", "shown"), [(0.9531, "95.3%"), (None, "–")])
def test_a_result(tmp_path: Path, retained: float | None, shown: str) -> None:
    with webhook_server() as server:
        with notify_at_the_end("gearshift demo", tmp_path, {GENERIC_VARIABLE: server.url}) as send:
            send(run_in(tmp_path, retained=retained))
            assert server.received == []  # what follows in the block may still fail
        (sent,) = server.received
    assert (sent.body["kind"], sent.body["level"]) == ("pipeline", "good")
    assert sent.body["title"] == "gearshift demo: a policy passed the gate"
    assert sent.body["text"] == "registered as gearshift-policy 3"
    assert sent.body["fields"] == {
        "results": str(tmp_path),
        "took": "0 s",
        "retained": shown,
        "mean latency": "17.3 ms",
        "USD per million": "0.43",
    }


def test_a_refusal(tmp_path: Path) -> None:
    with webhook_server() as server:
        environ = {GENERIC_VARIABLE: server.url, SLACK_VARIABLE: f"{server.url}/slack"}
        with notify_at_the_end("gearshift pipeline run", tmp_path, environ) as send:
            run = run_in(tmp_path, passed=False)
            (tmp_path / "report.json").write_text("{")
            send(run)
        bodies = {one.path: one.body for one in server.received}
    assert bodies["/"]["level"] == "warning"
    assert bodies["/"]["text"] == "refused: gap 0.1 below 0.2"
    assert set(bodies["/"]["fields"]) == {"results", "took"}
    assert bodies["/slack"]["attachments"][0]["color"] == "#f9a825"


def test_a_failure_is_reported_and_passes_on(tmp_path: Path) -> None:
    with webhook_server() as server:
        environ = {GENERIC_VARIABLE: server.url}
        with pytest.raises(StepFailed), notify_at_the_end("gearshift demo", tmp_path, environ):
            raise StepFailed("validate: no annotations")
        (sent,) = server.received
    assert (sent.body["title"], sent.body["level"]) == ("gearshift demo failed", "critical")
    assert sent.body["text"] == "validate: no annotations"


def test_an_interrupted_run_tells_nothing(tmp_path: Path) -> None:
    with webhook_server() as server:
        environ = {GENERIC_VARIABLE: server.url}
        with pytest.raises(KeyboardInterrupt), notify_at_the_end("demo", tmp_path, environ):
            raise KeyboardInterrupt
        assert server.received == []


def test_a_webhook_that_refuses_costs_the_run_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with webhook_server() as server:
        server.statuses = [404]
        with notify_at_the_end("gearshift demo", tmp_path, {GENERIC_VARIABLE: server.url}) as send:
            send(run_in(tmp_path))
        assert len(server.received) == 1


def test_a_wrong_address_is_reported_before_the_run(tmp_path: Path) -> None:
    begun = False
    with (
        pytest.raises(ConfigurationError, match=GENERIC_VARIABLE),
        notify_at_the_end("gearshift demo", tmp_path, {GENERIC_VARIABLE: "hooks/secret"}),
    ):
        begun = True
    assert not begun


def test_the_verb_shows_what_it_would_send() -> None:
    result = RUNNER.invoke(gearshift.app, ["notify", "test", "--dry-run", "--json"])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert set(shown) == {"slack", "webhook"}
    assert shown["webhook"]["body"]["title"] == "Gearshift can reach you"
    assert not any(one["configured"] or one["sent"] for one in shown.values())


def test_the_verb_without_a_webhook_states_what_to_set() -> None:
    result = RUNNER.invoke(gearshift.app, ["notify", "test"])
    assert result.exit_code == 1
    assert f"put its address into {SLACK_VARIABLE} or {GENERIC_VARIABLE}" in " ".join(
        result.stderr.split()
    )


def test_the_verb_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook_server() as server:
        monkeypatch.setenv(GENERIC_VARIABLE, f"{server.url}/secret")
        result = RUNNER.invoke(gearshift.app, ["notify", "test"])
        (sent,) = server.received
    assert result.exit_code == 0
    assert json.dumps(sent.body, indent=1, ensure_ascii=False) in result.stdout
    assert "secret" not in result.output


def test_rules_of_ones_own_objectives(tmp_path: Path) -> None:
    out = tmp_path / "rules.yaml"
    arguments = ["rules", "--routing-floor", "0", "--drop-ceiling", "0.5", "--out", str(out)]
    assert RUNNER.invoke(gearshift.app, arguments).exit_code == 0
    (group,) = yaml.safe_load(out.read_text())["groups"]
    alerts = {rule["alert"]: rule["expr"] for rule in group["rules"] if "alert" in rule}
    assert "GearshiftRoutingUnbalanced" not in alerts
    assert "> 0.5 and" in alerts["GearshiftFramesDropped"]
    refused = RUNNER.invoke(gearshift.app, ["rules", "--latency-target", "2", "--out", str(out)])
    assert refused.exit_code == 1 and "latency_target is 2.0" in refused.stderr
