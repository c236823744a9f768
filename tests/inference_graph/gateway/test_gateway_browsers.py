"""Clients in a web page: allowed pages, tokens by subprotocol, tickets, and a real Chromium."""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import Rungs, Served, again, gateway_settings, jpeg, served
from playwright.sync_api import Page, sync_playwright
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from foundation.errors import AccessError, ConfigurationError
from inference_graph.gateway import browsers
from inference_graph.gateway.access import add_token, remove_tokens
from inference_graph.gateway.browsers import SUBPROTOCOL, Tickets

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
PAGE = "https://app.example"


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "tokens.jsonl"
    add_token(path, "others", ["watch"])
    return path, add_token(path, "page", ["stream"])


@pytest.fixture
def gateway(rungs: Rungs, tokens: tuple[Path, str]) -> Iterator[Served]:
    options: dict[str, Any] = {"tokens": tokens[0], "origins": PAGE, "event_key": "shared"}
    with served(gateway_settings(**options), rungs) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def connected(
    gateway: Served, *protocols: str, query: str = "", origin: str | None = PAGE
) -> tuple[int, str]:
    """Status of a handshake as a browser makes it, and the protocol or the reason of a refusal."""

    async def run() -> tuple[int, str]:
        offered = [Subprotocol(one) for one in protocols] or None
        headers = {} if origin is None else {"origin": origin}
        url = gateway.stream + query
        try:
            async with connect(url, subprotocols=offered, additional_headers=headers) as stream:
                await stream.send(jpeg())
                assert json.loads(await stream.recv())["type"] == "detections"
                return 101, str(stream.subprotocol)
        except InvalidStatus as refused:
            return refused.response.status_code, json.loads(refused.response.body or b"")["detail"]

    return asyncio.run(run())


def test_a_token_comes_as_a_subprotocol_and_never_goes_back(
    gateway: Served, tokens: tuple[Path, str]
) -> None:
    token = f"bearer.{tokens[1]}"
    assert connected(gateway, SUBPROTOCOL, token) == (101, SUBPROTOCOL)
    assert connected(gateway, token, SUBPROTOCOL) == (101, SUBPROTOCOL)
    assert connected(gateway, SUBPROTOCOL, "bearer.wrong")[0] == 401
    assert connected(gateway, SUBPROTOCOL)[0] == 401
    status, detail = connected(gateway, token)
    assert (status, SUBPROTOCOL in detail, tokens[1] in detail) == (400, True, False)


def ticket(gateway: Served, token: str) -> str:
    answer = gateway.http.post("/v1/tickets", headers=bearer(token))
    assert (answer.status_code, answer.json()["expires_in"]) == (201, 30)
    assert token not in answer.text
    return str(answer.json()["ticket"])


def test_a_ticket_opens_one_stream(gateway: Served, tokens: tuple[Path, str]) -> None:
    made = ticket(gateway, tokens[1])
    assert connected(gateway, SUBPROTOCOL, query=f"?ticket={made}") == (101, SUBPROTOCOL)
    status, detail = connected(gateway, query=f"?ticket={made}")
    assert status == 401 and "used before" in detail
    assert connected(gateway, query=f"?ticket={made[:-4]}AAAA")[0] == 401
    assert gateway.http.post("/v1/tickets").status_code == 401


def test_gateways_with_one_secret_take_each_others_tickets(
    gateway: Served, rungs: Rungs, tokens: tuple[Path, str]
) -> None:
    options: dict[str, Any] = {"tokens": tokens[0], "origins": PAGE}
    with served(gateway_settings(**options, event_key="shared"), again(rungs)) as second:
        query = f"?ticket={ticket(gateway, tokens[1])}"
        assert connected(second, query=query)[0] == 101
    with served(gateway_settings(**options, event_key="another"), again(rungs)) as third:
        assert connected(third, query=f"?ticket={ticket(gateway, tokens[1])}")[0] == 401


def test_a_ticket_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = Tickets(None)
    assert tickets.redeem(tickets.issue("abc").ticket) == "abc"
    late = tickets.issue("abc").ticket
    monkeypatch.setattr(browsers, "TICKET_SECONDS", -1)
    with pytest.raises(AccessError, match="expired"):
        tickets.redeem(late)


def test_a_stream_ends_when_the_token_of_its_ticket_is_removed(
    gateway: Served, tokens: tuple[Path, str]
) -> None:
    async def run() -> str:
        url = f"{gateway.stream}?ticket={ticket(gateway, tokens[1])}"
        async with connect(url) as stream:
            remove_tokens(tokens[0], "page")
            try:
                async with asyncio.timeout(60):
                    while True:
                        await stream.send(jpeg())
                        await stream.recv()
                        await asyncio.sleep(0.1)
            except ConnectionClosed as closed:
                return closed.rcvd.reason if closed.rcvd else ""

    assert "token is not known" in asyncio.run(run())


