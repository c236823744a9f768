"""Frames sent all the time, to the graph and to the gateway, and what became of each."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from frames import frame, paced

from inference_graph.gateway.access import new_token

EACH_SECOND = 24.0
TOKEN = new_token()
"""The gateway's one client."""
_CLIENTS = 16
_PATIENCE_MS = 10_000
"""The longest that a gateway takes: a slow machine is not what is looked for."""
_SHOWN = 200
"""Characters of an error."""


@dataclass
class Load:
    """What was answered.

    Attributes:
        answers: how many requests had which end: ``graph 200``, ``gateway ReadTimeout``,
            ``graph 500 connection refused`` …
        times: of those that were not answered with 200: first and last, in seconds.
    """

    answers: Counter[str] = field(default_factory=Counter)
    times: dict[str, tuple[float, float]] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    @property
    def sent(self) -> int:
        """Requests."""
        return self.answers.total()

    @property
    def lost(self) -> dict[str, int]:
        """Those that were not answered with 200."""
        return {name: n for name, n in self.answers.items() if not name.endswith(" 200")}

    def count(self, end: str) -> None:
        """Count a request that ended now."""
        self.answers[end] += 1
        if not end.endswith(" 200"):
            now = round(time.monotonic() - self.begun, 1)
            self.times[end] = (self.times.get(end, (now, now))[0], now)


@contextmanager
def under_load(graph: str, gateway: str) -> Iterator[Load]:
    """Send frames while the block runs; half of them over connections that are kept alive."""
    load, end, lock = Load(), threading.Event(), threading.Lock()
    picture = frame()
    body = {"instances": [{"image": {"b64": base64.b64encode(picture).decode()}}]}
    bearer = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"}
    limits = httpx.Limits(max_connections=_CLIENTS, max_keepalive_connections=_CLIENTS)
    with httpx.Client(timeout=60, limits=limits) as client:

        def send(number: int) -> None:
            where, alive = ("graph", "gateway")[number % 2], number % 4 < 2
            close = {} if alive else {"Connection": "close"}
            try:
                if where == "graph":
                    answer = client.post(graph, json=body, headers=close)
                else:
                    url = f"{gateway}/v1/detect?deadline_ms={_PATIENCE_MS}"
                    answer = client.post(url, content=picture, headers=bearer | close)
                ended = str(answer.status_code)
                if ended != "200":
                    ended += f" {answer.text[:_SHOWN]}"
            except httpx.TransportError as error:
                ended = type(error).__name__
            with lock:
                load.count(f"{where} {ended}")

        def run() -> None:
            with ThreadPoolExecutor(_CLIENTS) as pool:
                for number in paced(EACH_SECOND, 86_400):
                    if end.is_set():
                        return
                    pool.submit(send, number)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield load
        finally:
            end.set()
            thread.join(120)
