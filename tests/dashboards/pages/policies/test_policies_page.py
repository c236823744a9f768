from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from dashboard_samples import dashboard_config, served
from playwright.sync_api import Page, expect
from policy_samples import MadeRuns

from dashboards.pages.policies.reward import Weights, calculate, load_profile
from dashboards.widgets.theme import INKS

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
Shoot = Callable[[Page, str], Path]
# Every chart that is shown is as wide as its card has room for.
_DRAWN_WITHIN = """[...document.querySelectorAll('.js-plotly-plot .main-svg')]
    .every(svg => svg.getBoundingClientRect().right <= 390)"""
CHART = "#policies-pareto .main-svg"


def test_without_a_policy_the_page_states_what_makes_one(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/policies", wait="text=There is no policy yet")
        expect(page.get_by_text(f"gearshift demo --out {tmp_path / 'runs'}")).to_be_visible()
        shoot(page, "policies-empty")


def test_a_broken_report_is_reported_and_the_rest_is_shown(
    made_runs: MadeRuns, tmp_path: Path, open_page: OpenPage
) -> None:
    runs = tmp_path / "runs"
    (runs / "broken").mkdir(parents=True)
    (runs / "broken" / "report.json").write_text("{")
    (runs / "eager").symlink_to(made_runs.runs / "eager")
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/policies", wait=CHART)
        expect(page.locator("text=broken/report.json is missing or broken")).to_be_visible()
        data = json.loads((runs / "eager" / "report.json").read_text("utf-8"))["data"]
        assert data["frames"]["judge"] < 100
        expect(
            page.get_by_text(
                f"Judged on {data['frames']['judge']} frames of {data['clips']['judge']} clips. "
                "So few say little."
            )
        ).to_be_visible()
        expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(15)


def test_rows_are_picked_compared_restored_and_downloaded(
    made_runs: MadeRuns, tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    with served(dashboard_config(tmp_path, runs=made_runs.runs)) as url:
        page = open_page(f"{url}/policies", dark=True, wait=CHART)
        expect(page.locator("text=Compared now: version 1 and run eager.")).to_be_visible()
        # The system asks for dark, and so the chart is from the first.
        tick = page.locator("#policies-pareto .xtick text").first
        assert "rgb(209, 213, 219)" in (tick.get_attribute("style") or ""), INKS["dark"].text
        shoot(page, "policies-dark")
        with page.expect_download() as saved:
            page.click("text=Download CSV")
        rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text("utf-8-sig"))))
        assert saved.value.suggested_filename == "gearshift-policies.csv"
        assert [row["Name"] for row in rows[:2]] == ["version 1", "run eager"]
        assert len(rows) == 16
        large = next(row for row in rows if row["Name"] == "always-large")
        assert float(large["Retained"]) == 1.0
        page.click(".ag-pinned-left-cols-container >> text=always-small")
        expect(
            page.locator("text=Compared now: run eager and always-small (version 1).")
        ).to_be_visible()
        page.click("#policies-compare")
        expect(page.get_by_role("tab", name="Comparison")).to_have_attribute(
            "aria-selected", "true"
        )
        expect(page.locator("#compare-paired")).to_contain_text("of 24 frames of 4 clips")
        page.wait_for_url("**view=compare**")
        address = page.url
        assert "first=run-eager" in address
        assert "second=v1%3Aalways-small" in address
        page.reload()
        expect(page.get_by_role("textbox", name="Second")).to_have_value("always-small")
        expect(page.locator("#compare-figures")).to_contain_text("accuracy retained")
        page.click("#compare-swap")
        expect(page.get_by_role("textbox", name="First")).to_have_value("always-small")
        shoot(page, "policies-compare-dark")


def test_the_calculator_follows_the_weights(
    made_runs: MadeRuns, tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    profile = load_profile(made_runs.runs / "calm" / "replay" / "profile.parquet")

    def latency(weight: float) -> str:
        return f"{calculate(profile, Weights(1.0, weight, 0.0), 'test').overall.latency_ms:.1f} ms"

    assert latency(0.1) != latency(0.6)
    with served(dashboard_config(tmp_path, runs=made_runs.runs)) as url:
        page = open_page(f"{url}/policies?view=reward", wait="#reward-shares .main-svg")
        figure = page.locator("#reward-latency")
        expect(figure).to_have_text(latency(0.1))
        expect(page.locator("#reward-changed")).to_have_text("0.0%")
        weight = page.get_by_role("textbox", name="Weight of latency, w_l")
        weight.fill("0.6")
        expect(figure).to_have_text(latency(0.6))
        page.wait_for_url("**wl=0.6**")
        slider = page.get_by_role("slider", name="Weight of latency, w_l")
        expect(slider).to_have_attribute("aria-valuenow", "0.6")
        slider.focus()
        page.keyboard.press("ArrowRight")
        expect(weight).to_have_value("0.605")
        shoot(page, "policies-reward")
        page.reload()
        expect(figure).to_have_text(latency(0.605))
        page.click("text=Back to the weights of this run")
        expect(figure).to_have_text(latency(0.1))
        page.wait_for_function("!location.search.includes('wl=')")


def test_a_phone_shows_all_of_it(
    made_runs: MadeRuns, tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    with served(dashboard_config(tmp_path, runs=made_runs.runs)) as url:
        page = open_page(f"{url}/policies", phone=True, wait=CHART)
        for view in ("Trade-off", "Reward calculator", "Comparison"):
            page.get_by_role("tab", name=view).click()
            page.wait_for_load_state("networkidle")
            page.wait_for_function(_DRAWN_WITHIN)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            shoot(page, f"policies-phone-{view.split()[0].lower()}")
