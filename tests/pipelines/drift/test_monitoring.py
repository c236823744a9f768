"""The drift pipeline as Kubeflow sees it, both of its branches on this machine, its schedule."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from drift_samples import NOON, Streets, write_log, write_reference
from processes import closed_port

from components.drift.config import DriftConfig
from components.drift.window import WindowConfig
from foundation.errors import AccessError, ConfigurationError, StepFailed, Unavailable
from inference_graph.control.drift_state import read_state
from pipelines.definition import write_pipeline
from pipelines.drift.pipeline import NAME, monitoring_pipeline
from pipelines.drift.run import WatchedLog, run_monitoring
from pipelines.drift.schedule import ScheduleConfig, schedule_monitoring
from pipelines.placement import PlacementConfig

FAST = DriftConfig(embedding="numpy", tabular=False, permutations=1000)
THEN = WindowConfig(since=(NOON - timedelta(hours=1)).isoformat())


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = write_pipeline(
        monitoring_pipeline(PlacementConfig()), tmp_path_factory.mktemp("compiled")
    )
    assert file.name == f"{NAME}.yaml"
    found: dict[str, Any] = next(iter(yaml.safe_load_all(file.read_text("utf-8"))))
    return found


def test_retraining_stands_behind_the_verdict_alone(spec: dict[str, Any]) -> None:
    """Fails when the condition is skipped, or hangs on something else."""
    tasks = spec["root"]["dag"]["tasks"]
    assert {"window", "compare"} < set(tasks)
    assert not {"retrain", "note"} & set(tasks)
    conditions = {}
    for graph in spec["components"].values():
        for task in graph.get("dag", {}).get("tasks", {}).values():
            inner = spec["components"][task["componentRef"]["name"]].get("dag", {}).get("tasks", {})
            if {"retrain", "note"} & set(inner):
                conditions[next(iter(inner))] = task["triggerPolicy"]["condition"]
    value = "inputs.parameter_values['pipelinechannel--compare-Output'] == true"
    assert conditions == {"retrain": value, "note": f"!({value})"}


def test_nothing_of_an_earlier_window_is_used_again(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    for name in ("window", "compare"):
        assert not tasks[name]["cachingOptions"].get("enableCache", False)


def test_the_report_is_a_page_and_options_are_parameters(spec: dict[str, Any]) -> None:
    outputs = spec["components"]["comp-compare"]["outputDefinitions"]["artifacts"]
    for name in ("report", "tabular"):
        assert outputs[name]["artifactType"]["schemaTitle"] == "system.HTML"
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["drift"]["defaultValue"]["alpha"] == DriftConfig().alpha
    assert parameters["window"]["defaultValue"]["hours"] == 6.0
    assert "tolerance: loss of accuracy retained" in parameters["drift"]["description"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(tmp_path_factory.mktemp("reference"), Streets(count=60, seed=1))


def test_harmless_drift_is_noted(tmp_path: Path, reference: Path) -> None:
    log = write_log(tmp_path / "log", Streets(count=40, seed=2, grey=(0.2, 0.05)))
    watched = WatchedLog(str(log), str(reference.parent))
    run = run_monitoring(watched, THEN, FAST, tmp_path / "out")
    assert not run.harmful
    assert run.outcome == run.state.sentence
    assert run.state.decision == "watch"
    assert read_state(tmp_path / "out") == run.state
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["asked"]["log"] == str(log)


def test_harmful_drift_retrains(tmp_path: Path, reference: Path) -> None:
    """The branch is entered: the retraining asks for the champion, which is not there."""
    streets = Streets(count=40, seed=2, grey=(0.2, 0.05), agreement=0.6)
    log = write_log(tmp_path / "log", streets)
    champion = tmp_path / "champion.onnx"
    watched = WatchedLog(str(log), str(reference), champion=str(champion))
    with pytest.raises(StepFailed, match=r"step retrain failed: .*champion\.onnx"):
        run_monitoring(watched, THEN, FAST, tmp_path / "out")
    state = read_state(tmp_path / "out")
    assert state is not None and state.decision == "retrain"


@contextmanager
def kubeflow(recurring: list[dict[str, Any]], token: str = "") -> Iterator[str]:
    """The part of Kubeflow Pipelines' API that a schedule needs, with what it holds."""
    api = "/apis/v2beta1"
    experiments: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self, content: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def known(self) -> bool:
            if token and self.headers["Authorization"] != f"Bearer {token}":
                self.answer({"error": "who are you"}, 401)
                return False
            return True

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if not self.known():
                return
            if path == f"{api}/healthz":
                self.answer({"multi_user": False})
            elif path == f"{api}/experiments":
                self.answer({"experiments": experiments, "total_size": len(experiments)})
            elif path == f"{api}/recurringruns":
                self.answer({"recurringRuns": recurring, "total_size": len(recurring)})
            else:
                self.answer({"error": f"no {path}"}, 404)

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.known():
                return
            if self.path == f"{api}/experiments":
                content["experiment_id"] = f"experiment-{len(experiments)}"
                experiments.append(content)
                self.answer(content)
            elif self.path == f"{api}/recurringruns":
                content["recurring_run_id"] = f"run-{len(recurring)}"
                recurring.append(content)
                self.answer(content)

        def do_DELETE(self) -> None:
            name = self.path.rpartition("/")[2]
            recurring[:] = [one for one in recurring if one["recurring_run_id"] != name]
            self.answer({})

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_schedule_is_a_recurring_run_and_replaces_an_earlier_one() -> None:
    other = {"recurring_run_id": "other", "display_name": "somebody else's"}
    held: list[dict[str, Any]] = [other]
    arguments = {"log": "s3://vision/log", "reference": "s3://vision/reference.parquet"}
    with kubeflow(held) as host:
        first = schedule_monitoring(ScheduleConfig(host=host), arguments)
        second = schedule_monitoring(ScheduleConfig(host=host, every_hours=2), arguments)
    assert (first.replaced, second.replaced) == (0, 1)
    assert [one["recurring_run_id"] for one in held] == ["other", second.recurring_run_id]
    made = held[1]
    assert made["display_name"] == "gearshift-drift"
    assert int(made["trigger"]["periodic_schedule"]["interval_second"]) == 7200
    assert int(made["max_concurrency"]) == 1
    assert made["no_catchup"] is True
    assert made["runtime_config"]["parameters"] == arguments
    pipeline = made["pipeline_spec"]
    pipeline = pipeline.get("pipeline_spec", pipeline)
    assert pipeline["pipelineInfo"]["name"] == NAME


def test_failures_of_kubeflow_are_one_line() -> None:
    none = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(Unavailable, match=f"no Kubeflow Pipelines at {none}"):
        schedule_monitoring(ScheduleConfig(host=none), {"log": "l", "reference": "r"})
    with (
        kubeflow([], token="secret") as host,
        pytest.raises(
            AccessError, match="refuses this .401 Unauthorized.; set GEARSHIFT_KFP_TOKEN"
        ),
    ):
        schedule_monitoring(ScheduleConfig(host=host), {"log": "l", "reference": "r"})
    with pytest.raises(ConfigurationError, match="host is 'kfp'"):
        ScheduleConfig(host="kfp")
