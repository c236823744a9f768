"""Small pipelines through KFP's local runner: branches, logs, progress, failures, reuse."""

# No postponed annotations: KFP reads the types of the components below.
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from processes import until

from foundation.errors import PipelineError, StepFailed
from pipelines.local import LocalRun, StepEvent, run_locally

component = dsl.component(
    base_image="python:3.11", install_kfp_package=False, packages_to_install=[]
)


@component
def work(note: str, count: dsl.Output[dsl.Artifact]) -> None:
    print("working on", note)
    for done in (1, 2):
        print(f"progress: {done} of 2", flush=True)
    with open(count.path, "w") as stream:
        stream.write(note)


@component
def fail(kind: str, count: dsl.Input[dsl.Artifact]) -> None:
    import os

    print("before the failure")
    if kind == "killed":
        os._exit(9)
    if kind == "known":
        from foundation.errors import AnnotationError

        raise AnnotationError("box 7: outside its image; correct it")
    raise ZeroDivisionError("by hand")


@component
def check(count: dsl.Input[dsl.Artifact], passes: bool) -> bool:
    return passes


@component
def register(count: dsl.Input[dsl.Artifact]) -> str:
    return "registered"


@component
def refuse(count: dsl.Input[dsl.Artifact]) -> str:
    return "refused"


@component
def sleep() -> None:
    import time

    print("sleeping", flush=True)
    time.sleep(120)


@dsl.pipeline(name="sleepy")
def sleepy() -> None:
    sleep()


class Gated(NamedTuple):
    outcome: str
    count: dsl.Artifact


@dsl.pipeline(name="gated")
def gated(passes: bool, note: str = "a") -> Gated:
    worked = work(note=note).set_display_name("hard work")
    checked = check(count=worked.outputs["count"], passes=passes)
    with dsl.If(checked.output == True, name="passed"):  # noqa: E712  # KFP overloads it
        entered = register(count=worked.outputs["count"])
    with dsl.Else(name="refused"):
        refused = refuse(count=worked.outputs["count"])
    return Gated(dsl.OneOf(entered.output, refused.output), worked.outputs["count"])


@dsl.pipeline(name="failing")
def failing(kind: str) -> None:
    worked = work(note="a")
    fail(kind=kind, count=worked.outputs["count"])
    for _ in range(3):
        work(note="nobody waits for this").after(worked)


def _run(
    pipeline: BaseComponent,
    folder: Path,
    events: list[StepEvent] | None = None,
    **arguments: object,
) -> LocalRun:
    received = events if events is not None else []
    return run_locally(pipeline, arguments, folder / "work", folder / "logs", received.append)


@pytest.mark.parametrize(
    ("passes", "outcome", "ran", "skipped"),
    [(True, "registered", "register", "refuse"), (False, "refused", "refuse", "register")],
)
def test_exactly_the_gates_branch_runs(
    tmp_path: Path, passes: bool, outcome: str, ran: str, skipped: str
) -> None:
    run = _run(gated, tmp_path, passes=passes)
    assert run.outputs["outcome"] == outcome
    names = [step.step for step in run.steps]
    assert names == ["hard work", "check", ran]
    assert not (tmp_path / "logs" / f"{skipped}.log").exists()


def test_each_step_has_its_own_log_and_its_progress_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[StepEvent] = []
    run = _run(gated, tmp_path, events, passes=True, note="bricks")
    assert Path(run.outputs["count"].path).read_text() == "bricks"
    assert "working on bricks" in (tmp_path / "logs" / "hard-work.log").read_text()
    assert "bricks" not in (tmp_path / "logs" / "check.log").read_text().split("Got executor")[0]
    mine = [event for event in events if event.step == "hard work"]
    assert [(event.state, event.done, event.total) for event in mine] == [
        ("running", 0, 0),
        ("running", 1, 2),
        ("running", 2, 2),
        ("done", 0, 0),
    ]
    assert capsys.readouterr().out == ""


def test_steps_leave_no_temporary_files_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)  # what it held is restored afterwards
    _run(gated, tmp_path, passes=True)
    with pytest.raises(StepFailed):
        _run(failing, tmp_path, kind="known")
    assert os.environ["TMPDIR"] == str(temporary)
    assert list(temporary.iterdir()) == []


def test_an_unchanged_step_is_reused_and_a_changed_one_is_not(tmp_path: Path) -> None:
    first = _run(gated, tmp_path, passes=True)
    again = _run(gated, tmp_path, passes=True)
    other = _run(gated, tmp_path, passes=True, note="b")
    assert {step.state for step in first.steps} == {"done"}
    assert {step.state for step in again.steps} == {"reused"}
    assert again.outputs["outcome"] == "registered"
    assert again.outputs["count"].path == first.outputs["count"].path
    assert {step.state for step in other.steps} == {"done"}


def test_a_failing_step_ends_the_run_with_its_last_words(tmp_path: Path) -> None:
    events: list[StepEvent] = []
    with pytest.raises(StepFailed) as caught:
        _run(failing, tmp_path, events, kind="known")
    message = str(caught.value)
    assert message.startswith("step fail failed: box 7: outside its image; correct it; ")
    assert str(tmp_path / "logs" / "fail.log") in message and "\n" not in message
    assert not getattr(caught.value, "__notes__", ())  # no traceback: the message is enough
    assert "before the failure" in (tmp_path / "logs" / "fail.log").read_text()
    assert events[-1].step == "fail" and events[-1].state == "failed"


def test_an_unexpected_error_is_named_with_its_kind(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="ZeroDivisionError: by hand") as caught:
        _run(failing, tmp_path, kind="unexpected")
    assert "ZeroDivisionError" in "\n".join(caught.value.__notes__)


def test_a_step_that_is_killed_is_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="without an error of its own"):
        _run(failing, tmp_path, kind="killed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_takes_its_step_along(tmp_path: Path, number: signal.Signals) -> None:
    """What is killed cannot: the next run there ends its step, which would take its time."""
    # A shell that starts the tests in the background has them ignore SIGINT, and so would the run.
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from test_local_runner import sleepy
from pipelines.local import run_locally
run_locally(sleepy, {{}}, Path({str(tmp_path / "work")!r}), Path({str(tmp_path / "logs")!r}))
"""
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    log = tmp_path / "logs" / "sleep.log"
    until(lambda: log.exists() and "sleeping" in log.read_text())
    steps = psutil.Process(run.pid).children(recursive=True)
    assert steps
    run.send_signal(number)
    assert run.wait(timeout=120) != 0
    if number == signal.SIGKILL:
        assert all(step.is_running() for step in steps)
        _run(gated, tmp_path, passes=False)
    assert psutil.wait_procs(steps, timeout=120)[1] == []


def test_a_run_leaves_no_session_of_kfp_behind(tmp_path: Path) -> None:
    from kfp.local.config import LocalExecutionConfig

    _run(gated, tmp_path, passes=False)
    assert LocalExecutionConfig.instance is None


def test_an_argument_that_the_pipeline_does_not_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((PipelineError, TypeError)):
        _run(gated, tmp_path, passes=True, colour="red")


def test_the_pipeline_compiles_with_the_gate_in_front_of_register(tmp_path: Path) -> None:
    spec = json.dumps(
        {
            name: sorted(part.dag.tasks)
            for name, part in gated.pipeline_spec.components.items()
            if part.dag.tasks
        }
    )
    assert "register" not in sorted(gated.pipeline_spec.root.dag.tasks)
    assert "register" in spec
