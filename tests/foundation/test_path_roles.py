"""A result replaces only what the same verb wrote; everything else is refused before any work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.errors import ConfigurationError, StorageError
from foundation.path_roles import (
    KEPT_FILE,
    KEPT_FOLDER,
    READ,
    RESULT_FILE,
    RESULT_FOLDER,
    GivenPath,
    PathRole,
    claimed,
    local_path,
)
from foundation.storage import atomic_path

WORKPLACE = PathRole("workplace", sign=("run.json", "{"))


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(role: PathRole, out: str, verb: str = "rules", *inputs: str, text: str = "new") -> None:
    """What a verb does: claim its output, then write it."""
    given = [GivenPath("--out", role, out), *(GivenPath("--data", READ, one) for one in inputs)]
    with claimed(verb, given):
        target = Path(out) / "a/b.txt" if role == WORKPLACE else Path(out)
        with atomic_path(target) as partial:
            if role == RESULT_FOLDER:
                (partial / "images").mkdir(parents=True)
                (partial / "images" / "1.txt").write_text(text)
            else:
                partial.write_text(text)


def refused(role: PathRole, out: str, *inputs: str, verb: str = "rules") -> str:
    before = snapshot(Path.cwd())
    with pytest.raises(ConfigurationError) as caught:
        write(role, out, verb, *inputs)
    assert snapshot(Path.cwd()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (facts.st_mode, facts.st_ino, content)
    return found


WRITTEN = {RESULT_FILE: "out", RESULT_FOLDER: "out/images/1.txt"}


@pytest.mark.parametrize("role", [RESULT_FILE, RESULT_FOLDER, WORKPLACE])
def test_the_same_verb_replaces_its_result_and_no_other_does(role: PathRole) -> None:
    write(role, "out", text="one")
    write(role, "out", text="two")
    assert Path(WRITTEN.get(role, "out/a/b.txt")).read_text() == "two"
    assert "rules" in refused(role, "out", verb="data ingest") or role == RESULT_FILE
    assert not list(Path.cwd().rglob("*.partial*"))


@pytest.mark.parametrize("role", [RESULT_FILE, RESULT_FOLDER, WORKPLACE])
def test_what_the_user_has_is_never_replaced(role: PathRole) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("x")
    Path("text").write_text("x")
    for spelled in (
        "mine",
        "mine/",
        "./mine",
        "mine/../mine",
        str(Path("mine").absolute()),
        "text",
    ):
        refused(role, spelled)
    refused(role, "text/below")
    refused(role, "mine/..")  # holds both


def test_a_result_that_was_changed_is_not_replaced() -> None:
    write(RESULT_FILE, "r.yaml")
    Path("r.yaml").write_text("edited by hand")
    assert "changed since" in refused(RESULT_FILE, "r.yaml")

    write(RESULT_FOLDER, "data")
    Path("data/notes.txt").write_text("x")
    assert "notes.txt" in refused(RESULT_FOLDER, "data")
    Path("data/notes.txt").unlink()
    write(RESULT_FOLDER, "data")
    Path("data/images/1.txt").write_text("edited")
    assert "images/1.txt" in refused(RESULT_FOLDER, "data")

    write(WORKPLACE, "deploy")
    Path("deploy/overlay.yaml").write_text("mine")  # others' files stay, and disturb nothing
    write(WORKPLACE, "deploy", text="two")
    assert Path("deploy/overlay.yaml").read_text() == "mine"


def test_a_copy_counts_as_what_it_was_copied_from() -> None:
    write(RESULT_FOLDER, "data")
    subprocess.run(["cp", "-r", "data", "copy"], check=True)
    write(RESULT_FOLDER, "copy", text="two")
    assert Path("copy/images/1.txt").read_text() == "two"


def test_an_empty_folder_may_become_the_result_but_not_the_current_one() -> None:
    Path("empty").mkdir()
    write(RESULT_FOLDER, "empty")
    assert Path("empty/images/1.txt").is_file()
    Path("here").mkdir()
    os.chdir("here")
    assert "runs in it" in refused(RESULT_FOLDER, ".")
    write(WORKPLACE, ".")  # which nothing replaces


def test_links_are_followed_to_what_they_lead_to() -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real")
    write(RESULT_FOLDER, "link")
    assert Path("link").is_symlink()
    assert Path("real/images/1.txt").is_file()
    Path("mine.txt").write_text("x")
    Path("to-mine").symlink_to("mine.txt")
    refused(RESULT_FILE, "to-mine")
    Path("dangling").symlink_to("not-there-yet")
    write(RESULT_FILE, "dangling")
    assert Path("not-there-yet").read_text() == "new"
    Path("round").symlink_to("round")
    refused(RESULT_FILE, "round")


def test_an_input_is_never_an_output() -> None:
    write(RESULT_FOLDER, "data", "data ingest")
    for out in ("data", "data/", "data/../data", "data/images/new", "link", "link/new"):
        Path("link").unlink(missing_ok=True)
        Path("link").symlink_to("data")
        assert "an input" in refused(RESULT_FOLDER, out, "data", verb="data ingest")
    Path("link").unlink()
    assert "holds an input" in refused(RESULT_FOLDER, "data", "data/images", verb="data ingest")
    write(RESULT_FILE, "r.yaml")
    os.link("r.yaml", "hard")
    assert "an input" in refused(RESULT_FILE, "r.yaml", "hard")
    Path("s3:").mkdir()
    write(RESULT_FILE, "new", "rules", "s3://bucket/new", "0", "")  # are no paths


def test_a_workplace_may_hold_what_is_read_but_does_not_write_over_it() -> None:
    write(WORKPLACE, "run")
    Path("run/scenes/images").mkdir(parents=True)
    write(WORKPLACE, "run", "rules", "run/scenes/images")
    Path("run/policy.onnx").write_text("x")
    assert "an input" in refused(WORKPLACE, "run", "run/policy.onnx")
    assert "an input" in refused(WORKPLACE, "run", "run/a/b.txt")
    assert "an input" in refused(WORKPLACE, "run/scenes", "run")


def test_a_workplace_that_was_not_used_goes() -> None:
    with pytest.raises(KeyError), claimed("x", [GivenPath("--out", WORKPLACE, "new")]):
        raise KeyError
    assert not Path("new").exists()


def test_two_outputs_are_apart() -> None:
    given = [GivenPath("--out", RESULT_FILE, "a"), GivenPath("--records", RESULT_FILE, "./a")]
    with pytest.raises(ConfigurationError, match="another output"), claimed("route", given):
        pass
    given = [GivenPath("--out", RESULT_FILE, "log/a"), GivenPath("--log", KEPT_FOLDER, "log")]
    with pytest.raises(ConfigurationError, match="lies in a folder kept"), claimed("x", given):
        pass


@pytest.mark.parametrize("out", ["/dev/null", "/dev/full", "/proc/self/nothing", "pipe"])
def test_what_is_no_regular_file_is_refused(out: str) -> None:
    os.mkfifo("pipe")
    refused(RESULT_FILE, out)
    refused(RESULT_FOLDER, out)


@pytest.mark.parametrize("role", [RESULT_FILE, RESULT_FOLDER, WORKPLACE])
@pytest.mark.parametrize("out", ["http://x", "s3://bucket/x", "file:///x"])
def test_a_result_does_not_go_to_an_address(role: PathRole, out: str) -> None:
    assert "is an address" in refused(role, out)


@pytest.mark.parametrize("role", [READ, KEPT_FILE, KEPT_FOLDER, WORKPLACE])
@pytest.mark.parametrize("text", ["pipe", "socket", "link", "./x/../pipe"])
def test_what_would_wait_for_another_program_is_refused(role: PathRole, text: str) -> None:
    os.mkfifo("pipe")
    Path("x").mkdir()
    os.symlink("pipe", "link")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    given = [GivenPath("--data", role, text)]
    with pytest.raises(ConfigurationError, match="named pipe or a socket"), claimed("x", given):
        pass


def test_a_name_may_be_as_long_as_the_disk_lets_it_be() -> None:
    for name in ("n" * 255, "n" * 251 + ".txt", "ü" * 127, "a b#?%'\"\n-"):
        write(RESULT_FILE, name)
        write(RESULT_FILE, name)
        assert Path(name).read_text() == "new"
    refused(RESULT_FILE, "n" * 256)
    refused(RESULT_FILE, "d/" * 3000)


def test_a_folder_of_a_version_without_marks_is_known_by_its_files() -> None:
    Path("runs").mkdir()
    Path("runs/run.json").write_text("{}")
    write(WORKPLACE, "runs")
    Path("runs/run.json").unlink()
    write(WORKPLACE, "runs")  # marked by now
    Path("other").mkdir()
    Path("other/run.json").write_text("mine")
    refused(WORKPLACE, "other")


def test_what_appears_meanwhile_is_not_replaced_either() -> None:
    with (
        pytest.raises(ConfigurationError, match="did not write"),
        claimed("rules", [GivenPath("--out", RESULT_FOLDER, "out")]),
        atomic_path(Path("out")) as partial,
    ):
        partial.mkdir()
        Path("out").mkdir()
        Path("out/mine").write_text("x")
    assert Path("out/mine").read_text() == "x"


def test_a_file_and_a_folder_never_replace_each_other_outside_verbs_either() -> None:
    Path("folder").mkdir()
    with pytest.raises(StorageError, match="never replaces"), atomic_path(Path("folder")) as path:
        path.write_text("")
    Path("file").write_text("")
    with pytest.raises(StorageError, match="never replaces"), atomic_path(Path("file")) as path:
        path.mkdir()
    assert sorted(os.listdir()) == ["file", "folder"]


_WRITER = """
import sys, time
from pathlib import Path
from foundation.path_roles import GivenPath, RESULT_FOLDER, claimed
from foundation.storage import atomic_path
with claimed("rules", [GivenPath("--out", RESULT_FOLDER, "out")]), atomic_path(Path("out")) as at:
    at.mkdir()
    (at / "half").write_text("x")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_left_goes_with_the_next_and_a_living_run_keeps_its_own() -> None:
    write(RESULT_FOLDER, "out")
    killed, living = (
        subprocess.Popen([sys.executable, "-c", _WRITER], stdout=subprocess.PIPE) for _ in range(2)
    )
    for process in (killed, living):
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    try:
        assert Path("out/images/1.txt").is_file()
        assert len(list(Path.cwd().glob(".*.partial"))) == 2
        write(RESULT_FOLDER, "out", text="two")
        assert Path("out/images/1.txt").read_text() == "two"
        assert len(list(Path.cwd().glob(".*.partial"))) == 1
    finally:
        living.kill()
        living.wait()
    write(RESULT_FOLDER, "out")
    assert os.listdir() == ["out"]


