"""The live page in a real browser."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from accessibility import DARK_TEXT, LIGHT_TEXT, chart_text, faults_of, too_wide
from dashboard_samples import dashboard_config, served
from log_rows import open_log, sample_row, write_sample
from playwright.sync_api import Page, expect
from processes import until

from inference_graph.prediction_log.writer import PredictionLog

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
Shoot = Callable[[Page, str], Path]


def append(log: PredictionLog, start: int, count: int) -> None:
    """Answers of the last seconds."""
    now = datetime.now(UTC)
    for index in range(count):
        log.append(sample_row(start + index, now - timedelta(seconds=(count - index) / 10)))
    assert log.flush(60)


def figure_of(page: Page, name: str, pattern: str) -> str:
    """The text of a figure, once it looks like this."""
    page.wait_for_function(
        "([id, pattern]) => new RegExp(pattern).test(document.getElementById(id)?.innerText)",
        arg=[name, pattern],
    )
    return page.inner_text(f"#{name}")


def ends(words: str) -> tuple[float, float]:
    """Both ends of a range of money."""
    low, high = (float(end.strip()[1:].replace(",", "")) for end in words.split(" to "))
    return low, high


def test_an_empty_log_states_what_to_type_and_fills_by_itself(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(url)
        page.wait_for_selector("text=No answer was logged yet")
        expect(page.locator("main .mantine-Code-root").first).to_contain_text("gearshift stream")
        assert faults_of(page) == []
        shoot(page, "live-empty")
        with open_log(tmp_path / "log") as log:
            append(log, 0, 100)
            figure_of(page, "live-rate-note", "^100 answered$")
            expect(page.locator("text=No answer was logged yet")).to_be_hidden()


def test_a_stream_that_arrives_moves_the_figures_and_nothing_flickers(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    with open_log(tmp_path / "log") as log, served(dashboard_config(tmp_path)) as url:
        append(log, 0, 200)
        page = open_page(url)
        assert figure_of(page, "live-rate-note", "^200 answered$")
        page.wait_for_selector("#live-shares .js-plotly-plot .scatterlayer path")
        page.evaluate("document.querySelector('#live-shares .main-svg').dataset.seen = 'yes'")
        page.wait_for_selector("#live-frames img")
        first = page.get_attribute("#live-frames img", "alt")
        assert first is not None and first.endswith("1 × car, 1 × person")
        append(log, 200, 150)
        assert figure_of(page, "live-rate-note", "^350 answered$")
        # The chart was changed, not made anew, and no spinner stood over it.
        assert page.evaluate("document.querySelector('#live-shares .main-svg').dataset.seen")
        assert page.locator("._dash-loading, .dash-spinner").count() == 0
        expect(page.locator("#live-agreement")).to_have_text(re.compile(r"^[\d.]+ %$"))
        expect(page.locator("#live-agreement-note")).to_contain_text("95 % interval")
        expect(page.locator("#live-trouble-chart-words")).to_contain_text("fallbacks")
        assert faults_of(page) == []
        shoot(page, "live")


def test_the_reader_states_how_large_the_fleet_is_and_the_address_keeps_it(
    tmp_path: Path, open_page: OpenPage
) -> None:
    with open_log(tmp_path / "log") as log, served(dashboard_config(tmp_path)) as url:
        append(log, 0, 200)
        page = open_page(f"{url}/?robots=10&fps=10&price=0.36")
        cost = figure_of(page, "live-cost", r"^\$[\d.]+$")
        large = re.search(r"large alone \$([\d.]+)", page.inner_text("#live-cost-note"))
        assert large is not None
        # 10 robots, 10 frames a second, 730 hours: 262.8 million frames.
        wanted = 262.8 * (float(large[1]) - float(cost[1:]))
        saved = figure_of(page, "live-savings", r"^\$[\d.,]+ to \$[\d.,]+$")
        low, high = ends(saved)
        assert low < wanted < high
        expect(page.locator("#live-savings-note")).to_contain_text("large on the same frames")
        page.fill("#live-robots", "20")
        page.press("#live-robots", "Tab")
        page.wait_for_function("location.search.includes('robots=20')")
        page.wait_for_function(
            "was => document.getElementById('live-savings').innerText != was", arg=saved
        )
        assert ends(page.inner_text("#live-savings")) == pytest.approx(
            (2 * low, 2 * high), rel=0.02
        )
        page.reload()
        page.wait_for_selector("#live-robots")
        expect(page.locator("#live-robots")).to_have_value("20")


def test_without_a_shadow_the_page_states_why_nothing_is_compared(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the page names the log as the command did
    now = datetime.now(UTC)
    nothing = {"shadow": False, "shadow_ms": float("nan"), "agreement": float("nan")}
    config = dashboard_config(tmp_path, log="log")
    with open_log(tmp_path / "log") as log, served(config) as url:
        for index in range(40):
            rung = "large" if index < 4 else "small"
            log.append(sample_row(index, now, answered_by=rung, rung=rung, fallback="", **nothing))
        assert log.flush(60)
        page = open_page(url)
        assert figure_of(page, "live-agreement-note", "^0 of 36 frames compared$")
        expect(page.locator("#live-updated")).to_have_text(re.compile("^log, policy "))
        expect(page.locator("#live-hint")).to_contain_text("None of 36 frames was compared")
        expect(page.locator("#live-hint")).to_contain_text("gearshift up --shadow-share")
        expect(page.locator("#live-agreement-chart")).to_contain_text("0 of 36 frames compared")
        for name in ("cost", "savings"):
            expect(page.locator(f"#live-{name}-note")).to_contain_text("no frame was compared")
        for name in ("latency-note", "cost-note", "stages-hint"):
            expect(page.locator(f"#live-{name}")).to_contain_text("from only 40 frames; ")
        assert faults_of(page) == []
        shoot(page, "live-no-shadow")


def test_a_stream_that_has_ended_states_when(tmp_path: Path, open_page: OpenPage) -> None:
    write_sample(tmp_path / "log", 50, datetime(2026, 1, 2, 3, tzinfo=UTC))
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(url)
        page.wait_for_selector("text=Nothing arrived in the last 15 min")
        expect(page.locator("#live-hint")).to_contain_text("2026-01-02 03:5")
        heading = page.locator("h1:has-text('Explore')")

        def explored() -> bool:
            # The hint is drawn anew at each tick; a click in that moment may be lost.
            link = page.locator("text=Look at the last hour there was in Explore")
            if link.is_visible():
                link.click()
            with contextlib.suppress(AssertionError):
                expect(heading).to_be_visible(timeout=10_000)
            return heading.is_visible()

        until(explored)
        figure_of(page, "explore-frames", "^50$")


def test_a_broken_part_is_reported_beside_what_can_be_shown(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    write_sample(tmp_path / "log", 50, datetime(2026, 1, 2, 3, tzinfo=UTC))
    (part,) = (tmp_path / "log").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:1000])
    with open_log(tmp_path / "log") as log, served(dashboard_config(tmp_path)) as url:
        append(log, 0, 60)
        page = open_page(url)
        figure_of(page, "live-rate-note", "^60 answered$")
        expect(page.locator("#live-hint")).to_contain_text(part.name)
        expect(page.locator("#live-hint")).to_contain_text("restore or remove it")
        assert faults_of(page) == []
        shoot(page, "live-broken")


def test_a_log_that_cannot_be_read_at_all_states_why(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    (tmp_path / "log").write_text("a file where a folder should be")
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(url, wait="[role=alert]:has-text('could not be shown')")
        assert str(tmp_path / "log") in page.inner_text("[role=alert]")
        shoot(page, "live-no-log")


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_is_cut_off(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot, dark: bool
) -> None:
    with open_log(tmp_path / "log") as log, served(dashboard_config(tmp_path)) as url:
        append(log, 0, 200)
        page = open_page(url, phone=True, dark=dark)
        figure_of(page, "live-rate-note", "^200 answered$")
        page.wait_for_selector("#live-frames img")
        assert too_wide(page) == 0
        assert chart_text(page, "live-shares") == (DARK_TEXT if dark else LIGHT_TEXT)
        assert faults_of(page) == []
        shoot(page, f"live-phone-{'dark' if dark else 'light'}")
