"""Launches: sealed in MLflow before they run, scored after, queued, ended, resumed, verified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launch_samples import Pipeline, curves, ledger_in
from processes import environment, until

from components.experiments.journal import read_journal
from components.experiments.launches import cancel, log_of, note_interrupted, steps_of
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.locks import attempt_folder, attempt_lock, held, holder
from components.experiments.query import Question
from components.experiments.records import SEAL_FILE
from components.experiments.resolve import contract_of
from components.experiments.seal import seal
from components.experiments.verify import verify
from foundation.errors import ConfigurationError, NotFound, SealBroken, StepFailed
from pipelines.experiments.launch import launch_here, parameter_of, seal_launch
from pipelines.experiments.sweep import SweepConfig, go_on, is_sweep, plan_sweep
from pipelines.experiments.tensorboard import with_parent, write_events
from pipelines.experiments.views import score_again
from pipelines.experiments.worker import requeue, work
from pipelines.training.sealed_run import inputs_here, run_sealed
from pipelines.training.stages import stage_options


@pytest.fixture
def ledger(tmp_path: Path, pipeline: Pipeline, empty_mlflow: Path) -> Ledger:
    return ledger_in(tmp_path, empty_mlflow)


def test_sealed_first_then_run_then_scored(ledger: Ledger, pipeline: Pipeline) -> None:
    attempt = seal_launch(ledger, "longer")
    assert (attempt.attempt, attempt.state, pipeline.runs) == ("longer.1", "queued", [])
    # What MLflow has of it before anything runs.
    reported = ledger.records.get(attempt.run_id)
    assert reported == replace(attempt, figures={})
    sealed = ledger.records.seal_of(attempt.run_id)
    assert sealed.sha256 == attempt.sha256
    assert sealed.content["configuration"]["refine"]["timesteps"] == 200
    assert sealed.content["contract"]["expected"] == "retained >= 0.5"

    launch_here(ledger, attempt)
    ended = ledger.index.attempt("longer.1")
    assert (ended.state, ended.verdict, ended.exit_code) == ("succeeded", "met", 0)
    # 3e-4 is 0.5229 decades from 1e-3.
    assert ended.figures == {"retained": pytest.approx(0.86928, abs=1e-5), "latency_ratio": 0.3}
    assert ended.reason == "retained is 0.8693"
    assert steps_of(ledger, ended)[0]["state"] == "done"
    assert ledger.records.get(ended.run_id) == ended
    with pytest.raises(ConfigurationError, match="has succeeded"):
        launch_here(ledger, ended)
    assert seal_launch(ledger, "longer").attempt == "longer.2"
    # The index holds nothing that MLflow does not.
    before = ledger.index.attempts()
    assert ledger.rebuild() == 2
    assert ledger.index.attempts() == before


def test_without_a_contract_nothing_is_launched(ledger: Ledger, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigurationError, match="idea has no contract and is not launched"):
        seal_launch(ledger, "idea")
    with pytest.raises(NotFound, match="did you mean 'longer'"):
        seal_launch(ledger, "longr")
    with pytest.raises(ConfigurationError, match="refine: timesteps is 0"):
        seal_launch(ledger, "base", {"refine.timesteps": 0})
    assert pipeline.runs == [] and read_journal(ledger.folder) == ()


def test_the_pipeline_itself_refuses_what_was_not_sealed(
    ledger: Ledger, tmp_path: Path, sample_ladder: Path
) -> None:
    """The real one: its first step fails, and nothing after it runs."""
    inputs, seen = inputs_here("", str(sample_ladder)), []
    options = stage_options({})
    sealed = seal(
        "base",
        "base.1",
        contract_of("base", ledger.known)[0],
        {"inputs": {}, **options},
        {},
        inputs.source,
        inputs.versions,
        "now",
        {},
    )
    parameter = parameter_of(sealed, "", "")
    changed = stage_options({"clone": {"seeds": 3}})
    with pytest.raises(StepFailed, match="clone.seeds is 3, sealed was 5"):
        run_sealed(parameter, inputs, changed, tmp_path, lambda event: seen.append(event.step))
    assert set(seen) == {"admit"}


def test_a_failed_step_and_its_log_are_kept_and_the_run_goes_on_later(
    ledger: Ledger, pipeline: Pipeline
) -> None:
    def fail(options: Any) -> None:
        raise StepFailed("step refine failed: no clips; its whole log: x")

    pipeline.ends = fail
    with pytest.raises(StepFailed):
        launch_here(ledger, seal_launch(ledger, "base"))
    failed = ledger.index.attempt("base.1")
    assert (failed.state, failed.verdict, failed.exit_code) == ("failed", "void", 1)
    assert failed.failing_step == "refine" and "no clips" in failed.reason
    assert log_of(failed, "refine").read_text() == "no clips\n"
    with pytest.raises(NotFound, match="no launch of base has finished"):
        score_again(ledger, "base")
    pipeline.ends = lambda options: None
    assert requeue(ledger, failed).state == "queued"
    launch_here(ledger, ledger.index.attempt("base.1"))
    again = ledger.index.attempt("base.1")
    assert (again.state, again.verdict, again.failing_step) == ("succeeded", "missed", "")
    assert again.sha256 == failed.sha256  # under the seal that it had
    assert score_again(ledger, "base")["verdict"] == "missed"
    with pytest.raises(ConfigurationError, match="nothing"):
        requeue(ledger, again)


def test_what_was_killed_is_seen_and_what_runs_is_ended(ledger: Ledger, tmp_path: Path) -> None:
    running = replace(seal_launch(ledger, "base"), state="running")
    ledger.index.put_attempts([running])
    lock = attempt_lock(ledger.folder, "base.1")
    code = (
        "import sys, time; from pathlib import Path; from components.experiments.locks import held"
        f"\nwith held(Path({str(lock)!r})): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert holder(lock) == process.pid
        assert note_interrupted(ledger) == []
        with pytest.raises(ConfigurationError, match="runs already"):
            launch_here(ledger, running)
        assert cancel(ledger, running).state == "cancelled"
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with pytest.raises(ConfigurationError, match="has ended already"):
        cancel(ledger, ledger.index.attempt("base.1"))
    ledger.index.put_attempts([running])  # a process that was killed reports nothing
    assert [one.state for one in note_interrupted(ledger)] == ["interrupted"]
    launch_here(ledger, ledger.index.attempt("base.1"))
    assert ledger.index.attempt("base.1").state == "succeeded"


def test_a_signal_is_an_interruption_unless_somebody_cancelled(
    ledger: Ledger, pipeline: Pipeline
) -> None:
    def terminated(options: Any) -> None:
        sys.exit(143)

    pipeline.ends = terminated
    with pytest.raises(SystemExit):
        launch_here(ledger, seal_launch(ledger, "base"))
    left = ledger.index.attempt("base.1")
    assert (left.state, left.exit_code, left.verdict) == ("interrupted", 143, "")

    def cancelled(options: Any) -> None:
        (attempt_folder(ledger.folder, "base.1") / "cancel").touch()
        sys.exit(143)

    pipeline.ends = cancelled
    with pytest.raises(SystemExit):
        launch_here(ledger, left)
    assert ledger.index.attempt("base.1").state == "cancelled"


@pytest.mark.parametrize(
    ("code", "state", "verdict", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "interrupted", "", "killed by SIGKILL; resume it"),
        ("sys.exit(3)", "failed", "void", "ended with 3; see "),
    ],
)
def test_a_launch_of_the_queue_that_reports_nothing(
    tmp_path: Path,
    empty_mlflow: Path,
    monkeypatch: pytest.MonkeyPatch,
    pipeline: Pipeline,
    code: str,
    state: str,
    verdict: str,
    words: str,
) -> None:
    """What was killed was not judged; what ended by itself has failed."""
    ledger = ledger_in(tmp_path, empty_mlflow)
    monkeypatch.setattr("pipelines.experiments.schema.experiment_schema", ledger._make_schema)
    seal_launch(ledger, "base")
    command = [sys.executable, "-c", f"import os, signal, sys; {code}"]
    monkeypatch.setattr("pipelines.experiments.worker._command", lambda *words: command)
    assert work(ledger.config) == 1
    ended = ledger.index.attempt("base.1")
    assert (ended.state, ended.verdict) == (state, verdict) and words in ended.reason
    assert ended.exit_code in (-9, 3)


def test_seals_are_verified_against_all_that_keeps_them(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("base", "longer"):
        launch_here(ledger, seal_launch(ledger, name))
    assert [one.verdict for one in verify(ledger, ledger.index.attempts())] == ["intact"] * 2
    file = tmp_path / "experiments" / "longer.yaml"
    file.write_text(file.read_text().replace("retained >= 0.5", "retained >= 0.1"))
    ledger.refresh()
    (_, edited) = verify(ledger, ledger.index.attempts())
    assert (edited.verdict, edited.detail) == ("edited", "contract.expected was 'retained >= 0.5'")
    # The outcome is scored by the seal, not by the file.
    assert score_again(ledger, "longer")["expected"] == "retained >= 0.5"

    run = ledger.index.attempt("longer.1").run_id
    (artifact,) = (ledger.folder / "artifacts").rglob(f"{run}/**/{SEAL_FILE}")
    kept = artifact.read_text()
    artifact.write_text(kept.replace("retained >= 0.5", "retained >= 0.1"))
    (_, broken) = verify(ledger, ledger.index.attempts())
    assert broken.verdict == "broken" and "was changed afterwards" in broken.detail
    with pytest.raises(SealBroken):
        score_again(ledger, "longer")
    # Hashed anew as well, so that the artifact alone looks right.
    from components.experiments.seal import digest

    content = json.loads(artifact.read_text())["content"]
    artifact.write_text(json.dumps({"sha256": digest(content), "content": content}))
    (_, broken) = verify(ledger, ledger.index.attempts())
    assert broken.verdict == "broken" and "its run says" in broken.detail
    with ledger.records.connected() as client:
        client.set_tag(run, "gearshift.seal", digest(content))
    (_, broken) = verify(ledger, ledger.index.attempts())
    assert broken.verdict == "broken" and "the journal has" in broken.detail


def test_a_sweep_is_one_contract_over_many_children(ledger: Ledger, pipeline: Pipeline) -> None:
    config = SweepConfig(trials=6, maximize="retained", seed=3)
    vary = ["refine.learning_rate=1e-4..1e-2:log", "refine.mode=fast,slow"]
    attempt = plan_sweep(ledger, "base", vary, config)
    assert is_sweep(ledger, attempt) and pipeline.runs == []

    def killed(options: Any) -> None:
        if len(pipeline.runs) == 3:
            sys.exit(137)

    pipeline.ends = killed
    with pytest.raises(SystemExit):
        go_on(ledger, attempt)
    assert ledger.index.attempt("base.1").state == "interrupted"
    pipeline.ends = lambda options: None
    ended = go_on(ledger, ledger.index.attempt("base.1"))
    assert len(pipeline.runs) == 7  # the third trial again, with the values that it had
    assert pipeline.runs[2] == pipeline.runs[3]
    trials = ledger.find(Question("", ("tag=trial",))).rows
    assert [row.name for row in trials] == [f"base-1-{number:03d}" for number in range(6)]
    assert all(row.under == row.parent == "base" and row.outcome for row in trials)
    assert {row.changes["refine.mode"] for row in trials} <= {"fast", "slow"}
    best = max(row.figures["retained"] for row in trials)
    assert ended.figures["retained"] == best
    assert ended.verdict == ("met" if best >= 0.95 else "missed")
    assert ended.reason.startswith("best of 6 is base-1-")
    rates = [row.changes["refine.learning_rate"] for row in trials]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates) and len(set(rates)) == 6


@pytest.mark.parametrize(
    ("vary", "goal", "words"),
    [
        (["refine.rate=1..2"], "retained", "is not known; did you mean"),
        (["refine.timesteps=9..3"], "retained", "no range"),
        (["refine.learning_rate=-1..3:log"], "retained", "above 0"),
        (["clone.seeds=3"], "retained", "varies nothing"),
        (["clone.seeds=3,x"], "retained", "clone.seeds is 'x'"),
        (["clone.seeds=3,4", "clone.seeds=1..2"], "retained", "varies twice"),
        ([], "retained", "nothing varies"),
        (["clone.seeds=3,4"], "retaned", "did you mean 'retained'"),
        (["clone.seeds=3,4"], "", "what is sought is not clear"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    ledger: Ledger, vary: list[str], goal: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        plan_sweep(ledger, "base", vary, SweepConfig(maximize=goal))


def test_learning_curves_become_tensorboards_events(ledger: Ledger, tmp_path: Path) -> None:
    launch_here(ledger, seal_launch(ledger, "base"))
    attempt = ledger.index.attempt("base.1")
    with pytest.raises(NotFound, match="left no learning curves"):
        write_events(ledger, [attempt])
    list(curves(Path(attempt.out)))
    launch_here(ledger, seal_launch(ledger, "longer"))
    child = ledger.index.attempt("longer.1")
    list(curves(Path(child.out)))
    pair = with_parent(ledger, child)
    assert pair == (attempt, child) and with_parent(ledger, attempt) == (attempt,)
    folder = write_events(ledger, pair)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = {str(one.parent.relative_to(folder)) for one in folder.rglob("events.*")}
    assert runs == {
        f"{launch}/{run}"
        for launch in ("base.1", "longer.1")
        for run in ("seed-0", "seed-1", "mean")
    }

    def rewards(run: str) -> list[tuple[int, float]]:
        events = EventAccumulator(str(folder / run))
        events.Reload()
        return [(one.step, pytest.approx(one.value)) for one in events.Scalars("reward")]

    assert rewards("longer.1/seed-1")[:2] == [(0, 1.5), (100, 1.6)]
    assert rewards("base.1/mean")[:2] == [(0, 1.0), (100, 1.1)]  # of 0.5 and 1.5, 0.6 and 1.6


def test_the_queue_runs_launches_in_processes_of_their_own(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    """The real one, on data that are none: its exit code, failing step and log are kept."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "annotations.json").write_text("{}")
    (tmp_path / "experiments" / "mine.yaml").write_text(
        "extends: baseline\n"
        "contract: {objective: o, hypothesis: h, expected: retained > 0, author: anna}\n"
        f"set: {{inputs: {{data: {tmp_path / 'nothing'}}}}}\n"
    )
    from pipelines.experiments.schema import open_ledger

    config = LedgerConfig(tmp_path / "experiments", tmp_path / "ledger")
    ledger = open_ledger(config)
    shutil.copy(empty_mlflow, config.ledger)
    attempt = seal_launch(ledger, "mine")
    with held(config.ledger / "worker.lock") as mine:
        assert mine and work(config) == 0  # another worker serves it
    assert work(config) == 1
    ended = ledger.index.attempt(attempt.attempt)
    assert (ended.state, ended.exit_code, ended.failing_step) == ("failed", 1, "ingest")
    assert "nothing" in log_of(ended, "ingest").read_text()
    assert (
        "step ingest failed" in (attempt_folder(config.ledger, "mine.1") / "output.log").read_text()
    )
    assert until(lambda: os.path.exists(config.ledger / "worker.lock"))
    ledger.close()
