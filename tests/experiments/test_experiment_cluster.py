"""Launches on Kubeflow: what is submitted, what comes back, by a server that speaks its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from json_server import JsonHandler, json_server
from processes import closed_port

from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.outcome import Score
from components.experiments.scoring import scored
from components.experiments.seal import admit
from feature_transformer.errors import ConfigurationError, PipelineError, Unavailable
from pipelines.experiment_cluster import ClusterConfig, follow, seal_for, submit, terminate
from pipelines.experiment_launch import log_of
from pipelines.experiment_schema import open_ledger
from pipelines.training import STAGES

MLFLOW = "http://mlflow.kubeflow:5000"


@dataclass
class Kubeflow:
    """A stand-in of Kubeflow Pipelines' API server, as far as runs go."""

    url: str = ""
    states: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    runs: list[dict[str, Any]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuse: int = 0


@contextmanager
def kubeflow() -> Iterator[Kubeflow]:
    state = Kubeflow()

    class Handler(JsonHandler):
        def do_GET(self) -> None:  # noqa: N802 # http.server's own name
            state.tokens.add(self.headers.get("authorization", ""))
            path = urlsplit(self.path).path
            if path.endswith("/experiments"):
                self.answer({"experiments": [{"experiment_id": "e1", "display_name": "g"}],
                              "total_size": 1})  # fmt: skip
                return
            if "/runs/" not in path:
                self.answer({})
                return
            word = state.states.pop(0) if len(state.states) > 1 else state.states[0]
            body: dict[str, Any] = {"run_id": path.rpartition("/")[2], "state": word}
            if word == "FAILED":
                inner = {"task_id": "2", "display_name": "clone", "state": "FAILED",
                         "error": {"code": 13, "message": "the pod ran out of memory"}}  # fmt: skip
                outer = {"task_id": "1", "display_name": "root", "state": "FAILED",
                         "child_tasks": [{"task_id": "2"}]}  # fmt: skip
                body["run_details"] = {"task_details": [outer, inner]}
            self.answer(body)

        def do_POST(self) -> None:  # noqa: N802 # likewise
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            state.tokens.add(self.headers.get("authorization", ""))
            if state.refuse:
                self.answer({"error": "quota exceeded"}, state.refuse)
            elif self.path.endswith(":terminate"):
                state.ended.append(self.path)
                self.answer({})
            elif self.path.endswith("/runs"):
                state.runs.append(json.loads(body))
                self.answer({"run_id": f"run-{len(state.runs)}", "state": "PENDING"})
            else:
                self.answer({"experiment_id": "e1", "display_name": "gearshift"})

    with json_server(Handler) as state.url:
        yield state


@pytest.fixture
def ledger(tmp_path: Path, empty_mlflow: Path) -> Ledger:
    import shutil

    made = open_ledger(LedgerConfig(tmp_path / "experiments", tmp_path / "ledger"))
    shutil.copy(empty_mlflow, made.folder)
    return made


def config(server: Kubeflow, tmp_path: Path) -> ClusterConfig:
    token = tmp_path / "token"
    token.write_text("secret\n")
    return ClusterConfig(server.url, token, MLFLOW, image="shop/g:1", poll_seconds=0.01)


def test_the_compiled_pipeline_goes_out_with_its_seal(ledger: Ledger, tmp_path: Path) -> None:
    with kubeflow() as server:
        cluster = config(server, tmp_path)
        attempt = submit(ledger, seal_for(cluster, ledger, "longer-refinement"), cluster)
        assert (attempt.state, attempt.place, attempt.kubeflow_run) == (
            "running", "cluster", "run-1",
        )  # fmt: skip
        assert "Bearer secret" in server.tokens
        (sent,) = server.runs
        assert sent["display_name"] == "longer-refinement.1"
        assert "shop/g:1" in json.dumps(sent["pipeline_spec"])
        given = sent["runtime_config"]["parameters"]
        assert given["refine"]["fleets"] == 24
        assert given["register"]["tracking_uri"] == MLFLOW  # a pod has no disk of its own
        assert (given["contract"]["tracking_uri"], given["contract"]["run_id"]) == (
            MLFLOW, attempt.run_id,
        )  # fmt: skip
        # What was sent is what the pipeline's first step lets in.
        stages = {stage: given[stage] for stage in STAGES}
        versions = {name: given[name] for name in ("code_version", "data_version",
                                                   "ladder_version")}  # fmt: skip
        assert admit(given["contract"], stages, given["source"], versions).attempt == (
            attempt.attempt
        )

        # The pods write the score to MLflow, which is the same one seen from elsewhere.
        judged = scored(attempt, Score("met", "retained is 0.97", {}), {"retained": 0.97})
        ledger.records.update(replace(judged, state="succeeded"))
        told: list[str] = []
        ended = follow(ledger, attempt, cluster, told.append)
        assert told == [f"longer-refinement.1: {word}" for word in
                        ("pending", "running", "succeeded")]  # fmt: skip
        assert (ended.state, ended.verdict, ended.figures) == (
            "succeeded", "met", {"retained": 0.97},
        )  # fmt: skip
        assert ledger.index.attempt(ended.attempt) == ended

        second = submit(ledger, seal_for(cluster, ledger, "baseline"), cluster)
        assert terminate(ledger, second, cluster).state == "cancelled"
        assert server.ended == ["/apis/v2beta1/runs/run-2:terminate"]

        third = submit(ledger, seal_for(cluster, ledger, "baseline"), cluster)
        server.states[:] = ["RUNNING", "FAILED"]
        failed = follow(ledger, third, cluster)
        assert (failed.state, failed.verdict, failed.failing_step) == ("failed", "void", "clone")
        assert log_of(failed, "clone").read_text() == "the pod ran out of memory\n"

        server.refuse = 403
        with pytest.raises(PipelineError, match="answers 403: .*quota exceeded"):
            submit(ledger, seal_for(cluster, ledger, "baseline"), cluster)
        assert ledger.attempts("baseline")[-1].state == "failed"


def test_what_cannot_be_launched_there(ledger: Ledger, tmp_path: Path) -> None:
    nowhere = ClusterConfig(f"http://127.0.0.1:{closed_port()}", None, MLFLOW)
    with pytest.raises(ConfigurationError, match="no Kubeflow is named"):
        seal_for(ClusterConfig(), ledger, "baseline")
    with pytest.raises(ConfigurationError, match="--pods-tracking-uri"):
        seal_for(ClusterConfig("http://k:8888"), ledger, "baseline")
    with pytest.raises(Unavailable, match="check --url"):
        submit(ledger, seal_for(nowhere, ledger, "baseline"), nowhere)
    ledger.new("mine", "baseline", [f"inputs.data={tmp_path}"])
    with pytest.raises(ConfigurationError, match="a place on this machine"):
        seal_for(nowhere, ledger, "mine")
    ledger.new("bare", "baseline")
    with pytest.raises(ConfigurationError, match="bare has no contract"):
        seal_for(nowhere, ledger, "bare")