def test_pages_of_others_open_no_stream(gateway: Served, tokens: tuple[Path, str]) -> None:
    offered = SUBPROTOCOL, f"bearer.{tokens[1]}"
    status, detail = connected(gateway, *offered, origin="https://evil.example")
    assert status == 403 and "origins" in detail
    assert connected(gateway, *offered, origin=None)[0] == 101
    assert connected(gateway, *offered, origin=gateway.url)[0] == 101


def test_only_pages_on_the_list_may_ask_and_read(gateway: Served, tokens: tuple[Path, str]) -> None:
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    for path in ("/v1/detect", "/v1/feedback", "/v1/tickets"):
        allowed = gateway.http.options(path, headers={"origin": PAGE, **asks})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == PAGE
        refused = gateway.http.options(path, headers={"origin": "https://evil.example", **asks})
        assert "access-control-allow-origin" not in refused.headers
    # A page can read why it was refused, too.
    unknown = gateway.http.post("/v1/detect", headers={"origin": PAGE, **bearer("wrong")})
    assert unknown.status_code == 401
    assert unknown.headers["access-control-allow-origin"] == PAGE
    changing = {**asks, "access-control-request-method": "DELETE", "origin": PAGE}
    assert gateway.http.options("/v1/canaries/nano", headers=changing).status_code == 400


def test_an_open_gateway_lets_in_pages_on_the_list_alone(rungs: Rungs) -> None:
    with served(gateway_settings(origins=f"{PAGE},http://localhost:3000"), rungs) as gateway:
        for origin, status in ((PAGE, 200), ("https://evil.example", 403)):
            headers = {"content-type": "image/jpeg", "origin": origin}
            answer = gateway.http.post("/v1/detect", content=jpeg(), headers=headers)
            assert answer.status_code == status
            assert connected(gateway, origin=origin)[0] == (101 if status == 200 else 403)
        rebound = {"origin": PAGE, "host": "evil.example", "content-type": "image/jpeg"}
        assert gateway.http.post("/v1/detect", content=jpeg(), headers=rebound).status_code == 403


@pytest.mark.parametrize(
    "origins",
    [
        "app.example",
        "https://app.example/path",
        "HTTPS://App.example",
        "null",
        "https://a b",
        "*",
        "https://user@app.example",
        "https://app.example:x",
    ],
)
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ConfigurationError, match="origins"):
        gateway_settings(origins=origins)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Page, str]]:
    """The example, served from another origin than the gateway's, in a Chromium with a camera."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(EXAMPLES))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        opened = browser.new_page()
        opened.set_default_timeout(120_000)
        yield opened, f"http://127.0.0.1:{server.server_port}"
        browser.close()
    server.shutdown()
    server.server_close()


@pytest.mark.browser
def test_the_example_page_detects_and_streams_in_a_browser(
    page: tuple[Page, str], rungs: Rungs, tokens: tuple[Path, str]
) -> None:
    opened, origin = page
    settings = gateway_settings(tokens=tokens[0], origins=origin, max_pixels=1_000_000)
    with served(settings, rungs) as gateway:
        opened.goto(f"{origin}/camera.html")
        opened.fill("#gateway", gateway.url)
        status = opened.locator("#status")
        picture = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}
        opened.fill("#token", "wrong")
        opened.set_input_files("#picture", [picture])  # type: ignore[list-item]
        status.filter(has_text="401: the token is not known").wait_for()
        opened.fill("#token", tokens[1])
        opened.set_input_files("#picture", [])
        opened.set_input_files("#picture", [picture])  # type: ignore[list-item]
        status.filter(has_text="frame 0: car (nano").wait_for()
        opened.click("#camera")
        status.filter(has_text=re.compile(r"frame [1-9][0-9]*:")).wait_for()
        opened.click("#stop")
        # The same by a ticket, without the token in the page.
        made = ticket(gateway, tokens[1])
        answer = opened.evaluate(
            """async ([url, ticket]) => {
                const { Gateway } = await import("./gearshift.js");
                const stream = await new Gateway(url).stream({ ticket, classes: "car" });
                const canvas = document.getElementById("canvas");
                const frame = await new Promise((done) => canvas.toBlob(done, "image/jpeg"));
                return (await stream.send(frame)).type;
            }""",
            [gateway.url, made],
        )
    assert answer == "detections"
