"""Every fenced block of README.md and docs that can run here runs, in a small demo's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from campaign import FULL
from processes import closed_port

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"python": "python", "javascript": "node"}
NODE = shutil.which("node")
DATA = {"text", "yaml", "json", "mermaid"}
SKIPS = {
    "changes the machine",
    "names ids of your own",
    "needs a GPU",
    "needs a Kafka broker",
    "needs a Google Cloud project",
    "needs a camera and a second machine",
    "needs a cluster",
    "needs a bucket of your own",
    "needs a store of your own",
    "needs a container engine",
    "needs a launch server",
    "needs internet",
    "needs trained checkpoints",
    "needs tritonclient",
    "runs until Ctrl-C",
    "takes minutes",
    "trains for hours",
    "trains for minutes",
}
"""Why a block is not run here; its info string has one of these as `skip="…"`."""
SMALL_DEMO = (
    "--learn-clips 6 --held-out-clips 3 --clip-frames 10 --video-frames 30 --set clone.seeds=1 "
    "--set clone.steps=60 --set refine.timesteps=4000 --set time.images=10 --set time.repeats=3 "
    "--set spot_check.images=8 --set compare_rungs.frames=8 "
    "--set evaluate.bootstrap=20 --set evaluate.points=3 --set gate.retained=0 "
    "--set gate.latency_ratio=10 --set gate.hull_margin=-1 --set gate.clone_margin=-1 "
    "--set gate.rule_margin=-1 --set gate.fixed_rung_margin=-1 --set gate.gear_gain=-9 "
    "--set gate.scene_type_retained=0 --set gate.explained_variance=-1"
)
_FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(r"^gearshift (up|dashboard)\b")


@dataclass(frozen=True)
class Fence:
    """A fenced block.

    Attributes:
        language: first word of the info string.
        skip: why it is not run; empty where it is.
        code: its lines, without the indentation of the fence.
    """

    language: str
    skip: str
    code: str

    @property
    def runs(self) -> bool:
        return not self.skip and (self.language == "bash" or self.language in PROGRAMS)


def fences(document: Path) -> list[Fence]:
    found = []
    for indent, _, info, code in _FENCE.findall(document.read_text("utf-8")):
        language, _, rest = info.strip().partition(" ")
        skip = re.search(r'skip="([^"]+)"', rest)
        lines = (line.removeprefix(indent) for line in code.splitlines())
        found.append(Fence(language, skip[1] if skip else "", "\n".join(lines)))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_runs_or_states_why_not(document: Path) -> None:
    for fence in fences(document):
        assert fence.language in {"bash", *PROGRAMS, *DATA}, fence.code
        assert not fence.skip or fence.skip in SKIPS, fence.skip


def test_every_reason_is_used() -> None:
    assert {fence.skip for path in DOCUMENTS for fence in fences(path)} - {""} == SKIPS


class Reader:
    """Somebody who types the documents' lines into a terminal, on ports that are free.

    Attributes:
        folder: where they are typed: results of a small demo, a street and one of its frames.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {str(port): str(closed_port()) for port in (8600, 8601, 8602)}
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "GEARSHIFT_AUDIT"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'transformers'}",
            "GEARSHIFT_KEY_PASSWORD": "...",
        }
        self._platform: subprocess.Popen[bytes] | None = None

    def read(self, document: Path) -> None:
        for number, fence in enumerate(fences(document)):
            if fence.runs:
                self._run(fence, f"{document.name}, block {number}")

    def _run(self, fence: Fence, where: str) -> None:
        code = fence.code
        if fence.language == "bash" and _SERVER.match(code):
            self._serve(code)
            return
        if "127.0.0.1:860" in code or "gearshift stream" in code:
            self._serve("gearshift up --open-access")
        if fence.language == "bash":
            self._shell(code, where)
            return
        if fence.language == "javascript" and not NODE:
            return
        suffix = {"python": "py", "javascript": "mjs"}[fence.language]
        script = self.folder / f"example.{suffix}"
        script.write_text(self._elsewhere(code), "utf-8")
        self._shell(f"{PROGRAMS[fence.language]} {script.name}", where)

    def _shell(self, code: str, where: str) -> None:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._elsewhere(code)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        refused = re.search(r'^\{"detail":.*', ended.stdout, re.MULTILINE)
        assert ended.returncode == 0 and not refused, (
            f"{where}\n{code}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
        )

    def _elsewhere(self, code: str) -> str:
        """The same on free ports, with the small demo, and in an environment that is active."""
        for port, free in self._ports.items():
            code = code.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        code = re.sub(
            r"^gearshift stream (?!.*--to)([^#\n]*)",
            rf"gearshift stream --to http://127.0.0.1:{self._ports['8600']} \1",
            code,
            flags=re.MULTILINE,
        )
        code = code.replace("source .venv/bin/activate\n", "")
        return re.sub(r"^(make|gearshift) demo\b(?! drift)", f"gearshift demo {SMALL_DEMO}", code)

    def _serve(self, code: str) -> None:
        """Start a service as the block states, and wait until it answers; the platform once."""
        verb = code.split()[1]
        if verb == "dashboard":
            port = self._ports["8602"]
            with self._started(f"{code.strip().splitlines()[0].partition('#')[0]} --port {port}"):
                _await(f"http://127.0.0.1:{port}/")
            return
        if self._platform is not None:
            return
        gateway, graph = self._ports["8600"], self._ports["8601"]
        patient = "--deadline-ms 30000"  # a busy machine must not refuse what a document asks
        self._platform = self._start(
            f"{code.strip()} {patient} --port {gateway} --graph-port {graph}"
        )
        _await(f"http://127.0.0.1:{gateway}/readyz")

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "service.log").open("ab") as log:
            return subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    @contextmanager
    def _started(self, command: str) -> Iterator[None]:
        process = self._start(command)
        try:
            yield
        finally:
            _stop(process)

    def close(self) -> None:
        if self._platform is not None:
            _stop(self._platform)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, sample_ladder: Path) -> Iterator[Reader]:
    """Whoever has followed the README's first page."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "ladder", folder / "ladder")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    (folder / "clients").symlink_to(ROOT / "clients")
    reader = Reader(folder)
    try:
        reader.read(ROOT / "README.md")
        yield reader
    finally:
        reader.close()


whole = pytest.mark.skipif(
    os.environ.get(FULL) != "1",
    reason="a demo, a platform and every command of the documents: minutes, in make campaigns",
)


@whole
@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_the_readme_leads_to_a_report_and_answers(reader: Reader) -> None:
    report = json.loads((reader.folder / "runs/demo/report.json").read_text("utf-8"))
    assert report["rows"]
    answers = (reader.folder / "answers.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["frame"] for line in answers] == list(range(30))


@whole
@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS[1:] if any(fence.runs for fence in fences(path))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_blocks_of_a_document_run(reader: Reader, document: Path) -> None:
    reader.read(document)
    if any(fence.language == "javascript" for fence in fences(document)) and not NODE:
        pytest.skip("its JavaScript needs node")


def _await(url: str, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(url, timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, f"{url} does not answer"
        time.sleep(0.3)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
