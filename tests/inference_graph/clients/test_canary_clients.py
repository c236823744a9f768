"""Several gateways behind one name: each is informed of a canary."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from json_server import JsonHandler, json_server

from foundation.errors import AccessError, Unavailable
from inference_graph.clients.canaries import CanaryClients, addresses_of

HOSTS = ("127.0.0.1", "127.0.0.2")
Reports = list[tuple[str, str, Any]]


class Gateway(JsonHandler):
    reported: Reports

    def do_GET(self) -> None:
        methods = [method for _, method, _ in self.reported]
        revision = "b" * 12 if "PUT" in methods else ""
        small = {"model": "small", "stable": "a" * 12, "revision": revision}
        self.answer({"models": [{**small, "weight": methods.count("POST")}]})

    def do_PUT(self) -> None:
        self._note()
        self.answer({"stable": "a" * 12, "revision": "b" * 12})

    do_POST = do_DELETE = do_PUT

    def _note(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.reported.append((self.path, self.command, json.loads(body) if body else None))


class Closed(JsonHandler):
    def do_GET(self) -> None:
        self.answer({"detail": "no"}, 401)


@pytest.fixture
def gateways(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Reports]]]:
    """One name that stands for two servers, and what each was sent."""
    reported: list[Reports] = [[], []]
    kinds = [
        type(f"Gateway{place}", (Gateway,), {"reported": requests})
        for place, requests in enumerate(reported)
    ]
    with json_server(kinds[0], HOSTS[0]) as url:
        port = urlsplit(url).port or 0
        with json_server(kinds[1], HOSTS[1], port):
            resolve_to(HOSTS, monkeypatch)
            yield f"http://gateway-pods:{port}", reported


def resolve_to(hosts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the name server know the gateways, one address twice, as a resolver may return it."""
    before = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if host != "gateway-pods":
            return before(host, *rest, **more)
        return [found for one in (*hosts, hosts[0]) for found in before(one, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_all_are_reported(gateways: tuple[str, list[Reports]]) -> None:
    url, reported = gateways
    clients = CanaryClients(url, "token")
    assert clients.add("small", "canary:8081") == {"stable": "a" * 12, "revision": "b" * 12}
    clients.shift("small", 25, (0.5, 0.1), "salt", 60)
    clients.remove("small")
    share = {
        "weight": 25,
        "canary_looks": 0.5,
        "stable_looks": 0.1,
        "salt": "salt",
        "segment_frames": 60,
    }
    assert (
        reported[0]
        == reported[1]
        == [
            ("/v1/canaries/small", "PUT", {"target": "canary:8081"}),
            ("/v1/canaries/small/weight", "POST", share),
            ("/v1/canaries/small", "DELETE", None),
        ]
    )


def test_one_without_the_canary_gets_no_share(gateways: tuple[str, list[Reports]]) -> None:
    """It is given the canary first: what each knows does not fit the step until then."""
    url, reported = gateways
    reported[0].append(("/v1/canaries/small", "PUT", None))
    CanaryClients(url).shift("small", 25, (0.5, 0.1), "salt", 60)
    assert [method for _, method, _ in reported[0]] == ["PUT", "POST"]
    assert reported[1] == []


def test_what_each_knows_is_distinguished(gateways: tuple[str, list[Reports]]) -> None:
    """One that was started meanwhile knows of no canary."""
    url, reported = gateways
    reported[1].append(("/v1/canaries/small/weight", "POST", None))
    known = CanaryClients(url).revisions()
    assert [one["small"]["weight"] for one in known] == [0, 1]


def test_one_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with json_server(Closed) as url:
        resolve_to(HOSTS[:1], monkeypatch)
        with pytest.raises(AccessError, match="401: no"):
            CanaryClients(url.replace("127.0.0.1", "gateway-pods")).revisions()


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(HOSTS, monkeypatch)
    assert addresses_of("http://gateway-pods:8600/x") == [
        "http://127.0.0.1:8600/x",
        "http://127.0.0.2:8600/x",
    ]
    # A certificate names the host, not its addresses.
    assert addresses_of("https://gateway-pods:8600") == ["https://gateway-pods:8600"]
    with pytest.raises(Unavailable, match=r"no-such-host\.invalid is no name that resolves"):
        addresses_of("http://no-such-host.invalid")
