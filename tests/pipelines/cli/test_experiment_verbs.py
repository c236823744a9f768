"""``gearshift experiment`` as people use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launch_samples import Pipeline, ledger_in
from processes import environment
from typer.testing import CliRunner

import gearshift

RUNNER = CliRunner()


@pytest.fixture
def places(
    tmp_path: Path, pipeline: Pipeline, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """A ledger of small stages, as options of the command line."""
    made = ledger_in(tmp_path, empty_mlflow)
    monkeypatch.setattr("pipelines.experiments.schema.experiment_schema", made._make_schema)
    made.close()
    return ("--experiments", str(tmp_path / "experiments"), "--ledger", str(tmp_path / "ledger"))


def run(verb: str, places: tuple[str, ...], *words: object) -> tuple[int, str, str]:
    arguments = ["experiment", verb, *(str(word) for word in words), *places]
    result = RUNNER.invoke(gearshift.app, arguments, env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_from_an_idea_to_a_score(places: tuple[str, ...], tmp_path: Path) -> None:
    promise = (
        "--objective",
        "keep accuracy",
        "--hypothesis",
        "slow is good",
        "--expect",
        "retained >= 0.9",
        "--author",
        "cleo",
    )
    code, out, _ = run(
        "new", places, "mine", "--extends", "longer", "--set", "refine.learning_rate=1e-3", *promise
    )
    assert (code, out.strip()) == (0, str(tmp_path / "experiments" / "mine.yaml"))
    code, out, err = run("run", places, "mine", "--json")
    reported = json.loads(out)
    assert (code, reported["state"], reported["verdict"], reported["figures"]["retained"]) == (
        0,
        "succeeded",
        "met",
        1.0,
    )
    assert "mine.1: sealed as" in err
    assert run("run", places, "base", "--require-met")[0] == 1  # 0.869 is not 0.95

    code, out, _ = run("list", places, "--where", "outcome=met")
    _, out2, err = run("list", places, "--sort", "-name", "--last", 2)
    assert [line.split()[0] for line in out2.splitlines()[1:]] == ["mine", "longer"]
    assert "2 of 4; --last shows more" in err
    assert code == 0 and "mine" in out and "longer" not in out.replace("extends", "").split()[0]
    out = run("search", places, "keeping accurate", "--json")[1]
    assert [one["name"] for one in json.loads(out)["experiments"]][0] == "mine"
    out = run("show", places, "mine")[1]
    assert "base > longer > mine" in out and "actual    met: retained is 1" in out
    assert "refine.timesteps" in out and "clone.seeds" not in out
    assert "clone.seeds" in run("show", places, "mine", "--all")[1]
    lines = run("diff", places, "base", "mine")[1].splitlines()
    assert lines[:4] == ["- base", "+ mine", "refine.timesteps", "- 100  (from defaults)"]
    assert "refine.deep" in run("diff", places, "base", "mine", "--all")[1]
    assert (
        "| refine.timesteps | 100 | 200 |" in run("diff", places, "base", "mine", "--markdown")[1]
    )
    assert "└── mine  met" in run("tree", places, "longer")[1]
    out = run("score", places, "--json")[1]
    assert {one["name"]: one["share"] for one in json.loads(out)["authors"]} == {
        "anna": 0.0,
        "cleo": 1.0,
    }
    assert "verdict" in run("score", places, "mine")[1]
    assert set(run("verify", places)[1].split("\n")) == {"base.1: intact", "mine.1: intact", ""}
    csv = tmp_path / "all.csv"
    assert run("export", places, "--out", csv)[0] == 0
    assert csv.read_text().startswith("name,parent,author")
    assert json.loads(run("rebuild", places, "--json")[1]) == {"experiments": 4, "launches": 2}


def test_a_launch_without_a_contract_is_refused(
    places: tuple[str, ...], pipeline: Pipeline
) -> None:
    for verb in ("run", "queue", "sweep"):
        goal = ("--maximize", "retained", "--vary", "clone.seeds=1..3") if verb == "sweep" else ()
        code, out, err = run(verb, places, "idea", *goal)
        assert (code, out) == (1, "")
        assert "idea has no contract and is not launched" in err and len(err.splitlines()) == 1
    assert pipeline.runs == []
    code, _, err = run("new", places, "half", "--hypothesis", "x")
    assert code == 1 and "lacks --objective, --expect" in err


def test_looking_waits_for_neither_torch_nor_kfp(places: tuple[str, ...]) -> None:
    """They take seconds to load; a list of unchanged files does without."""
    assert run("list", places)[0] == 0
    code = (
        "import sys; from pathlib import Path; import components.experiments.ledger as ledger; "
        "from gearshift import app; ledger.SHIPPED = Path('/none'); "
        f"app(['experiment', 'list', *{places!r}], standalone_mode=False); "
        "assert not {'torch', 'kfp', 'mlflow', 'stable_baselines3'} & set(sys.modules)"
    )
    reported = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert reported.returncode == 0, reported.stderr
    assert "longer" in reported.stdout


def test_slips_are_one_line(places: tuple[str, ...]) -> None:
    for verb, words, message in (
        ("show", ("longr",), "did you mean 'longer'"),
        ("diff", ("base", "lnger"), "did you mean 'longer'"),
        ("list", ("--where", "autor=x"), "did you mean 'author'"),
        ("new", ("x", "--set", "refine.timestep=3"), "did you mean 'refine.timesteps'"),
        ("new", ("x", "--extends", "bas"), "did you mean 'base'"),
        ("run", ("base", "--on", "moon"), "choose from here, cluster"),
        ("log", ("base",), "was not launched yet"),
        ("resume", ("base.9",), "no launch 'base.9'"),
        ("cancel", ("base.9",), "no launch 'base.9'"),
    ):
        code, out, err = run(verb, places, *words)
        assert (code, out) == (1, "") and message in err and len(err.strip().splitlines()) == 1


def test_a_queue_that_waits_is_shown_and_cancelled(
    places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("pipelines.experiments.worker.start_worker", started.append)
    assert run("queue", places)[1] == "nothing waits and nothing runs\n"
    code, out, _ = run("queue", places, "base", "longer")
    assert code == 0 and "base.1: queued on here" in out and "longer.1: queued" in out
    assert len(started) == 1
    assert run("cancel", places, "longer")[1] == "longer.1: cancelled\n"
    assert json.loads(run("resume", places, "longer.1", "--json")[1])["state"] == "succeeded"
    assert "base.1" in run("queue", places)[1]


def test_a_broken_seal_ends_with_one(places: tuple[str, ...], tmp_path: Path) -> None:
    assert run("run", places, "base")[0] == 0
    (file,) = (tmp_path / "ledger" / "artifacts").rglob("seal.json")
    file.write_text(file.read_text().replace("0.95", "0.15"))
    code, out, err = run("verify", places, "base")
    assert code == 1 and "base.1: broken" in out and "nothing that they promise" in err
    shutil.rmtree(file.parent)
    assert run("verify", places)[0] == 1
