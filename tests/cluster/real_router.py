"""A pytest plugin that puts KServe's graph router in the place of our runner.

The tests of our runner's rules then ask the real one. It listens on a fixed port, so this runs in a
network namespace of its own: see ``test_graph_router``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from tools import program

_URL = "http://127.0.0.1:8080/"
_TESTS = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    sys.path.insert(0, str(next(_TESTS.rglob("graph_services.py")).parent))
    import graph_services

    graph_services.run_graph = run_graph


def run_graph(
    document: Mapping[str, Any],
    resolve: Callable[[str], str],
    *bodies: bytes,
    headers: Any = (),
    header_patterns: tuple[str, ...] = (),
) -> list[Any]:
    """As ``graph_services.run_graph``; the names of services are resolved as KServe's controller
    does it, which writes the addresses into the graph that the router gets."""
    from inference_graph.graph import GraphAnswer

    spec = deepcopy(document["spec"])
    for node in spec["nodes"].values():
        for step in node["steps"]:
            if "serviceName" in step:
                step["serviceUrl"] = resolve(step["serviceName"])
    variables = {"PROPAGATE_HEADERS": ",".join(header_patterns)} if header_patterns else {}
    running = subprocess.Popen(
        [program("router"), "--graph-json", json.dumps(spec)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **variables},
    )
    try:
        _await(running)
        return [GraphAnswer(*_ask(body, headers)) for body in bodies]
    finally:
        running.kill()
        running.wait()


def _await(running: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"{_URL}readyz", timeout=1)
            return
        except OSError as error:
            assert running.poll() is None and time.monotonic() < end, error
            time.sleep(0.01)


def _ask(body: bytes, headers: Any) -> tuple[int, bytes, dict[str, str]]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
    with contextlib.closing(connection):
        kept = [(key, value) for key, value in headers if key.lower() not in ("content-length",)]
        connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
        names = {key.lower() for key, _ in kept}
        for key, value in [*([] if "host" in names else [("Host", "graph")]), *kept]:
            connection.putheader(key, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        reported = answer.read()
        kind = answer.headers.get("Content-Type")
        return answer.status, reported, {"Content-Type": kind} if kind and reported else {}
