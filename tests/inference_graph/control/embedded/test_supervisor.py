from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from processes import closed_port, until

from foundation.errors import Unavailable
from inference_graph.control.embedded.guard import Guard
from inference_graph.control.embedded.supervisor import DOWN, READY, STOPPED, Service, Supervisor

SERVER = textwrap.dedent(
    """
    import sys, http.server
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers()
        def log_message(self, *_): pass
    print("listening", flush=True)
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """
)


def web(name: str, port: int) -> Service:
    return Service(name, (sys.executable, "-c", SERVER, str(port)), f"http://127.0.0.1:{port}/")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_services_start_answer_and_end(tmp_path: Path) -> None:
    services = [web("one", closed_port()), web("two", closed_port())]
    with Supervisor(services, tmp_path) as supervisor:
        supervisor.start()
        supervisor.wait_ready(60)
        states = supervisor.poll()
        assert [(state.name, state.state, state.restarts) for state in states] == [
            ("one", READY, 0),
            ("two", READY, 0),
        ]
        pids = [state.pid or 0 for state in states]
        assert (tmp_path / "one.log").read_text() == "listening\n"
    assert all(gone(pid) for pid in pids)
    assert [state.state for state in supervisor.poll()] == [STOPPED, STOPPED]


def test_one_that_falls_is_started_again(tmp_path: Path) -> None:
    with Supervisor([web("one", closed_port())], tmp_path) as supervisor:
        supervisor.start()
        supervisor.wait_ready(60)
        first = supervisor.poll()[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: supervisor.poll(restart=False)[0].state == DOWN)
        until(lambda: supervisor.poll()[0].state == READY)
        again = supervisor.poll()[0]
        assert again.restarts == 1 and again.pid != first


def test_one_that_ends_while_starting_is_reported_with_its_last_words(tmp_path: Path) -> None:
    broken = Service(
        "broken", (sys.executable, "-c", "import sys; sys.exit('no weights here')"), "http://x/"
    )
    with (
        Supervisor([broken], tmp_path) as supervisor,
        pytest.raises(
            Unavailable, match=r"broken ended while starting: no weights here; see .*log"
        ),
    ):
        supervisor.start()
        supervisor.wait_ready(60)


def test_one_that_never_gets_ready_is_named(tmp_path: Path) -> None:
    idle = Service(
        "idle",
        (sys.executable, "-c", "import time; time.sleep(60)"),
        f"http://127.0.0.1:{closed_port()}/",
    )
    with (
        Supervisor([idle], tmp_path) as supervisor,
        pytest.raises(Unavailable, match="not ready after 1 s: idle"),
    ):
        supervisor.start()
        supervisor.wait_ready(1)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        Supervisor([Service("gone", ("/no/such/program",), "")], tmp_path) as supervisor,
        pytest.raises(Unavailable, match="cannot start gone .* No such file"),
    ):
        supervisor.start()


def test_one_that_will_not_end_is_ended(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('up', flush=True); time.sleep(60)"
    )
    supervisor = Supervisor(
        [Service("deaf", (sys.executable, "-c", deaf), "")], tmp_path, grace_seconds=0.5
    )
    supervisor.start()
    until(lambda: (tmp_path / "deaf.log").read_text() == "up\n")
    pid = supervisor.poll()[0].pid
    assert pid is not None
    supervisor.stop()
    assert gone(pid)


ENDS = "print('up', flush=True)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {ENDS}"


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """Not the services, deaf ones included, not their children, not the guard."""
    program = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from inference_graph.control.embedded.supervisor import Service, Supervisor
        sleeps = "; import subprocess, sys, time; "
        child = "import time; time.sleep(600)"
        sleeps += f"print(subprocess.Popen([sys.executable, '-c', {{child!r}}]).pid, flush=True); "
        sleeps += child
        services = [
            Service("ends", (sys.executable, "-c", {ENDS!r} + sleeps), ""),
            Service("deaf", (sys.executable, "-c", {DEAF!r} + sleeps), ""),
        ]
        supervisor = Supervisor(services, Path({str(tmp_path)!r}), grace_seconds=1)
        supervisor.start()
        pids = [state.pid for state in supervisor.poll(restart=False)]
        print(*pids, supervisor._guard._process.pid, flush=True)
        time.sleep(600)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    logs = [tmp_path / f"{name}.log" for name in ("ends", "deaf")]
    until(lambda: all(len(log.read_text().split()) == 2 for log in logs))
    pids += [int(log.read_text().split()[1]) for log in logs]
    assert len(pids) == 5 and not any(over(pid) for pid in pids)
    parent.kill()
    parent.wait()
    until(lambda: all(over(pid) for pid in pids))


@pytest.mark.parametrize("first", ["guard", "supervisor"])
def test_nothing_outlives_both_that_are_killed(tmp_path: Path, first: str) -> None:
    """Without a guard the kernel ends the services; a restarted one, on whichever thread, too."""
    program = textwrap.dedent(
        f"""
        import os, sys, threading, time
        from pathlib import Path
        from inference_graph.control.embedded.supervisor import Service, Supervisor
        sleeps = (sys.executable, "-c", "import time; time.sleep(600)")
        supervisor = Supervisor([Service("one", sleeps, "")], Path({str(tmp_path)!r}))
        supervisor.start()
        thread = threading.Thread(target=supervisor.add, args=([Service("two", sleeps, "")],))
        thread.start()
        thread.join()
        pids = [state.pid for state in supervisor.poll(restart=False)]
        print(supervisor._guard._process.pid, os.getpid(), *pids, flush=True)
        time.sleep(600)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    guard, supervisor, *services = [int(pid) for pid in parent.stdout.readline().split()]
    until(lambda: all(program_of(pid) == "-c" for pid in services))
    assert len(services) == 2 and not any(over(pid) for pid in services)
    for pid in (guard, supervisor) if first == "guard" else (supervisor, guard):
        os.kill(pid, signal.SIGKILL)
    parent.wait()
    until(lambda: all(over(pid) for pid in services))


def program_of(pid: int) -> str:
    """The second word of a process's command line; empty while it is not there yet."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return words[1] if len(words) > 1 else ""


def test_a_guard_that_is_killed_is_replaced(tmp_path: Path) -> None:
    sleeps = Service("one", (sys.executable, "-c", "import time; time.sleep(600)"), "")
    with Supervisor([sleeps], tmp_path, grace_seconds=1) as supervisor:
        supervisor.start()
        first = supervisor._guard
        assert first is not None
        first._process.kill()
        first._process.wait()
        pid = supervisor.poll(restart=False)[0].pid
        second = supervisor._guard
        assert second is not None and second.alive
        # The new one's parent signal: it ends the service when its pipe does.
        supervisor._guard = None
        second.close()
        until(lambda: over(pid or 0))


def over(pid: int) -> bool:
    """Gone, or dead and waiting for a parent that will not look."""
    status = Path(f"/proc/{pid}/status")
    try:
        return gone(pid) or (status.exists() and "Z (zombie)" in status.read_text())
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_guard_leaves_alone_what_has_ended(tmp_path: Path) -> None:
    """Its number may be another's by now."""
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    watched = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        guard = Guard(0.5)
        for process in (bystander, watched):
            guard.watch(process.pid)
        guard.forget(bystander.pid)
        guard.close()
        assert watched.wait(30) == -signal.SIGTERM
        assert bystander.poll() is None
    finally:
        for process in (bystander, watched):
            process.kill()
            process.wait()
