"""Our rollout controller as a process, with the rights of its own account."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from control_plane import Document, wait
from pods import Pods
from typer.testing import CliRunner

import gearshift
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

ROOT = Path(__file__).resolve().parents[2]
_PLAN = (
    "--steps=25,50,100",
    "--min-seconds=0",
    "--settle-seconds=0",
    "--every-seconds=0.3",
)


class Rollout:
    """A rollout in a folder, and the process that controls it."""

    def __init__(
        self,
        folder: Path,
        account: Path,
        model: str,
        uri: str,
        sha256: str,
        options: Sequence[str] = (),
        token: str = "",
    ) -> None:
        self.model, self.uri, self.sha256 = model, uri, sha256
        self._options = options
        self._environment = {**os.environ, "GEARSHIFT_TOKEN": token}
        self._folder, self._account = folder, account
        self._log = folder / "log"
        with PredictionLog(LogConfig(str(self._log))) as log:
            log.append(
                PredictionRow(
                    event_id="e",
                    time=datetime.now(UTC),
                    source="stream",
                    session="s",
                    frame_id=0,
                    rung="small",
                    answered_by="small",
                    revision="0" * 12,
                    policy_revision="0" * 12,
                )
            )
        self.ask("start", model, uri, "--sha256", sha256, *_PLAN)
        self.running: subprocess.Popen[bytes] | None = None
        self.control()

    def ask(self, *words: str) -> str:
        """What a command of ``gearshift rollout`` prints."""
        command = ["rollout", *words, "--folder", str(self._folder)]
        result = CliRunner().invoke(gearshift.app, command)
        assert result.exit_code == 0, (words, result.output, result.exception)
        return result.stdout

    @property
    def state(self) -> Document:
        return dict(json.loads(self.ask("status", "--json"))["rollout"])

    def control(self) -> None:
        """Run the controller, in the place of one that was killed."""
        self.kill()
        command = [
            sys.executable,
            "-c",
            "import gearshift; gearshift.main()",
            "rollout",
            "run",
            "--folder",
            str(self._folder),
            "--log",
            str(self._log),
            "--kubeconfig",
            str(self._account),
            *self._options,
        ]
        with (self._folder / "controller.log").open("ab") as log:
            self.running = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env=self._environment
            )

    def kill(self) -> None:
        """End the controller as a power cut does."""
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()

    def reaches(self, what: str, done: Callable[[Document], bool]) -> None:
        """Wait for a state."""

        def check() -> bool:
            state = self.state
            if done(state):
                return True
            message = f"{state['phase']}: {state['sentence']}"
            assert state["phase"] not in ("promoted", "rolled back"), f"{what}: {message}"
            return False

        try:
            wait(what, check, 180)
        except AssertionError as error:
            reported = (self._folder / "controller.log").read_text()[-2000:]
            raise AssertionError(f"{error}; {self.state}; {reported}") from None

    def waits_in(self, phase: str) -> None:
        """Wait until the controller waits for pods, in a phase."""
        self.reaches(
            f"waiting in {phase}", lambda state: state["phase"] == phase and bool(state["waiting"])
        )

    def killed_while(self, pods: Pods, phase: str, *order: str) -> None:
        """Have no pod become ready, see the controller wait for it, kill it, and run another."""
        pods.holds = lambda pod: True
        if order:
            self.ask(*order)
        self.waits_in(phase)
        self.kill()
        pods.holds = lambda pod: False
        self.control()
