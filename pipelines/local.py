"""Running a pipeline on this machine, through KFP's own local runner.

KFP starts each step as a process and prints its output, between lines of its own, to standard
output. Those lines are read here: each step's output goes into a log file of its own, its progress
and its end become events, and a step that fails ends the run at once with its last words.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from kfp import local
from kfp.dsl.base_component import BaseComponent
from kfp.local.config import LocalExecutionConfig

from foundation.errors import PipelineError, StepFailed
from pipelines.reporting import read_progress

State = Literal["running", "done", "reused", "failed"]

_COLOUR = re.compile(r"\x1b\[\d+m")
_STARTED = re.compile(r"\d\d:\d\d:\d\d\.\d{3} - INFO - Executing task '(.+)'$")
_ENDED = re.compile(r"\d\d:\d\d:\d\d\.\d{3} - \w+ - Task '(.+)' finished with status (\w+)$")
_REUSED = re.compile(r"Task (.+) cache hit ")
_LAST_WORDS = re.compile(r"([A-Za-z_][\w.]*): (.+)$")
_TAIL_LINES = 20
_OWN_PACKAGES = ("components", "feature_transformer", "foundation", "inference_graph", "pipelines")
"""Their errors are written for users: one line is enough, and no traceback is shown with it."""
_KFP_INDENT = " " * 4


@dataclass(frozen=True)
class StepEvent:
    """Something that happened to a step.

    Attributes:
        step: its name as people read it.
        state: what it does now.
        seconds: since it started.
        done: units of work done; 0 where the step does not report it.
        total: units of work in all; 0 where the step does not report it.
    """

    step: str
    state: State
    seconds: float = 0.0
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class LocalRun:
    """Outputs and steps of a finished run.

    Attributes:
        outputs: the pipeline's outputs: parameters, and artifacts of KFP with a ``path``.
        steps: the last event of every step, in the order in which they began.
    """

    outputs: Mapping[str, Any]
    steps: tuple[StepEvent, ...]


def run_locally(
    pipeline: BaseComponent,
    arguments: Mapping[str, Any],
    workspace: Path,
    logs: Path,
    on_event: Callable[[StepEvent], None] = lambda event: None,
    reuse: bool = True,
) -> LocalRun:
    """Run a pipeline, step after step, each in a process of its own in this environment.

    Args:
        pipeline: the pipeline.
        arguments: its parameters.
        workspace: folder for artifacts and for KFP's cache; a later run there reuses them.
        logs: folder for one log file per step.
        on_event: called when a step starts, progresses or ends.
        reuse: whether results of an earlier run may stand in for a step.

    Raises:
        StepFailed: names the step and its error; its note holds the end of the step's log.
        PipelineError: the run ended although no step failed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    for log in logs.glob("*.log"):
        log.unlink()  # of an earlier run, which may have reached other steps
    workspace.mkdir(parents=True, exist_ok=True)
    _end(_orphans(workspace / "artifacts"))
    watcher = _Watcher(_display_names(pipeline.pipeline_spec), logs, on_event)
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(workspace / "artifacts"),
        workspace_root=str(workspace / "scratch"),
        enable_caching=reuse,
        cache_root=str(workspace / "cache"),
    )
    before = psutil.Process().children()

    def end_steps() -> None:
        _end([child for child in psutil.Process().children() if child not in before])

    try:
        with (
            _temporary_folder(),
            watcher,
            contextlib.redirect_stdout(watcher),
            _listening(watcher),
            _unwarned(),
            _on_termination(end_steps),
        ):
            task = pipeline(**arguments)
        outputs = dict(task.outputs)
    except (RuntimeError, ValueError) as error:
        raise PipelineError(
            f"the run ended early: {_one_line(error)}; the logs of its steps: {logs}"
        ) from error
    finally:
        # An interrupt reaches the running step only where it came from a terminal.
        end_steps()
        # KFP keeps the session in a global; another pipeline of this process shall not find it.
        LocalExecutionConfig.instance = None
    return LocalRun(outputs, tuple(watcher.steps.values()))


