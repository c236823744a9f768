"""A request that no page makes is refused in one line, and never a failure of the server."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from campaign import runs

from dashboards.app import build_app
from dashboards.config import DashboardConfig

_JUNK: tuple[Any, ...] = (
    None,
    True,
    1,
    1e308,
    "x",
    "\x00",
    [],
    {},
    [[]],
    [1],
    {"a": 1},
    {"id": "x", "property": "y"},
)
_HOST = {"Host": "127.0.0.1:8050"}


@pytest.mark.campaign
def test_malformed_requests_are_refused(tmp_path: Path) -> None:
    client = build_app(DashboardConfig(log=str(tmp_path / "log"))).server.test_client()
    callbacks = client.get("/_dash-dependencies", headers=_HOST).json
    rng = random.Random(21)
    bodies: list[str | bytes] = [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 5000]
    for _ in range(runs(200, 2000)):
        one = rng.choice(callbacks)
        where, _, name = one["output"].rpartition(".")
        body = {
            "output": one["output"],
            "outputs": {"id": where, "property": name},
            "inputs": [{**each, "value": rng.choice(_JUNK)} for each in one["inputs"]],
            "state": [{**each, "value": rng.choice(_JUNK)} for each in one["state"]],
            "changedPropIds": [],
        }
        if rng.random() < 0.6:
            body[rng.choice(list(body))] = rng.choice(_JUNK)
        bodies.append(json.dumps(body))
    refused = 0
    for content in bodies:
        answer = client.post(
            "/_dash-update-component", data=content, headers=_HOST, content_type="application/json"
        )
        assert answer.status_code < 500, content[:300]
        if answer.status_code == 400:
            refused += 1
            assert answer.text.count("\n") <= 1 or answer.text.startswith("<!doctype"), answer.text
    assert refused > 20
    for path in ("/_dash-component-suites/x/y.js", "/_dash-component-suites/dash/..%2fx"):
        assert client.get(path, headers=_HOST).status_code in (400, 404)


def test_a_page_is_served_all_the_same(tmp_path: Path) -> None:
    client = build_app(DashboardConfig(log=str(tmp_path / "log"))).server.test_client()
    assert client.get("/", headers=_HOST).status_code == 200
    assert client.get("/assets/none.css", headers=_HOST).status_code == 404
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
