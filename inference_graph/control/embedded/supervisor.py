"""Processes that belong together: started, watched, started again when they fall, stopped cleanly.

A service that ends by itself is started again after a pause that doubles, up to half a minute; one
that stays up for a minute has its pause forgotten. Nothing outlives the supervisor: services are
sent SIGTERM first and SIGKILL a grace period later. Where the supervisor itself is killed, a guard
(:mod:`inference_graph.control.embedded.guard`) does both. A guard that is killed is replaced, and
where both are killed, the kernel ends the services
(:mod:`inference_graph.control.embedded.leash`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from foundation.errors import Unavailable
from foundation.service_client import probe
from inference_graph.control.embedded.guard import Guard
from inference_graph.control.embedded.leash import leashed

STARTING, READY, DOWN, STOPPED = "starting", "ready", "down", "stopped"


@dataclass(frozen=True)
class Service:
    """One process.

    Attributes:
        name: unique among the services.
        command: program and arguments.
        ready_url: answers 200 to a GET as soon as the service takes requests.
        address: what its users connect to, for people.
        environment: variables beside those that the supervisor has.
    """

    name: str
    command: tuple[str, ...]
    ready_url: str
    address: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceState:
    """What a service is doing.

    Attributes:
        name: which one.
        state: ``starting``, ``ready``, ``down`` (fell, or does not answer) or ``stopped``.
        pid: process id; None where there is none.
        restarts: times it was started again.
        seconds: since its last start.
        address: what its users connect to.
        log: file with its output.
    """

    name: str
    state: str
    pid: int | None
    restarts: int
    seconds: float
    address: str
    log: Path


def ready_of(states: Sequence[ServiceState]) -> int:
    """How many of the services take requests."""
    return sum(one.state == READY for one in states)


@dataclass
class _Running:
    service: Service
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    ready: bool = False
    restarts: int = 0
    pause: float = 1.0
    again_at: float = 0.0


class Supervisor:
    """Keeps a set of services running; use as a context manager.

    Args:
        services: what to run, in the order in which they are started.
        logs: folder for ``<name>.log``, their standard output and error.
        grace_seconds: how long a service may take to end before it is ended.
    """

    def __init__(self, services: Iterable[Service], logs: Path, grace_seconds: float = 10) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._running = [_Running(service, logs / f"{service.name}.log") for service in services]
        self._grace = grace_seconds
        self._guard: Guard | None = None
        # One thread starts them all, for they get SIGTERM when the thread that started them ends.
        self._starter = ThreadPoolExecutor(1, "supervisor")

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every service.

        Raises:
            Unavailable: a program cannot be started.
        """
        if self._guard is None:
            self._start_guard()
        for one in self._running:
            self._start(one)

    def _start_guard(self) -> None:
        try:
            self._guard = Guard(self._grace)
        except OSError as error:
            raise Unavailable(f"cannot start the services' guard: {error.strerror}") from error
        for one in self._running:
            if one.process is not None and _alive(one):
                self._guard.watch(one.process.pid)

    def wait_ready(
        self, seconds: float, on_change: Callable[[list[ServiceState]], None] = lambda states: None
    ) -> None:
        """Return when every service takes requests.

        Args:
            seconds: how long that may take in all.
            on_change: called with all states whenever it was looked.

        Raises:
            Unavailable: a service ended while starting, or took too long; with its last line.
        """
        until = time.monotonic() + seconds
        while True:
            states = self.poll(restart=False)
            on_change(states)
            for one, state in zip(self._running, states, strict=True):
                if state.pid is None:
                    raise Unavailable(
                        f"{one.service.name} ended while starting: {last_words(one.log)}; "
                        f"see {one.log}"
                    )
            if all(state.state == READY for state in states):
                return
            if time.monotonic() > until:
                late = ", ".join(state.name for state in states if state.state != READY)
                raise Unavailable(
                    f"not ready after {seconds:.0f} s: {late}; see the logs in "
                    f"{self._running[0].log.parent}"
                )
            time.sleep(0.2)

    def poll(self, restart: bool = True) -> list[ServiceState]:
        """Check every service, and return their states.

        Args:
            restart: whether a service that fell is started again.
        """
        if self._guard is not None and not self._guard.alive:
            self._guard.close()
            self._start_guard()
        return [self._look(one, restart) for one in self._running]

    def add(self, services: Iterable[Service]) -> None:
        """Start more services; they are watched like the others from then on.

        Raises:
            Unavailable: a program cannot be started.
        """
        more = [_Running(one, self._logs / f"{one.name}.log") for one in services]
        for one in more:
            self._start(one)
        self._running = [*self._running, *more]  # as a whole, for another thread may look

    def remove(self, names: Collection[str]) -> None:
        """Stop services: they get SIGTERM, answer what they have, and are waited for."""
        gone = [one for one in self._running if one.service.name in names]
        self._running = [one for one in self._running if one.service.name not in names]
        self._end(gone)

    def service(self, name: str) -> Service | None:
        """How one service is started; None where there is none."""
        return next((one.service for one in self._running if one.service.name == name), None)

    def amend(self, name: str, change: Callable[[Service], Service]) -> None:
        """Change how a service is started, should it have to be started again."""
        for one in self._running:
            if one.service.name == name:
                one.service = change(one.service)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a service; one that does not run gets none."""
        for one in self._running:
            if one.service.name == name and one.process is not None and _alive(one):
                one.process.send_signal(number)

    def state_of(self, name: str) -> ServiceState | None:
        """How one service is, without starting it again; None where there is none."""
        found = (one for one in self._running if one.service.name == name)
        return next((self._look(one, restart=False) for one in found), None)

    def stop(self) -> None:
        """Stop all services, in the reverse order of their start, and wait for them."""
        self._end(self._running)
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def _end(self, services: Sequence[_Running]) -> None:
        alive = [one for one in reversed(services) if _alive(one)]
        for one in alive:
            if one.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    one.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + self._grace
        for one in alive:
            if one.process is None:
                continue
            try:
                one.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        for one in services:
            self._forget(one)
            one.process, one.ready = None, False

    def _start(self, one: _Running) -> None:
        program = one.service.command[0]
        if shutil.which(program) is None:
            reason = os.strerror(errno.ENOENT)
            raise Unavailable(f"cannot start {one.service.name} ({program}): {reason}")
        log = one.log.open("ab")
        try:
            one.process = self._starter.submit(
                subprocess.Popen,
                leashed(one.service.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **one.service.environment},
                # Ctrl-C in a terminal is the supervisor's; it then stops the others in order.
                start_new_session=True,
            ).result()
        except OSError as error:
            raise Unavailable(
                f"cannot start {one.service.name} ({program}): {error.strerror}"
            ) from error
        finally:
            log.close()
        if self._guard is not None:
            self._guard.watch(one.process.pid)
        one.started, one.ready = time.monotonic(), False

    def _forget(self, one: _Running) -> None:
        if self._guard is not None and one.process is not None:
            self._guard.forget(one.process.pid)

    def _look(self, one: _Running, restart: bool) -> ServiceState:
        now = time.monotonic()
        state = STOPPED
        if one.process is not None:
            if _alive(one):
                answers = _answers(one.service.ready_url)
                one.ready = one.ready or answers
                state = READY if answers else DOWN if one.ready else STARTING
                if one.ready and now - one.started > 60:
                    one.pause = 1.0
            else:
                state = DOWN
                if one.again_at < one.started:
                    self._forget(one)
                    one.again_at = now + one.pause
                    one.pause = min(30.0, 2 * one.pause)
                if restart and now >= one.again_at:
                    one.restarts += 1
                    self._start(one)
                    state = STARTING
        pid = one.process.pid if one.process is not None and _alive(one) else None
        return ServiceState(
            one.service.name,
            state,
            pid,
            one.restarts,
            now - one.started,
            one.service.address,
            one.log,
        )


def _alive(one: _Running) -> bool:
    return one.process is not None and one.process.poll() is None


def _answers(url: str) -> bool:
    answer = probe(url)
    return answer is not None and answer.status_code == 200


def last_words(log: Path) -> str:
    """The last line that a service printed."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4000))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "it printed nothing"
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1][:300] if printed else "it printed nothing"
