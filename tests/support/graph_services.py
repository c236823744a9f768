"""Tiny real HTTP services with scripted answers, and a server of an ASGI app, for the graph."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from foundation.http_client import HttpClient
from inference_graph.graph import GraphAnswer, GraphExecutor, load_graph


@dataclass(frozen=True)
class Reply:
    """What a step answers; ``body`` is JSON unless it is bytes.

    ``after`` names a step that must have been asked before: a failure that decides at once would
    cancel its request on the way.
    """

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    wait: Callable[[], object] | None = None
    after: str = ""


@dataclass(frozen=True)
class Call:
    step: str
    body: bytes
    headers: list[tuple[str, str]]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Reply | Callable[[Any], Reply]


class Steps:
    """One server, a step for each first part of the path; keeps what it was asked."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.scripts = dict(scripts)
        self.calls: list[Call] = []
        self.called = threading.Condition()
        steps = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                steps.answer(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def url(self, step: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{step}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        step = handler.path.lstrip("/").split("/")[0]
        with self.called:
            self.calls.append(Call(step, body, list(handler.headers.items())))
            self.called.notify_all()
        script = self.scripts[step]
        reply = script if isinstance(script, Reply) else script(json.loads(body))
        if reply.wait is not None:
            reply.wait()
        if reply.after:
            with self.called:
                self.called.wait_for(lambda: reply.after in [one.step for one in self.calls], 20)
        if reply.hang_up:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        if handler.close_connection:  # else the client sends its next request into the close
            handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def serving_steps(scripts: Mapping[str, Script]) -> Iterator[Steps]:
    steps = Steps(scripts)
    try:
        yield steps
    finally:
        steps.close()


def graph(nodes: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """The document of a graph; a node is written as ``{"Sequence": [step, …]}``."""
    written = {
        name: {"routerType": router, "steps": steps}
        for name, node in nodes.items()
        for router, steps in node.items()
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": {"name": "tried"},
        "spec": {"nodes": written, **spec},
    }


def run_graph(
    document: Mapping[str, Any],
    resolve: Callable[[str], str],
    *bodies: bytes,
    headers: Any = (),
    **options: Any,
) -> list[GraphAnswer]:
    """Answers to some requests, one after the other on one executor."""

    async def ask() -> list[GraphAnswer]:
        async with HttpClient(3.0) as client:
            executor = GraphExecutor(load_graph(document), resolve, client, **options)
            return [await executor.run(body, headers) for body in bodies]

    return asyncio.run(ask())


@contextmanager
def serving_app(make: Callable[[HttpClient], ASGIApp]) -> Iterator[str]:
    """A real server of an app, in a thread; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    running: list[uvicorn.Server] = []

    async def serve() -> None:
        async with HttpClient(3.0) as client:
            server = uvicorn.Server(
                uvicorn.Config(make(client), log_config=None, access_log=False, lifespan="off")
            )
            running.append(server)
            task = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started and not task.done():
                await asyncio.sleep(0.005)
            ready.set()
            await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        running[0].should_exit = True
        thread.join(30)
        listener.close()
