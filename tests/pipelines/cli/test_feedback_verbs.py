"""``gearshift feedback`` as people use it, with the sample ladder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from feedback_samples import answer, correction, key
from typer.testing import CliRunner

import gearshift
from components.scenes.writer import ScenesConfig, write_scenes

Logged = Callable[..., None]
RUNNER = CliRunner()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, Any, str]]:
    def called(verb: str, *arguments: object, as_json: bool = True) -> tuple[int, Any, str]:
        place = ("--store", tmp_path / "store", "--log", tmp_path / "log")
        words = ["feedback", verb, *arguments, *place, *(["--json"] if as_json else [])]
        result = RUNNER.invoke(gearshift.app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        output = json.loads(result.stdout) if as_json and result.stdout else result.stdout
        return result.exit_code, output, result.stderr

    return called


def test_from_quarantine_to_the_training_data(
    run: Callable[..., tuple[int, Any, str]], logged: Logged, tmp_path: Path, sample_ladder: Path
) -> None:
    config = ScenesConfig(frames=20, width=160, height=120, workers=1, seed=3)
    write_scenes(config, tmp_path / "scenes")
    coco = json.loads((tmp_path / "scenes" / "annotations.json").read_text())
    frames = [tmp_path / "scenes" / "images" / image["file_name"] for image in coco["images"]]
    logged(
        [answer(number) for number in range(2)],
        [
            # A person (label 0) on a frame of the log's own, and one on a picture the data have.
            correction(0, labels=[0]),
            correction(1, labels=[0], image=frames[0].read_bytes()),
        ],
    )
    code, output, _ = run("list", "--state", "quarantined")
    assert code == 0 and len(output["items"]) == 2
    ids = {one["about"]: one["item"] for one in output["items"]}
    assert {one["objects"][0]["name"] for one in output["items"]} == {"person"}
    code, output, err = run("check")
    assert (code, output["looked_at"], output["without_picture"]) == (0, 2, 0)
    listed = run("list", as_json=False)[1]
    assert "unchecked" not in listed and "far: agrees with the reference by 0.00" in listed

    picture = tmp_path / "look.png"
    assert run("show", ids[key(0)][:10], "--picture", picture)[1]["agreement"] == 0.0
    assert cv2.imread(str(picture)).shape[1] > 2 * 160  # both sides

    code, output, _ = run("review", "--all", "--approve", "--reviewer", "zoe")
    assert (code, output) == (0, {"approved": [], "already": 0})  # all of them show a sign
    code, _, err = run("review", ids[key(0)], "--reject", "--reviewer", "zoe")
    assert code == 1 and "--reason" in err and len(err.strip().splitlines()) == 1
    code, output, _ = run("review", *ids.values(), "--approve", "--reviewer", "zoe")
    assert code == 0 and sorted(output["approved"]) == sorted(ids.values())
    code, output, _ = run("review", *ids.values(), "--approve", "--reviewer", "zoe")
    assert output == {"approved": [], "already": 2}

    code, output, _ = run(
        "merge", tmp_path / "scenes", "--out", tmp_path / "merged", "--user-share", 0.2
    )
    assert code == 0 and (output["added"], output["replaced"]) == (1, 1)
    code, output, _ = run("export", "--state", "approved", "--out", tmp_path / "exported")
    assert (code, output["images"]) == (0, 2)
    code, output, _ = run("import", tmp_path / "exported", "--user", "bert")
    assert (code, output["images"], output["new"]) == (0, 2, True)
    code, output, _ = run("stats")
    assert (output["items"], output["approved"], output["quarantined"]) == (4, 2, 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("review", "--approve", "--reviewer", "zoe"), "give ids of items, or --all"),
        (("review", "x", "--reviewer", "zoe"), "either --approve or --reject"),
        (("review", "x", "--approve", "--reviewer", "zoe"), "no item begins with 'x'"),
        (("show", "x"), "no item begins with 'x'"),
        (("list", "--state", "new"), "no state 'new'"),
        (("import", "none.json", "--user", "zoe"), "none.json: no such file or folder"),
        (("import", "a", "--user", "zoe", "--rename", "x"), "give it as NAME=CLASS"),
        (("stats", "--least-agreement", "2"), "least_agreement is 2.0"),
    ],
)
def test_a_slip_is_one_line(
    run: Callable[..., tuple[int, Any, str]],
    words: tuple[str, ...],
    expected: str,
    sample_ladder: Path,
) -> None:
    code, output, err = run(words[0], *words[1:], as_json=False)
    assert (code, output) == (1, "")
    assert expected in err and len(err.strip().splitlines()) == 1
