from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from processes import until
from rollout_samples import state
from test_rollout_controller import RecordedTraffic
from typer.testing import CliRunner

import gearshift
from foundation.errors import GateRefused
from inference_graph.control.rollout.controller import Controller
from inference_graph.control.rollout.state import controlling, read_state, write_state
from pipelines.rollout import RolloutWatch, run_controller

RUNNER = CliRunner()


def run(*arguments: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(gearshift.app, ["rollout", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(b"new weights")
    return path


def test_from_start_to_end_by_hand(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "rollout"
    here = ("--folder", folder)
    assert run("status", *here)[1] == f"there was no rollout in {folder}\n"
    assert json.loads(run("status", *here, "--json")[1]) == {"rollout": None}
    code, out, _ = run("start", "small", weights, *here, "--who", "anna", "--steps", "10,100")
    assert code == 0 and "of small: starting: waits for the controller" in out
    code, _, err = run("start", "small", weights, *here)
    assert code == 1 and "is under way" in err
    traffic = RecordedTraffic()
    Controller(folder, str(tmp_path / "log"), traffic).tick()
    code, out, _ = run("status", *here)
    assert code == 0 and "by anna: step" in out and "canary 10 %" in out
    reported = json.loads(run("status", *here, "--json")[1])["rollout"]
    assert (reported["weight"], reported["plan"]["steps"]) == (10, [10, 100])
    assert run("abort", *here, "--who", "ben", "--reason", "it rains")[0] == 0
    Controller(folder, str(tmp_path / "log"), traffic).tick()
    code, out, _ = run("history", *here)
    lines = out.splitlines()
    assert [line.split(" ", 1)[1].partition(":")[0] for line in lines] == [
        "anna",
        "controller",
        "ben",
        "controller",
    ]
    assert "ben ended it: it rains" in lines[2]
    assert len(json.loads(run("history", *here, "--json")[1])["actions"]) == 4
    code, _, err = run("promote", *here, "--all")
    assert code == 1 and "no rollout is under way" in err
    assert run("history", "--folder", tmp_path / "none")[1] == "nothing was done yet\n"


def test_waiting_ends_with_the_rollout_and_tells_a_rollback(tmp_path: Path, weights: Path) -> None:
    folder, reported = tmp_path / "rollout", list[str]()
    ended = threading.Event()

    def abort() -> None:
        until(lambda: (state := read_state(folder)) is not None and state.phase == "step")
        run("abort", "--folder", folder)
        ended.set()

    thread = threading.Thread(target=abort)
    thread.start()
    with RolloutWatch(folder, str(tmp_path / "log"), RecordedTraffic(), reported.append) as watch:
        watch.start()
        options = ("--folder", folder, "--wait", "--every-seconds", 0.05)
        code, _, err = run("start", "small", weights, *options)
        thread.join(60)
    assert ended.is_set() and code == 1
    assert "small was rolled back" in err
    assert [one.split(": ")[1].partition(" ")[0] for one in reported] == ["5", "rolled"]


def test_a_controller_for_a_cluster_ends_with_the_rollout(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "rollout"
    log = str(tmp_path / "log")
    assert run_controller(folder, log, RecordedTraffic(), print) is None
    assert run("start", "small", weights, "--folder", folder, "--steps", "100")[0] == 0
    traffic = RecordedTraffic()
    state = run_controller(folder, log, traffic, print)
    assert state is not None and state.phase == "promoted"
    assert traffic.asked == ["prepare", "promote"]
    with controlling(folder), pytest.raises(GateRefused, match="another controller"):
        run_controller(folder, log, traffic, print)
    code, _, err = run("run", "--folder", folder, "--kubeconfig", tmp_path / "none")
    assert code == 1 and "no cluster is known" in err
    for text in ('{"a": 1}\nx', "[[[1]]]", "a: [1, {b: c}]", "clusters: 1\ncontexts: 2", "\x00"):
        (tmp_path / "malformed").write_text(text)
        code, _, err = run("run", "--folder", folder, "--kubeconfig", tmp_path / "malformed")
        assert code == 1 and "error: no cluster is known" in err


def test_status_shows_effect_limit_and_what_is_to_come(tmp_path: Path) -> None:
    finding = {
        "frames": [900, 100],
        "breached": False,
        "passed": False,
        "estimate": 0.021,
        "interval": [-0.01, 0.053],
        "limit": 0.15,
    }
    findings = {"latency": finding, "retained": {**finding, "estimate": None}}
    write_state(tmp_path, state(phase="step", step=0, findings=findings, frames_left=3200))
    lines = run("status", "--folder", tmp_path)[1].splitlines()
    assert lines[3:] == [
        "  latency    +2.1% (95 % interval -1.0% to +5.3%, limit +15.0%), open; frames 900 and 100",
        "  retained   open; frames 900 and 100",
        "  frames to go in this step: about 3,200",
    ]
    shown = json.loads(run("status", "--folder", tmp_path, "--json")[1])["rollout"]
    assert (shown["frames_left"], shown["findings"]["latency"]["limit"]) == (3200, 0.15)
