"""Rollouts: start one, follow it, and run the controller beside a platform or for a cluster.

::

    gearshift rollout start ──> state.json ──> controller ──> traffic: processes, or a cluster
                                   ^               │
    promote, abort ──> orders.jsonl┘               └── reads the prediction log

One machine: `gearshift up` runs the controller on a thread. A cluster: `gearshift rollout run`
does, anywhere that reaches the Kubernetes API and the log. The code that decides, in
``inference_graph.control.rollout``, is the same for both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from foundation.audit_log import AuditLog
from foundation.errors import GateRefused, GearshiftError
from inference_graph.control.rollout.controller import Controller
from inference_graph.control.rollout.state import RolloutState, controlling, read_state
from inference_graph.control.rollout.traffic import TrafficControl

FOLDER = "rollout"
"""Below the state folder of `gearshift up`."""
_IDLE_SECONDS = 1.0
_WAIT_SECONDS = 2.0
"""Pause between two checks of a change that the cluster carries out."""
_LAST_SECONDS = 10.0
Report = Callable[[str], None]


class RolloutWatch:
    """Runs the controller of a folder on a thread, until the block ends."""

    def __init__(
        self,
        folder: Path,
        log_url: str,
        traffic: TrafficControl,
        report: Report,
        audit: AuditLog | None = None,
    ) -> None:
        """A watch that :meth:`start` starts.

        Args:
            folder: of the rollouts.
            log_url: the prediction log.
            traffic: what moves it.
            report: called with each event, as text, from another thread.
            audit: where it is recorded; the environment's audit log without it.
        """
        self._folder, self._report = folder, report
        self._controller = Controller(folder, log_url, traffic, report, audit)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)

    def __enter__(self) -> RolloutWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_SECONDS)

    def start(self) -> None:
        """Start; call it when the platform is up."""
        self._thread.start()

    def _run(self) -> None:
        with controlling(self._folder) as alone:
            if not alone:
                self._report(f"warning: another controller works on the rollouts in {self._folder}")
                return
            follow(self._controller, self._report, self._ending)


def follow(
    controller: Controller, report: Report, ending: threading.Event, until_end: bool = False
) -> RolloutState | None:
    """Run a controller's ticks.

    Args:
        controller: of the folder.
        report: called with each new failure, as text.
        ending: set it to stop.
        until_end: whether to stop when the rollout ends.

    Returns:
        The last state seen.
    """
    failure = ""
    state: RolloutState | None = None
    while not ending.is_set():
        pause = _IDLE_SECONDS
        try:
            found = controller.tick()
            failure = ""
            if found is not None:
                state = found
                pause = min(found.plan.every_seconds, _WAIT_SECONDS if found.waiting else 3600.0)
            if until_end and (found is None or found.ended):
                return state
        except GearshiftError as error:
            if str(error) != failure:
                report(f"warning: the rollout waits: {error}")
            failure = str(error)
        ending.wait(pause)
    return state


def run_controller(
    folder: Path, log_url: str, traffic: TrafficControl, report: Report, stay: bool = False
) -> RolloutState | None:
    """Control the rollout of a folder until it ends; None where none is under way.

    Args:
        folder: of the rollouts.
        log_url: the prediction log.
        traffic: what moves it.
        report: called with each event, as text.
        stay: go on, and wait for the next one, until the process is stopped.

    Raises:
        GateRefused: another controller does.
    """
    with controlling(folder) as alone:
        if not alone:
            raise GateRefused(f"another controller works on the rollout in {folder}")
        controller = Controller(folder, log_url, traffic, report)
        return follow(controller, report, threading.Event(), until_end=not stay)


def followed(folder: Path, rollout: str, report: Report) -> RolloutState:
    """Report the changes of a rollout that another process controls, until it ends.

    Raises:
        GateRefused: another rollout took its place.
    """
    shown = ""
    while True:
        state = read_state(folder)
        if state is None or state.rollout != rollout:
            raise GateRefused(f"rollout {rollout} is no longer the one in {folder}")
        if (line := f"{state.phase} {state.weight} %: {state.sentence}") != shown:
            report(line)
            shown = line
        if state.ended:
            return state
        time.sleep(_IDLE_SECONDS)
