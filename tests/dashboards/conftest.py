"""A real Chromium, and what every page's test asks of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dashboard_samples import ROOT
from made_once import made_once
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

if TYPE_CHECKING:
    from policy_samples import MadeRuns

SCREENSHOTS = ROOT / "build" / "screenshots"
PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1280, "height": 800}

_ALONE = re.compile("net::ERR_(CONNECTION|SOCKET)|Failed to fetch|did not respond")

OpenPage = Callable[..., Page]

expect.set_options(timeout=60_000)  # a busy machine must not change what a test finds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; tests that use it carry the marker ``browser``.

    For a module, not for the session: while Playwright is open its event loop counts as running,
    and no test could start one of its own.
    """
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens addresses; fails at the end if a page asked another host or its console had errors."""
    contexts, faults = [], []

    def open_(url: str, *, dark: bool = False, phone: bool = False, wait: str = "h1") -> Page:
        context = browser.new_context(
            viewport=PHONE if phone else LAPTOP,  # type: ignore[arg-type]  # a TypedDict
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            accept_downloads=True,
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)

        def asked(request: Request) -> None:
            if not re.match(r"(http://127\.0\.0\.1[:/]|data:|blob:|file:)", request.url):
                faults.append(f"asked {request.url}")

        def output(message: ConsoleMessage) -> None:
            # A page that outlives its server finds no server; the test is over by then.
            if message.type == "error" and not _ALONE.search(message.text):
                faults.append(message.text)

        page.on("request", asked)
        page.on("console", output)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        page.wait_for_selector(wait)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def shoot() -> Callable[[Page, str], Path]:
    """Keeps a picture of a whole page in ``build/screenshots``."""

    def shoot_(page: Page, name: str) -> Path:
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path, full_page=True)
        return path

    return shoot_


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> MadeRuns:
    """A registered policy and a refused one, by the project's own stages; see its module."""
    from policy_samples import make_runs  # loads torch, which most tests here do without

    return made_once(tmp_path_factory, "runs", make_runs)
