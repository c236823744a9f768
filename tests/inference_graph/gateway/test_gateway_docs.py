"""The documentation page in a real Chromium: everything is on it, and it can be tried out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from gateway_samples import Rungs, gateway_settings, jpeg, served
from playwright.sync_api import Page, sync_playwright


@pytest.fixture
def page() -> Iterator[Page]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(120_000)
        yield opened
        browser.close()


@pytest.mark.browser
def test_the_page_shows_and_sends_every_request(page: Page, rungs: Rungs) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda one: None if "127.0.0.1" in one.url else faults.append(one.url))
    with served(gateway_settings(), rungs) as gateway:
        page.goto(f"{gateway.url}/docs")
        document = gateway.http.get("/openapi.json").json()
        operations = [one for methods in document["paths"].values() for one in methods.values()]
        for operation in operations:
            section = page.locator(f"#{operation['operationId']}")
            names = section.locator("summary").all_inner_texts()
            assert names[:3] == ["curl", "Python", "JavaScript"] and names[-1] == "Try it"
        detect = page.locator("#detect_v1_detect_post")
        shown = detect.inner_text()
        for text in (
            "confidence",
            "number, at least 0, at most 1",
            "image/jpeg",
            "answered_by",
            "--data-binary @frame.jpg",
            "Authorization: Bearer TOKEN",
        ):
            assert text in shown, text
        assert "WS /v1/stream" in page.locator("nav").inner_text()
        # What changes the gateway stands below a heading of its own.
        order = page.evaluate(
            """(ids) => ids.map((id) => document.getElementById(id).getBoundingClientRect().top)""",
            [
                "detect_v1_detect_post",
                "stream",
                document["paths"]["/v1/feedback"]["post"]["operationId"],
                "operators",
                document["paths"]["/v1/canaries"]["get"]["operationId"],
            ],
        )
        assert order == sorted(order) and order[0] > 0
        detect.get_by_text("Try it").click()
        detect.get_by_label("confidence").fill("0.5")
        picture = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}
        detect.locator("input[type=file]").set_input_files([picture])  # type: ignore[list-item]
        detect.get_by_role("button", name="Send").click()
        status = detect.get_by_role("status")
        status.filter(has_text="200").wait_for()
        assert json.loads(status.inner_text().partition("\n")[2])["answered_by"] == "nano"
    assert faults == []
