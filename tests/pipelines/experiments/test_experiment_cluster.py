"""Launches on Kubeflow: what is submitted, what comes back, by a server that has its API."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from experiment_samples import contract, write
from json_server import JsonHandler, json_server
from processes import closed_port

from components.experiments.attempt import Attempt
from components.experiments.launches import log_of, note_interrupted
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.locks import attempt_folder
from components.experiments.outcome import Score
from components.experiments.scoring import scored
from foundation.errors import ConfigurationError, PipelineError, Unavailable
from pipelines.experiments.cluster import seal_for, sealed_parameter, submit
from pipelines.experiments.kubeflow import ClusterConfig, end, follow, look, terminate
from pipelines.experiments.launch import seal_launch
from pipelines.experiments.schema import open_ledger
from pipelines.experiments.sweep import SweepConfig, on_cluster, plan_sweep
from pipelines.experiments.worker import keep_cluster, kept_cluster, requeue, run_attempt
from pipelines.training.admission import admit_run
from pipelines.training.parameters import PLAIN, flat_parameters
from pipelines.training.sealed_run import Inputs
from pipelines.training.stages import STAGES

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
    of: dict[str, str] = field(default_factory=dict)
    """State of a run that stays in it, by its id; "gone" for one that was deleted."""
    asked: list[str] = field(default_factory=list)
    """Runs that were asked for, in order."""
    slow: float = 0.0
    """Seconds until it answers."""
    on_success: Callable[[dict[str, Any]], None] = lambda run: None


@contextmanager
def kubeflow() -> Iterator[Kubeflow]:
    state = Kubeflow()

    class Handler(JsonHandler):
        def do_GET(self) -> None:  # noqa: N802 # http.server's own name
            state.tokens.add(self.headers.get("authorization", ""))
            path = urlsplit(self.path).path
            if path.endswith("/experiments"):
                self.answer(
                    {"experiments": [{"experiment_id": "e1", "display_name": "g"}], "total_size": 1}
                )
                return
            if "/runs/" not in path:
                self.answer({})
                return
            run_id = path.rpartition("/")[2]
            state.asked.append(run_id)
            time.sleep(state.slow)
            if run_id in state.of:
                word = state.of[run_id]
            else:
                word = state.states.pop(0) if len(state.states) > 1 else state.states[0]
            if word == "gone" or state.refuse:
                self.answer({"error": "no"}, state.refuse or 404)
                return
            body: dict[str, Any] = {
                "run_id": run_id,
                "state": word,
                "finished_at": "1970-01-01T00:00:00Z",
            }
            if word == "SUCCEEDED" and state.runs:
                state.on_success(state.runs[int(run_id.removeprefix("run-")) - 1])
            if word not in ("PENDING", "RUNNING"):
                body["finished_at"] = "2026-11-21T12:00:00Z"
            if word == "FAILED":
                inner = {
                    "task_id": "2",
                    "display_name": "clone",
                    "state": "FAILED",
                    "error": {"code": 13, "message": "the pod ran out of memory"},
                }
                outer = {
                    "task_id": "1",
                    "display_name": "root",
                    "state": "FAILED",
                    "child_tasks": [{"task_id": "2"}],
                }
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
    write(
        tmp_path,
        "more-fleets",
        extends="baseline",
        contract=contract(),
        set={"refine": {"fleets": 48}},
    )
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
        attempt = submit(ledger, seal_for(cluster, ledger, "more-fleets"), cluster)
        assert (attempt.state, attempt.place, attempt.kubeflow_run) == (
            "running",
            "cluster",
            "run-1",
        )
        assert "Bearer secret" in server.tokens
        (sent,) = server.runs
        assert sent["display_name"] == "more-fleets.1"
        assert "shop/g:1" in json.dumps(sent["pipeline_spec"])
        given = sent["runtime_config"]["parameters"]
        assert given["refine_fleets"] == 48
        assert given["register_tracking_uri"] == MLFLOW  # a pod has no disk of its own
        assert (given["contract"]["tracking_uri"], given["contract"]["run_id"]) == (
            MLFLOW,
            attempt.run_id,
        )
        # What was sent is what the pipeline's first step lets in.
        usual = {name: default for name, (default, _) in PLAIN.items()}
        assert admit_run(usual | given)[0] == given["contract"]

        # The pods write the score to MLflow, which is the same one seen from elsewhere.
        judged = scored(attempt, Score("met", "retained is 0.97", {}), {"retained": 0.97})
        ledger.records.update(replace(judged, state="succeeded"))
        reported: list[str] = []
        ended = follow(ledger, attempt, cluster, reported.append)
        assert reported == [
            f"more-fleets.1: {word}" for word in ("pending", "running", "succeeded")
        ]
        assert (ended.state, ended.verdict, ended.figures) == (
            "succeeded",
            "met",
            {"retained": 0.97},
        )
        assert ended.ended_at == "2026-11-21T12:00:00.000+00:00"
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


def test_a_seal_for_the_ui_needs_no_kubeflow_and_alone_is_enough(ledger: Ledger) -> None:
    attempt, parameter = sealed_parameter(ledger, "more-fleets", MLFLOW)
    assert (attempt.state, attempt.place) == ("queued", "cluster")
    usual = {name: default for name, (default, _) in PLAIN.items()}
    usual |= {name: one.default for name, one in flat_parameters().items()}
    contract, *rest = admit_run(usual | {"contract": parameter})
    options = dict(zip(STAGES, rest[5:-1], strict=True))
    assert contract["run_id"] == attempt.run_id
    assert options["refine"]["fleets"] == 48
    assert options["register"]["tracking_uri"] == MLFLOW
    with pytest.raises(ConfigurationError, match="--pods-tracking-uri"):
        sealed_parameter(ledger, "more-fleets", "")


def on_kubeflow(ledger: Ledger, server: Kubeflow, count: int) -> list[Attempt]:
    """Launches of which nothing but the submission has happened."""
    made = []
    for number in range(1, count + 1):
        sealed = seal_launch(ledger, "baseline", place="cluster", inputs=Inputs("", "", {}))
        made.append(
            replace(sealed, state="running", kubeflow_run=f"run-{number}", kubeflow_url=server.url)
        )
    ledger.index.put_attempts(made)
    return made


def test_a_look_writes_down_what_has_ended(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.experiments.kubeflow._EVERY", 0.0)
    with kubeflow() as server:
        cluster = config(server, tmp_path)
        assert look(ledger, cluster) == () and server.asked == []  # nothing runs there
        first, *_ = on_kubeflow(ledger, server, 5)
        judged = scored(first, Score("missed", "retained is 0.9", {}), {"retained": 0.9})
        ledger.records.update(replace(judged, state="succeeded"))
        server.of = {
            "run-1": "SUCCEEDED",
            "run-2": "FAILED",
            "run-3": "RUNNING",
            "run-4": "CANCELED",
            "run-5": "gone",
        }
        assert look(ledger, cluster) == ()
        found = {one.attempt: one for one in ledger.attempts("baseline")}
        assert [(one.state, one.verdict) for one in found.values()] == [
            ("succeeded", "missed"),
            ("failed", "void"),
            ("running", ""),
            ("cancelled", ""),
            ("failed", "void"),
        ]
        assert found["baseline.1"].figures == {"retained": 0.9}
        assert found["baseline.2"].failing_step == "clone"
        assert log_of(found["baseline.2"], "clone").read_text() == "the pod ran out of memory\n"
        assert "no run run-5 any more" in found["baseline.5"].reason
        server.asked.clear()
        look(ledger, cluster)
        assert server.asked == ["run-3"]  # what has ended is not asked for again


def test_a_look_costs_little_whoever_does_not_answer(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kubeflow() as server:
        cluster = config(server, tmp_path)
        server.states = ["RUNNING"]
        on_kubeflow(ledger, server, 6)
        look(ledger, cluster)
        look(ledger, cluster)
        assert server.asked == [f"run-{number}" for number in range(1, 7)]  # not twice in five s

        # One look has a little time; the next begins where it had to stop.
        server.asked.clear()
        server.slow = 0.1
        monkeypatch.setattr("pipelines.experiments.kubeflow._EVERY", 0.0)
        monkeypatch.setattr("pipelines.experiments.kubeflow._LOOK", 0.25)
        look(ledger, cluster)
        seen = len(server.asked)
        assert 1 <= seen < 6
        look(ledger, cluster)
        assert server.asked[seen] == f"run-{seen + 1}"

        # Who refuses, or is not there, is reported and left alone for a while.
        server.slow = 0.0
        server.refuse = 401
        (words,) = look(ledger, cluster)
        assert "answers 401" in words
        server.asked.clear()
        assert look(ledger, cluster) == (words,) and server.asked == []
    elsewhere = f"http://127.0.0.1:{closed_port()}"
    ledger.index.put_attempts(
        replace(one, kubeflow_url=elsewhere) for one in ledger.attempts("baseline")
    )
    (words,) = look(ledger, cluster)
    assert "does not answer" in words
    assert {one.state for one in ledger.attempts("baseline")} == {"running"}


def test_a_token_goes_to_its_own_kubeflow_alone(ledger: Ledger, tmp_path: Path) -> None:
    """The address of a run stands in MLflow, where others write."""
    with kubeflow() as server:
        on_kubeflow(ledger, server, 1)
        look(ledger, replace(config(server, tmp_path), url="https://kubeflow.example"))
        assert (server.tokens, server.asked) == ({""}, ["run-1"])


def test_a_sweep_there_goes_on_with_the_trial_it_was_at(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kubeflow() as server:
        cluster = config(server, tmp_path)
        vary = ["refine.learning_rate=1e-4..1e-2:log"]
        sweep = plan_sweep(
            ledger, "baseline", vary, SweepConfig(3, "retained"), on_cluster(cluster)
        )
        keep_cluster(ledger, sweep, cluster)
        assert kept_cluster(ledger, sweep) == cluster
        assert (
            "secret"
            not in (attempt_folder(ledger.folder, sweep.attempt) / "cluster.json").read_text()
        )

        def judge(run: dict[str, Any]) -> None:
            """What the pods have done by then: they write the score to MLflow."""
            run_id = run["runtime_config"]["parameters"]["contract"]["run_id"]
            figures = {"retained": 1.0, "latency_ratio": 0.3}
            reported = scored(ledger.records.get(run_id), Score("met", "it is 1", {}), figures)
            ledger.records.update(replace(reported, state="succeeded"))
            if len(server.runs) == 1:
                server.of["run-2"] = "RUNNING"

        def killed(seconds: float) -> None:
            sys.exit(137)

        server.states[:] = ["SUCCEEDED"]
        server.on_success = judge
        with monkeypatch.context() as while_waiting, pytest.raises(SystemExit):
            clock = SimpleNamespace(sleep=killed)
            while_waiting.setattr("pipelines.experiments.kubeflow.time", clock)
            run_attempt(ledger.config, sweep.attempt)
        assert ledger.index.attempt(sweep.attempt).state == "interrupted"
        assert ledger.index.attempt("baseline-1-001.1").state == "running"
        server.of.clear()
        assert requeue(ledger, ledger.index.attempt(sweep.attempt)).state == "queued"
        run_attempt(ledger.config, sweep.attempt)
        ended = ledger.index.attempt(sweep.attempt)
        assert (ended.state, ended.verdict) == ("succeeded", "met")
        # The trial that ran on Kubeflow meanwhile was followed, not submitted again.
        assert [run["display_name"] for run in server.runs] == [
            f"baseline-1-{number:03d}.1" for number in range(3)
        ]


def test_a_sweep_there_ends_with_its_trial(ledger: Ledger, tmp_path: Path) -> None:
    with kubeflow() as server:
        (trial,) = on_kubeflow(ledger, server, 1)
        sweep = seal_launch(ledger, "more-fleets", place="cluster", inputs=Inputs("", "", {}))
        running = replace(sweep, state="running")
        mine = replace(trial, attempt="more-fleets-1-000.1", experiment="more-fleets-1-000")
        ledger.index.put_attempts([running, mine])
        assert note_interrupted(ledger) == []  # another machine may be at it
        assert end(ledger, running, config(server, tmp_path)).state == "cancelled"
        assert server.ended == ["/apis/v2beta1/runs/run-1:terminate"]
        assert ledger.index.attempt(mine.attempt).state == "cancelled"
        assert ledger.index.attempt(trial.attempt).state == "running"


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
