"""The site: every page is in its menu, links lead somewhere, and it can be read by everybody."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from accessibility import axe_faults_of, too_wide
from campaign import runs
from playwright.sync_api import Page, sync_playwright

from pipelines.documentation.site import inside_only

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
_LINK = re.compile(r"\]\(([^)\s]+)\)")
MEDIA_BYTES = 3_000_000


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(menu) == PAGES


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_every_link_leads_to_a_file(document: str) -> None:
    path = ROOT / document
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        target = link.partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), link


def test_the_readme_is_short_and_pictures_are_small() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900
    assert sum(path.stat().st_size for path in (DOCS / "media").iterdir()) <= MEDIA_BYTES


def test_links_that_leave_the_site_become_paths() -> None:
    text = "[all](../../manifests/README.md) [b](../api.md#x) [`c.html`](../examples/c.html)"
    assert inside_only(text, "tutorials/x.md") == (
        "all (`manifests/README.md`) [b](../api.md#x) `docs/examples/c.html`"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the built site."""
    if find_spec("material") is None or find_spec("mkdocs") is None:
        pytest.skip("needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def page() -> Iterator[Page]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 844})
        opened.set_default_timeout(120_000)
        yield opened
        browser.close()


@pytest.mark.browser
@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_the_site_can_be_read_by_everybody(site: str, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda one: None if site in one.url else asked.append(one.url))
    every = ["", *(f"{page.removesuffix('.md')}/" for page in PAGES if page != "index.md")]
    few = ["", "tutorials/app-developer/", "reference/metrics/"]
    for place in runs(0, 1) * every or few:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(f"{site}/{place}")
            page.wait_for_selector("h1")
            page.wait_for_selector(".md-search[aria-label]", state="attached")
            assert axe_faults_of(page) == [], (place, scheme)
        assert too_wide(page) == 0, place
    # The theme has no Mermaid of its own; a page with a diagram fetches it, and nothing else is.
    assert all("/mermaid@" in one for one in asked), asked