class _Watcher(io.TextIOBase):
    """Standard output as KFP's local runner writes to it, taken apart line by line."""

    def __init__(
        self, names: Mapping[str, str], logs: Path, on_event: Callable[[StepEvent], None]
    ) -> None:
        self.steps: dict[str, StepEvent] = {}
        self._names, self._logs, self._on_event = names, logs, on_event
        self._line = ""
        self._current: str | None = None
        self._started = 0.0
        self._log: io.TextIOBase | None = None
        self._failed: str | None = None

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.close()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._read(_COLOUR.sub("", line))
        return len(text)

    def reused(self, task: str) -> None:
        """Note that an earlier result stands in for a step."""
        self._emit(StepEvent(self._name(task), "reused"))

    def _read(self, line: str) -> None:
        if self._failed is not None and self._log is None:
            # KFP would go on with steps that do not need the failed one.
            raise self._failure(self._failed)
        started, ended = _STARTED.match(line), _ENDED.match(line)
        if started:
            self._current = self._name(started[1])
            self._started = time.monotonic()
            self._log = self._log_of(self._current).open("w", encoding="utf-8")
            self._emit(StepEvent(self._current, "running"))
        elif ended and self._current is not None:
            failed = ended[2] != "SUCCESS"
            self._emit(StepEvent(self._current, "failed" if failed else "done", self._seconds()))
            if self._log is not None:
                self._log.close()
                self._log = None
            self._failed = self._current if failed else None
            self._current = None
        elif self._current is not None and self._log is not None:
            line = line.removeprefix(_KFP_INDENT)
            self._log.write(line + "\n")
            self._log.flush()
            progress = read_progress(line)
            if progress:
                self._emit(StepEvent(self._current, "running", self._seconds(), *progress))

    def _emit(self, event: StepEvent) -> None:
        self.steps[event.step] = event
        self._on_event(event)

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _name(self, task: str) -> str:
        return self._names.get(task, task)

    def _log_of(self, step: str) -> Path:
        return self._logs / f"{step.replace(' ', '-')}.log"

    def _failure(self, step: str) -> StepFailed:
        log = self._log_of(step)
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        reason, expected = _reason(lines)
        error = StepFailed(f"step {step} failed: {reason}; its whole log: {log}")
        if not expected:
            error.add_note("\n".join(lines[-_TAIL_LINES:]))
        return error


def _reason(lines: list[str]) -> tuple[str, bool]:
    """The message of the exception that a log ends with, and whether it is meant for users."""
    found = _LAST_WORDS.match(lines[-1]) if lines else None
    if found is None:
        return "it ended without an error of its own (was it killed? is the memory enough?)", False
    kind, message = found[1], found[2]
    expected = kind.partition(".")[0] in _OWN_PACKAGES
    return message if expected else f"{kind}: {message}", expected


def _display_names(spec: Any) -> dict[str, str]:
    """What people call a task, by the name that KFP's runner logs."""
    graphs = [spec.root.dag, *(part.dag for part in spec.components.values())]
    names = {}
    for graph in graphs:
        for name, task in graph.tasks.items():
            shown = task.task_info.name or name
            names[name] = shown
            names[task.component_ref.name.removeprefix("comp-")] = shown
    return names


@contextlib.contextmanager
def _listening(watcher: _Watcher) -> Iterator[None]:
    """Receive what KFP logs of tasks that it does not run; it logs that, and prints the rest."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = _REUSED.match(record.getMessage())
            if found:
                watcher.reused(found[1])

    root, ear = logging.getLogger(), Ear()
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = [ear]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    with warnings.catch_warnings():
        # Resources and images mean nothing here, see pipelines.placement.
        warnings.filterwarnings("ignore", message=".*no effect in the current local runner")
        warnings.filterwarnings("ignore", message="You may be attemping to run a task")
        yield


@contextlib.contextmanager
def _on_termination(end: Callable[[], None]) -> Iterator[None]:
    """Call ``end`` before this process gives way to SIGTERM; its steps would outlive it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set a handler
        return

    def give_way(number: int, _: object) -> None:
        # First the steps: KFP waits for its process before it lets an exception pass.
        end()
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, give_way)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[None]:
    """Give the steps a folder for temporary files; KFP removes none of the folders it makes."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="gearshift-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def _orphans(artifacts: Path) -> list[psutil.Process]:
    """Steps here whose run was killed, and which would go on for nothing."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            alone = parent is None or parent.pid == 1 or parent.name() == "systemd"
            words = process.cmdline() if alone else []
            mine = any(f'"{artifacts}/' in word for word in words)
            if mine and (artifacts.is_absolute() or process.cwd() == str(Path.cwd())):
                found.append(process)
    return found


def _end(processes: list[psutil.Process]) -> None:
    """End processes and all that they started."""
    family = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(family, timeout=5)


def _one_line(error: BaseException) -> str:
    return " ".join(_COLOUR.sub("", str(error)).split())
