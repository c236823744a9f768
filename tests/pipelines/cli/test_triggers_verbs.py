"""``gearshift triggers`` as people use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT, environment, until
from trigger_samples import row, write_log
from typer.testing import CliRunner

import gearshift
from inference_graph.control.triggers.audit import read_audit

RUNNER = CliRunner()


def run(*words: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(gearshift.app, ["triggers", *(str(word) for word in words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    document: dict[str, Any] = {
        "state": str(tmp_path / "state"),
        "launch": {"command": [sys.executable, "-c", "print('trained')"]},
        "rules": [{"name": "much", "when": "volume", "frames": 2}],
    }
    path = tmp_path / "triggers.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_check_then_history(file: Path, tmp_path: Path) -> None:
    log = ("--log", tmp_path / "log")
    assert run("history", file)[1] == "nothing was decided yet\n"
    assert run("check", file, *log) == (0, "much: not met: there are 0 of 2 frames\n", "")
    write_log(tmp_path, [row(number) for number in range(2)])
    code, text, _ = run("check", file, *log, "--json")
    (decision,) = json.loads(text)["decisions"]
    assert (code, decision["fired"], decision["figures"]["frames"]) == (0, True, 2)
    until(lambda: read_audit(tmp_path / "state").outcomes)
    code, text, _ = run("history", file)
    lines = text.splitlines()
    assert "rules: much: not met" in lines[0]
    assert f"rules: much: launched {decision['launch']}: there are 2 of 2 frames" in lines[1]
    assert lines[2].strip().startswith(f"launch {decision['launch']}: succeeded after")
    message = json.loads(run("history", file, "--last", 1, "--json")[1])
    assert (len(message["decisions"]), message["outcomes"][0]["outcome"]) == (1, "succeeded")


def test_a_file_of_alerts_alone_has_nothing_to_weigh(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    document["rules"] = [{"name": "alerted", "when": "alert", "alerts": ["A"]}]
    file.write_text(yaml.safe_dump(document))
    assert "every rule waits for alerts" in run("check", file)[1]


def test_a_slip_is_one_line(file: Path, tmp_path: Path) -> None:
    code, out, err = run("check", tmp_path / "none.yaml")
    assert (code, out) == (1, "") and "No such file" in err and len(err.splitlines()) == 1
    file.write_text(file.read_text().replace("frames", "frame"))
    code, out, err = run("check", file)
    assert (code, out) == (1, "") and "did you mean 'frames'?" in " ".join(err.split())


def test_run_goes_on_until_it_is_asked_to_end(file: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "gearshift.py",
        "triggers",
        "run",
        str(file),
        "--log",
        str(tmp_path / "log"),
        "--every-seconds",
        "1",
        "--json",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["verdict"] == "not met"
        write_log(tmp_path, [row(number) for number in range(2)])
        assert json.loads(process.stdout.readline())["verdict"] == "fired"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    until(lambda: read_audit(tmp_path / "state").outcomes)
