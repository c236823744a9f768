"""The check on logs by their own writer, through the command line as a user calls it."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from drift_samples import NOON, Streets, write_log, write_reference
from typer.testing import CliRunner

import gearshift
from components.drift.check import Compared, check_drift, figures_of, leave_results
from components.drift.config import DriftConfig
from components.drift.window import WindowConfig
from inference_graph.control.drift_state import DriftState, read_state

USUAL = Streets(count=80, seed=1)
FAST = DriftConfig(embedding="numpy", tabular=False)
ALL = WindowConfig(hours=0)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(tmp_path_factory.mktemp("reference"), USUAL)


def checked(folder: Path, reference: Path, streets: Streets, **fields: object) -> DriftState:
    log = write_log(folder / "log", streets, **fields)  # type: ignore[arg-type]  # columns by name
    said: list[str] = []
    state = check_drift(
        str(log), Compared(str(reference)), ALL, folder / "out", FAST, NOON + HOUR, said.append
    )
    assert [line.split()[0] for line in said] == ["comparing", "writing"]
    return state


def moved(**fields: object) -> Streets:
    return dataclasses.replace(USUAL, **({"count": 50, "seed": 9} | fields))  # type: ignore[arg-type]


def test_the_same_streets_are_no_drift(tmp_path: Path, reference: Path) -> None:
    state = checked(tmp_path, reference, moved())
    assert state.decision == "none"
    assert state.sentence == "No drift: no figure moved beyond what chance explains."
    assert state.frames == 250
    assert (state.since, state.until) == (NOON, NOON + timedelta(seconds=24.9))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["drifted"] for one in report["comparisons"]] == [False] * 9
    # Frames of a street are nearly the same: of 250, each street's five count about once.
    assert report["window"]["spacing"] == 5
    assert {one["window_frames"] for one in report["comparisons"]} == {50}
    assert read_state(tmp_path / "out") == state


def test_dark_streets_that_are_seen_as_well_are_watched(tmp_path: Path, reference: Path) -> None:
    state = checked(tmp_path, reference, moved(grey=(0.2, 0.05)))
    assert state.decision == "watch"
    assert state.sentence.startswith("Harmless drift: brightness and embedding moved;")
    assert re.match(r"brightness: median 0\.[45]\d* became 0\.(2|1\d+|2\d+) ", state.evidence[0])
    assert state.retained == pytest.approx(0.91, abs=0.03)


def test_dark_streets_that_are_seen_worse_are_harmful(tmp_path: Path, reference: Path) -> None:
    state = checked(tmp_path, reference, moved(grey=(0.2, 0.05), agreement=0.7))
    assert state.decision == "retrain"
    assert "accuracy retained fell from" in state.sentence
    assert state.retained is not None and state.reference_retained is not None
    assert state.reference_retained - state.retained == pytest.approx(0.18, abs=0.05)
    assert state.retained_interval is not None
    assert state.retained_interval[0] < state.retained < state.retained_interval[1]


def test_accuracy_alone_is_enough(tmp_path: Path, reference: Path) -> None:
    """Nothing looks different, and yet large sees something else: a rung is broken."""
    state = checked(tmp_path, reference, moved(agreement=0.5))
    assert state.decision == "retrain"
    assert "no figure moved, and accuracy retained fell" in state.sentence


def test_another_mix_of_objects_is_no_reason_to_retrain(tmp_path: Path, reference: Path) -> None:
    state = checked(tmp_path, reference, moved(mix=(0.1, 0.2, 0.7)))
    assert state.decision == "watch"
    assert "classes moved" in state.sentence
    assert re.match(r"classes: bus: [12]\d\.\d% became [67]\d\.\d% ", state.evidence[0])


def test_without_shadows_harm_is_not_known(tmp_path: Path, reference: Path) -> None:
    state = checked(tmp_path, reference, moved(grey=(0.2, 0.05), shadow=0.0))
    assert state.decision == "watch"
    assert "no shadow has looked, so nobody knows of harm" in state.sentence
    assert state.retained is None


def test_few_streets_are_too_little_data(tmp_path: Path, reference: Path) -> None:
    state = checked(tmp_path, reference, moved(count=3, frames=60, grey=(0.2, 0.05)))
    assert state.decision == "unknown"
    assert "of 180 answers at most" in state.sentence


def test_another_policys_window_leaves_routing_out(tmp_path: Path, reference: Path) -> None:
    state = checked(tmp_path, reference, moved(rungs=(0.9, 0.05, 0.05)), policy_revision="other")
    assert state.decision == "none"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["notes"][0].startswith("The reference is of policy 0123456789ab, the window")


def test_a_window_without_frames_is_reported(tmp_path: Path, reference: Path) -> None:
    log = write_log(tmp_path / "log", moved())
    later = NOON + timedelta(days=2)
    state = check_drift(
        str(log), Compared(str(reference)), WindowConfig(hours=6), tmp_path / "out", FAST, later
    )
    assert (state.decision, state.frames, state.since) == ("unknown", 0, None)
    assert "nothing was logged" in (tmp_path / "out" / "report.html").read_text()


def test_a_log_is_a_reference_too(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", USUAL)
    write_log(tmp_path / "log", moved(grey=(0.2, 0.05)), NOON + timedelta(hours=5))
    compared = Compared(str(log), reference_until="2026-11-21T13:00")
    window = WindowConfig(since="2026-11-21T13:00")
    state = check_drift(
        str(log), compared, window, tmp_path / "out", FAST, NOON + timedelta(hours=9)
    )
    assert state.decision == "watch"
    assert state.frames == 250


def test_figures_and_files_for_the_pipeline(tmp_path: Path, reference: Path) -> None:
    checked(tmp_path, reference, moved(grey=(0.2, 0.05), shadow=0.0))
    figures = figures_of(tmp_path / "out")
    assert (figures["frames"], figures["drift"], figures["harmful"]) == (250, True, False)
    assert figures["p"]["brightness"] < 1e-6
    leave_results(tmp_path / "out", str(tmp_path / "shared"))
    left = {path.name for path in (tmp_path / "shared").iterdir()}
    assert left == {"state.json", "report.json", "report.html"}


RUNNER = CliRunner()


def run(*arguments: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(gearshift.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_tells_and_fails_on_request(tmp_path: Path, reference: Path) -> None:
    log = write_log(tmp_path / "log", moved(grey=(0.2, 0.05)))
    call = (
        "drift",
        "check",
        "--log",
        log,
        "--reference",
        reference,
        "--hours",
        0,
        "--out",
        tmp_path / "out",
        "--embedding",
        "numpy",
    )
    code, out, _ = run(*call)
    assert code == 0
    assert out.startswith("Harmless drift: brightness")
    assert out.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
    # Evidently's page stands beside ours, and neither asks anybody else for anything.
    pages = [(tmp_path / "out" / name).read_text() for name in ("report.html", "tabular.html")]
    assert 'href="tabular.html"' in pages[0]
    assert "brightness" in pages[1]
    for page in pages:
        assert not re.search(r"<script[^>]+src=", page)
        shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
        assert not re.search(r"<(link|img|iframe)[^>]+https?://", shown)
    code, out, _ = run(*call, "--no-tabular", "--fail-on", "watch", "--json")
    assert code == 3
    assert json.loads(out)["decision"] == "watch"
    assert not (tmp_path / "out" / "tabular.html").exists()
    assert run(*call, "--no-tabular", "--fail-on", "retrain")[0] == 0


def test_failures_are_one_line(tmp_path: Path, reference: Path) -> None:
    for call, message in (
        (("--log", tmp_path / "none", "--reference", reference), "holds no answer"),
        (("--log", tmp_path / "none", "--reference", tmp_path / "no"), "no reference at"),
        (("--reference", reference, "--since", "soon"), "since is 'soon'"),
        (("--reference", reference, "--alpha", 0.5), "alpha is 0.5"),
        (("--reference", reference, "--fail-on", "rain"), "fail-on is 'rain'"),
    ):
        code, out, err = run("drift", "check", *call, "--out", tmp_path / "out")
        assert (code, out) == (1, "")
        assert err.startswith("error: ") and message in err
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
