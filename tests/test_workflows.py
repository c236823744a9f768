"""Every GitHub workflow: sound, pinned, least privileged, and safe from what others write."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
_UNPINNED_LINE = re.compile(r"uses:(?!.*@[0-9a-f]{40} # v\d)")
_WRITES = {("images", "packages"), ("release", "contents")}
"""The only jobs that may write, and what."""


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> tuple[Path, dict[Any, Any]]:
    path: Path = request.param
    return path, yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(content: dict[Any, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in content["jobs"].items():
        for step in job["steps"]:
            yield name, step


def test_there_is_one_for_each_purpose() -> None:
    names = {path.stem for path in WORKFLOWS}
    assert names == {"test", "cluster", "images", "pipelines", "retrain", "release", "audit"}


def test_actions_are_pinned_to_a_commit(workflow: tuple[Path, dict[Any, Any]]) -> None:
    path, content = workflow
    for _, step in steps_of(content):
        if "uses" in step:
            assert _PINNED.fullmatch(step["uses"]), step["uses"]
    # Beside the commit stands the version, for people and for what proposes updates.
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if _UNPINNED_LINE.search(line)] == []


def test_privileges_are_the_least(workflow: tuple[Path, dict[Any, Any]]) -> None:
    path, content = workflow
    assert content["permissions"] == {"contents": "read"}
    for name, job in content["jobs"].items():
        for what, access in job.get("permissions", {}).items():
            assert access == "read" or (name, what) in _WRITES, (path.stem, name, what)
    for name, step in steps_of(content):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


def test_nothing_runs_for_ever_or_twice(workflow: tuple[Path, dict[Any, Any]]) -> None:
    _, content = workflow
    assert content["concurrency"]["group"]
    for name, job in content["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 360, name


def test_scripts_hold_no_expression(workflow: tuple[Path, dict[Any, Any]]) -> None:
    """What others write (a branch, an input) reaches a script as a variable, never as its text."""
    _, content = workflow
    for name, step in steps_of(content):
        assert "${{" not in step.get("run", ""), (name, step["run"])
        for value in step.get("with", {}).values():
            # A matrix stands in the same file.
            assert "${{" not in str(value).replace("${{ matrix.", ""), (name, value)


def test_no_workflow_runs_others_code_with_our_rights(
    workflow: tuple[Path, dict[Any, Any]],
) -> None:
    _, content = workflow
    triggers = content[True]  # YAML reads the key `on` as true
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers)


def test_every_one_tells_how_it_ended(workflow: tuple[Path, dict[Any, Any]]) -> None:
    _, content = workflow
    notify = content["jobs"]["notify"]
    assert "!cancelled()" in notify["if"]  # a failure of what it needs does not silence it
    (reported,) = [step for step in notify["steps"] if "run" in step]
    assert "inference_graph.control.notifications.say" in reported["run"]
    assert reported["env"]["RESULT"] == f"${{{{ needs.{notify['needs']}.result }}}}"


def test_scripts_call_verbs_that_exist(workflow: tuple[Path, dict[Any, Any]]) -> None:
    import typer

    from gearshift import app

    known = typer.main.get_command(app)
    for _, step in steps_of(workflow[1]):
        for words in re.findall(r"bin/gearshift((?: [a-z]+)+)", step.get("run", "")):
            command: Any = known
            for word in words.split():
                command = getattr(command, "commands", {}).get(word)
                assert command is not None, words
                if not hasattr(command, "commands"):
                    break


def test_telling_needs_nothing_installed() -> None:
    variables = {"PYTHONPATH": ".:transformers", "PATH": os.defpath}
    reported = subprocess.run(
        [
            sys.executable,
            "-S",
            "-m",
            "inference_graph.control.notifications.say",
            "Tests: failure",
            "--level",
            "failure",
            "--field",
            "commit=1a2b",
        ],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert reported.stdout == "no webhook is set; nothing was sent\n"


@pytest.mark.parametrize(
    "command",
    [
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
        ("zizmor", "--offline", "--no-progress", "--quiet"),
    ],
    ids=lambda command: command[0],
)
def test_checkers_of_workflows_find_nothing(command: tuple[str, ...]) -> None:
    program = shutil.which(
        command[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
    )
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    checked = subprocess.run(
        [program, *command[1:], *map(str, WORKFLOWS)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
