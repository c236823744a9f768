"""Rollouts: start one, follow it, and run the controller beside a platform or for a cluster.

::

    gearshift rollout start ──> state.json ──> controller ──> traffic: processes, or a cluster
                                   ^               │
    promote, abort ──> orders.jsonl┘               └── reads the prediction log

One machine: `gearshift up` runs the controller on a thread. A cluster: `gearshift rollout run`
does, anywhere that reaches the Kubernetes API and the log. The rooms below are in
``inference_graph.control.rollout``; the code that decides is the same for both.
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
from inference_graph.control.rollout.traffic import Traffic

FOLDER = "rollout"
"""Below the state folder of `gearshift up`."""
_IDLE_SECONDS = 1.0
_WAIT_SECONDS = 2.0
"""Pause between two looks at what a cluster does with what was asked of it."""
_LAST_SECONDS = 10.0
Tell = Callable[[str], None]


class RolloutWatch:
    """Runs the controller of a folder on a thread, until the block ends."""

    def __init__(
        self,
        folder: Path,
        log_url: str,
        traffic: Traffic,
        tell: Tell,
        audit: AuditLog | None = None,
    ) -> None:
        """Prepare; nothing happens before :meth:`start`.

        Args:
            folder: of the rollouts.
            log_url: the prediction log.
            traffic: what moves it.
            tell: takes what happens as text; called from another thread.
            audit: where it is recorded; the environment's audit log without it.
        """
        self._folder, self._tell = folder, tell
        self._controller = Controller(folder, log_url, traffic, tell, audit)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)

    def __enter__(self) -> RolloutWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_SECONDS)

    def start(self) -> None:
        """Begin to look; call it when the platform is up."""
        self._thread.start()

    def _run(self) -> None:
        with controlling(self._folder) as alone:
            if not alone:
                self._tell(f"warning: another controller works on the rollouts in {self._folder}")
                return
            follow(self._controller, self._tell, self._ending)


def follow(
    controller: Controller, tell: Tell, ending: threading.Event, until_end: bool = False
) -> RolloutState | None:
    """Have a controller act again and again.

    Args:
        controller: of the folder.
        tell: takes failures as text; each once.
        ending: set it to come to an end.
        until_end: whether the end of the rollout is the end.

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
                tell(f"warning: the rollout waits: {error}")
            failure = str(error)
        ending.wait(pause)
    return state


def run_controller(
    folder: Path, log_url: str, traffic: Traffic, tell: Tell, stay: bool = False
) -> RolloutState | None:
    """Control the rollout of a folder until it ends; None where none is under way.

    Args:
        folder: of the rollouts.
        log_url: the prediction log.
        traffic: what moves it.
        tell: takes what happens as text.
        stay: go on, and wait for the next one, until the process is told to end.

    Raises:
        GateRefused: another controller does.
    """
    with controlling(folder) as alone:
        if not alone:
            raise GateRefused(f"another controller works on the rollout in {folder}")
        controller = Controller(folder, log_url, traffic, tell)
        return follow(controller, tell, threading.Event(), until_end=not stay)


def followed(folder: Path, rollout: str, tell: Tell) -> RolloutState:
    """Watch a rollout that another process controls until it ends; tells each change.

    Raises:
        GateRefused: another rollout took its place.
    """
    told = ""
    while True:
        state = read_state(folder)
        if state is None or state.rollout != rollout:
            raise GateRefused(f"rollout {rollout} is no longer the one in {folder}")
        if (line := f"{state.phase} {state.weight} %: {state.sentence}") != told:
            tell(line)
            told = line
        if state.ended:
            return state
        time.sleep(_IDLE_SECONDS)