_KILLED_BETWEEN = """
import os
from pathlib import Path
from foundation import storage
from foundation.path_roles import GivenPath, RESULT_FOLDER, claimed

storage._exchange = lambda one, other: False  # as where the system cannot do so
replace = os.replace
os.replace = lambda one, other: os._exit(9) if Path(other).name == "out" else replace(one, other)
given = [GivenPath("--out", RESULT_FOLDER, "out")]
with claimed("rules", given), storage.atomic_path(Path("out")) as partial:
    partial.mkdir()
"""


def test_a_result_whose_run_was_killed_between_old_and_new_comes_back() -> None:
    write(RESULT_FOLDER, "out", text="one")
    assert subprocess.run([sys.executable, "-c", _KILLED_BETWEEN], check=False).returncode == 9
    assert not Path("out").exists()
    with claimed("rules", [GivenPath("--out", RESULT_FOLDER, "out")]):
        assert Path("out/images/1.txt").read_text() == "one"
    assert os.listdir() == ["out"]


def test_what_names_a_path() -> None:
    assert local_path("a/b") == Path("a/b")
    assert local_path("file:///a%20b") == Path("/a b")
    assert local_path("") is None
    assert local_path("s3://bucket/x") is None


def test_what_belongs_beside_an_input_may_lie_in_it() -> None:
    Path("ladder").mkdir()
    Path("ladder/nano.onnx").write_text("weights")
    beside = PathRole("workplace", in_inputs=True)
    assert "lies in an input" in refused(WORKPLACE, "ladder/clips", "ladder")
    with (
        claimed(
            "ladder clips",
            [GivenPath("--out", beside, "ladder/clips"), GivenPath("--ladder", READ, "ladder")],
        ),
        atomic_path(Path("ladder/clips/clips.json")) as partial,
    ):
        partial.write_text("new")
    assert Path("ladder/clips/clips.json").read_text() == "new"
    assert "input" in refused(beside, "ladder", "ladder")
    assert Path("ladder/nano.onnx").read_text() == "weights"
