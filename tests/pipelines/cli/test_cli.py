"""The command line: help that teaches, data on one stream, failures in one line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import closed_port
from test_verb_paths import VERBS
from typer.testing import CliRunner

import gearshift
from foundation.audit_log import AuditLog, read_entries
from foundation.errors import StepFailed
from pipelines.cli.console import read_settings

RUNNER = CliRunner()


def run(*arguments: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(gearshift.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_help_names_every_verb() -> None:
    text = run("--help")[1]
    for group in {verb[0] for verb in VERBS}:
        assert group in text
        if (group,) not in VERBS:
            inner = run(group, "--help")[1]
            assert all(verb[1] in inner for verb in VERBS if verb[0] == group)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_prints_json(verb: tuple[str, ...]) -> None:
    text = run(*verb, "--help")[1]
    assert "--json" in text


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_teaches_with_an_example(verb: tuple[str, ...]) -> None:
    code, text, _ = run(*verb, "--help")
    assert code == 0
    assert f"gearshift {' '.join(verb)}" in " ".join(text.split())


def test_options_come_from_the_configuration() -> None:
    text = " ".join(run("scenes", "--help")[1].replace("│", " ").split())
    assert "--clip-frames" in text
    assert "frames of each clip. [default: 30]" in text
    assert run("scenes", "--clip-frames", "few", "--out", "x")[0] == 2


def test_the_options_of_the_stages_are_listed_with_their_defaults() -> None:
    text = run("pipeline", "options")[1]
    assert "clone.seeds=5\n    number of independent policies" in text
    assert "scenes.clips=70\n" in text
    assert "evaluate.fleet_sizes=1,4,8\n" in text
    listed = json.loads(run("pipeline", "options", "gate", "--json")[1])
    assert list(listed) == ["gate"] and listed["gate"]["retained"]["default"] == 0.95
    code, _, err = run("pipeline", "options", "gates")
    assert code == 1 and "did you mean 'gate'?" in err


def test_scenes_then_ingest_then_split(tmp_path: Path) -> None:
    scenes, data, parts = tmp_path / "scenes", tmp_path / "data", tmp_path / "split.json"
    size = ("--width", 96, "--height", 64)
    code, out, _ = run("scenes", "--frames", 8, *size, "--workers", 1, "--out", scenes, "--json")
    assert code == 0
    assert json.loads(out)["images"] == 8
    cache = ("--cache", tmp_path / "cache")
    code, out, err = run("data", "ingest", scenes, "--out", data, "--json", *cache)
    assert code == 0
    assert json.loads(out)["images"] == 8
    assert "images: 100 % (8 of 8)" in err
    shares = ("--train", 0.5, "--validation", 0.25, "--test", 0.25)
    code, out, _ = run("data", "split", data, "--out", parts, *shares, "--json")
    assert code == 0
    assert (
        sum(
            len(ids)
            for name, ids in json.loads(parts.read_text()).items()
            if name in ("train", "validation", "test")
        )
        == 8
    )


def test_a_failure_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    code, out, err = run("data", "ingest", tmp_path / "nothing", "--out", tmp_path / "data")
    assert (code, out) == (1, "")
    lines = err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "nothing" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    code, _, err = run("scenes", "--out", tmp_path / "scenes")
    assert code == 1
    assert "give --frames or --clips" in err


def test_an_unknown_option_is_a_usage_error() -> None:
    code, _, err = run("scenes", "--colour", "red")
    assert code == 2
    assert "--colour" in err


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        ("--vresion", "--version"),
        ("scenes --frmaes 3", "--frames"),  # of the verb's configuration
        ("stream x --anwsers y", "--answers"),  # of the verb itself
        ("token add x --tokesn y", "--tokens"),
        ("scnees", "scenes"),
        ("rout", "route"),  # nearer than rollout
    ],
)
def test_a_mistyped_name_gets_one_suggestion(words: str, suggestion: str) -> None:
    code, _, err = run(*words.split())
    text = " ".join(err.replace("│", " ").split())
    assert code == 2
    assert f"Did you mean {suggestion}?" in text.replace("'", "")
    assert "Possible options" not in text


def test_the_version_and_the_short_form_of_help() -> None:
    assert run("--version")[:2] == (0, f"gearshift {version('gearshift')}\n")
    assert run("scenes", "-h")[1] == run("scenes", "--help")[1]
    assert run("-h")[1] == run("--help")[1]


def test_a_shell_completes_verbs_and_the_options_of_their_configuration() -> None:
    def completed(words: str) -> list[str]:
        variables = {**os.environ, "_GEARSHIFT_COMPLETE": "complete_bash", "COMP_WORDS": words}
        variables["COMP_CWORD"] = str(len(words.split()) - 1)
        code = "from gearshift import app; app(prog_name='gearshift')"
        done = subprocess.run(
            [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert completed("gearshift sc") == ["scenes"]
    assert completed("gearshift demo --learn") == ["--learn-clips"]


def test_a_mistyped_setting_is_refused_before_anything_runs(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for setting, words in (
        (
            "clone.seed_count=3",
            "clone: the option 'seed_count' is not known; did you mean 'seed'?",
        ),
        ("cloning.seeds=3", "the stage 'cloning' is not known; did you mean 'clone'?"),
        ("clone.seeds=0", "at least 1"),
    ):
        code, _, err = run("pipeline", "run", "--out", out, "--set", setting)
        assert code == 1
        assert words in err
    assert not out.exists()


def test_protected_classes_are_floors_of_the_gate(tmp_path: Path) -> None:
    floors = ["person=0.99", "dog=0.9"]
    chosen = read_settings(["gate.retained=0.9"], floors)
    assert chosen == {"gate": {"retained": "0.9", "protect": floors}}
    for verb in (("pipeline", "run"), ("demo",), ("retrain",)):
        code, _, err = run(*verb, "--out", tmp_path / "run", "--protect", "person")
        assert code == 1 and "gate.protect holds 'person'; give a class and a share" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", [("pipeline", "run"), ("demo",)])
def test_a_mistyped_setting_is_refused_before_weights_are_fetched(
    verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEARSHIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GEARSHIFT_WEIGHTS_ADDRESS", f"https://127.0.0.1:{closed_port()}")
    weights = (*verb, "--out", tmp_path / "run", "--weights", "coco")
    code, _, err = run(*weights, "--set", "cloning.seeds=3")
    assert code == 1 and "the stage 'cloning' is not known; did you mean 'clone'?" in err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("source", ["nothing", "empty", "note.txt", "two"])
def test_wrong_data_are_refused_before_anything_is_imported_or_fetched(
    source: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("no zip")
    (tmp_path / "two").mkdir()
    for name in ("a.json", "b.json"):
        (tmp_path / "two" / name).write_text("{}")
    words = ("pipeline", "run", "--weights", "coco", "--data", str(tmp_path / source))
    variables = {**os.environ, "GEARSHIFT_CACHE": str(tmp_path / "cache")}
    program = """
