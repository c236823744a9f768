from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from processes import closed_port, until

from feature_transformer.errors import Unavailable
from inference_graph.embedded.supervisor import DOWN, READY, STOPPED, Service, Supervisor

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


def test_one_that_ends_while_starting_is_told_with_its_last_words(tmp_path: Path) -> None:
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


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux'")
def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from inference_graph.embedded.supervisor import Service, Supervisor
        idle = Service("idle", (sys.executable, "-c", "import time; time.sleep(60)"), "")
        supervisor = Supervisor([idle], Path({str(tmp_path)!r}))
        supervisor.start()
        print(supervisor.poll(restart=False)[0].pid, flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until(lambda: gone(child) or Path(f"/proc/{child}/status").read_text().find("Z (zombie)") > 0)