import sys
from gearshift import app
try:
    app(sys.argv[1:])
finally:
    print("imported:", sorted({"torch", "kfp", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--out", str(tmp_path / "out")],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "imported: []\n")
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    assert source in done.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_an_interrupt_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("components.scenes.writer.write_scenes", interrupted)
    code, out, err = run("scenes", "--frames", 1, "--out", "x")
    assert (code, out, err.strip()) == (130, "", "interrupted")


def test_a_failed_steps_last_words_stand_above_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(*_: object, **__: object) -> None:
        error = StepFailed("step clone failed: no clips; see the log")
        error.add_note("line 1 of the log\n[line] 2 of the log")
        raise error

    monkeypatch.setattr("pipelines.training.run.run_training", failing)
    code, out, err = run("pipeline", "run", "--out", tmp_path)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "line 1 of the log",
        "[line] 2 of the log",
        "error: step clone failed: no clips; see the log",
    ]


@pytest.mark.slow
def test_compile_writes_the_files_it_names(tmp_path: Path) -> None:
    code, out, _ = run("pipeline", "compile", "--out", tmp_path, "--image", "python-mine:1")
    assert code == 0
    written = {Path(line).stem: Path(line).read_text("utf-8") for line in out.splitlines()}
    assert len(written) == 4 and all("image: python-mine:1" in one for one in written.values())
    training, monitoring = written["gearshift-training"], written["gearshift-monitoring"]
    assert training.count("image: python-mine:1") > 5
    assert monitoring.count("image: python-mine:1") >= 3
    folders = sorted((tmp_path / "components").glob("*/*"))
    assert {"spot_check", "admit", "retrain"} <= {folder.name for folder in folders}
    for folder in folders:
        assert "components:" in (folder / "component.yaml").read_text()
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
        assert metadata["name"] == folder.name and metadata["dependencies"]["kubeflow"]
        rows = [line for line in (folder / "README.md").read_text().splitlines() if "|" in line]
        assert len(rows) > 4 and not any(line.endswith("|  |") for line in rows), folder


def test_a_video_is_routed_by_a_fixed_rung(tmp_path: Path, sample_ladder: Path) -> None:
    size = ("--width", 96, "--height", 64, "--clip-frames", 3, "--workers", 1)
    assert run("scenes", "--clips", 1, *size, "--out", tmp_path / "scenes")[0] == 0
    (video,) = (tmp_path / "scenes" / "clips").glob("*.mp4")
    routed = tmp_path / "routed.mp4"
    code, out, _ = run(
        "route", video, "--always", "nano", "--ladder", sample_ladder, "--out", routed, "--json"
    )
    assert code == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert [(record["frame"], record["rung"]) for record in records] == [
        (0, "nano"),
        (1, "nano"),
        (2, "nano"),
    ]
    assert routed.stat().st_size > 0


def test_routing_without_a_policy_states_what_to_do(tmp_path: Path, sample_ladder: Path) -> None:
    video = tmp_path / "no.mp4"
    video.write_bytes(b"no video")
    code, _, err = run("route", video, "--ladder", sample_ladder)
    assert code == 1
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1


def test_bench_observe_prints_json() -> None:
    code, out, _ = run("bench", "observe", "--repeats", 5, "--json")
    assert code == 0
    assert json.loads(out)["observe"]["median"] > 0


def test_a_token_is_shown_once_and_its_digest_kept(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    code, text, words = run("token", "add", "robot-7", "--role", "stream", "--tokens", tokens)
    assert code == 0
    assert "shown only now" in words and "Earlier" not in words
    entry = json.loads(tokens.read_text())
    assert entry["sha256"] == hashlib.sha256(text.strip().encode()).hexdigest()
    assert (entry["name"], entry["roles"]) == ("robot-7", ["stream"])
    code, _, words = run("token", "add", "robot-7", "--role", "stream", "--tokens", tokens)
    assert code == 0 and "Earlier tokens of robot-7 stay valid: 1" in words
    code, _, words = run("token", "add", "robot-8", "--role", "boss", "--tokens", tokens)
    assert code == 1 and "boss" in words


def test_the_written_manifests_are_the_committed_ones(tmp_path: Path) -> None:
    assert run("manifests", "--out", tmp_path / "deploy")[0] == 0
    committed = Path(gearshift.__file__).parent / "manifests"
    names = {
        str(path.relative_to(committed))
        for path in committed.rglob("*.yaml")
        if "grafana" not in path.parts  # written by dashboards.grafana
    }
    for name in names:
        assert (tmp_path / "deploy" / name).read_bytes() == (committed / name).read_bytes()
    assert len(names) > 10


def test_a_platform_without_a_policy_states_what_to_do(tmp_path: Path) -> None:
    for ladder, demo in (
        ((), "gearshift demo"),
        (("--ladder", "ocr"), "gearshift demo --task ocr"),
        (("--ladder", "speech"), "gearshift demo --task speech"),
    ):
        for name, into in (("none.onnx", ""), ("policy.onnx", f" --out {tmp_path}")):
            code, _, words = run("up", "--open-access", "--policy", tmp_path / name, *ladder)
            assert code == 1 and f"run `{demo}{into}`" in " ".join(words.split())


def test_a_stream_to_nowhere_reports_it(tmp_path: Path) -> None:
    code, _, words = run("stream", tmp_path / "none.mp4", "--to", "http://127.0.0.1:9")
    assert code == 1 and "none.mp4" in words


def test_the_audit_is_shown_verified_and_anchored(tmp_path: Path) -> None:
    log, anchors = tmp_path / "audit.jsonl", tmp_path / "anchors.txt"
    for verb in ("verify", "anchor", "show"):
        code, _, error = run("audit", verb, log)
        assert code == 1 and str(log) in error
    for name in ("a", "b"):
        AuditLog(log).record("anna", "token.add", name, {"roles": ["stream"]})
    code, anchor, _ = run("audit", "anchor", log)
    assert (code, anchor.split(":")[0]) == (0, "2")
    anchors.write_text(f"# kept elsewhere\n{anchor}\n")
    (tmp_path / "none.txt").write_text("# nothing was kept\n")
    code, _, error = run("audit", "verify", log, "--anchors", tmp_path / "none.txt")
    assert code == 1 and "holds no anchor" in error
    text = run("audit", "verify", log, "--anchors", anchors)[1]
    assert f"2 entries; head {anchor.strip()}" in text
    assert "anna: token.add b (roles ['stream'])" in run("audit", "show", log, "--last", 1)[1]
    assert "nothing" in run("audit", "show", log, "--what", "policy")[1]
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0])
    assert run("audit", "verify", log)[0] == 0  # which is why anchors are kept
    code, text, error = run("audit", "verify", log, "--anchor", anchor)
    assert (code, "entry 2 of an anchor is missing" in text) == (1, True)
    assert error.startswith("error: ") and "does not hold" in error
    log.write_bytes(lines[1])
    code, text, _ = run("audit", "verify", log, "--json")
    assert code == 1 and json.loads(text)["breaches"]
    assert run("audit", "anchor", log)[0] == 1


def test_keys_are_made_trusted_used_and_revoked(tmp_path: Path) -> None:
    model, trust = tmp_path / "policy.onnx", tmp_path / "trust.json"
    model.write_bytes(b"some policy")
    made = json.loads(run("key", "new", "release", "--out", tmp_path / "keys", "--json")[1])
    assert run("key", "trust", made["public"], "--trust", trust)[0] == 0
    code, text, _ = run("sign", model, "--key", made["private"], "--json")
    assert (code, json.loads(text)) == (0, {"signed": [f"{model}.sig"]})
    text = run("key", "check", model, "--trust", trust, "--json")[1]
    assert json.loads(text) == {"signed_by": {str(model): "release"}}
    assert run("key", "revoke", "release", "--trust", trust, "--reason", "lost")[0] == 0
    assert "release" in run("key", "list", "--trust", trust)[1]
    assert json.loads(run("key", "list", "--trust", trust, "--json")[1])["keys"][0]["revoked"]
    code, _, error = run("key", "check", model, "--trust", trust)
    assert (code, "was revoked" in error) == (1, True)
    reported = [one.what for one in read_entries(Path(os.environ["GEARSHIFT_AUDIT"]))]
    assert reported[-4:] == ["key.new", "key.trust", "model.sign", "key.revoke"]


def test_results_of_small_verbs_are_json_as_well(tmp_path: Path) -> None:
    def reported(*words: object) -> Any:
        code, out, err = run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    tokens, trust, rules = (
        tmp_path / name for name in ("tokens.jsonl", "trust.json", "rules.yaml")
    )
    made = reported("token", "add", "robot", "--role", "stream", "--tokens", tokens)
    digest = hashlib.sha256(made["token"].encode()).hexdigest()
    assert json.loads(tokens.read_text())["sha256"] == digest
    reported("token", "add", "other", "--role", "stream", "--tokens", tokens)
    assert reported("token", "remove", "robot", "--tokens", tokens) == {
        "name": "robot",
        "removed": 1,
    }
    pair = reported("key", "new", "release", "--out", tmp_path)
    added = reported("key", "trust", pair["public"], "--trust", trust)
    assert (added["name"], added["key_id"]) == ("release", pair["key_id"])
    reported(
        "key",
        "trust",
        reported("key", "new", "next", "--out", tmp_path)["public"],
        "--trust",
        trust,
    )
    gone = reported("key", "revoke", "release", "--reason", "lost", "--trust", trust)
    assert gone["revoked"]["reason"] == "lost"
    assert reported("rules", "--out", rules) == {"rules": str(rules)} and rules.is_file()
    assert reported("notify", "send", "A title") == {"sent_to": []}
    AuditLog(tmp_path / "audit.jsonl").record("anna", "token.add", "robot", {})
    assert reported("audit", "anchor", tmp_path / "audit.jsonl")["anchor"].startswith("1:")
    assert reported("data", "schema")["type"] == "object"
    assert reported("data", "log", "--store", tmp_path / "store") == []
    assert run("data", "log", "--store", tmp_path / "store")[:2] == (0, "none\n")
