from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from dashboard_samples import dashboard_config
from dashboard_samples import served as dashboard
from health_samples import prometheus, served, settings_of
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
Shoot = Callable[[Page, str], Path]


def test_nothing_runs_and_the_page_states_what_to_start(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    config = dashboard_config(tmp_path, gateway_url="http://127.0.0.1:1")
    with dashboard(config) as url:
        page = open_page(f"{url}/health", phone=True)
        expect(page.get_by_role("status")).to_contain_text("1 in trouble")
        for text in (
            "does not answer",
            "gearshift up --open-access",
            "gearshift up --monitoring",
            "gearshift drift check",
            "gearshift rollout start",
            "empty",
        ):
            expect(page.get_by_text(text).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        shoot(page, "health-empty-phone")


@pytest.mark.promtool
def test_services_and_alerts_are_shown_and_what_was_known_stays(
    sample_ladder: Path, tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    with ExitStack() as running:
        alerts = running.enter_context(prometheus(tmp_path))
        gateway_stops = running.enter_context(ExitStack())
        gateway = gateway_stops.enter_context(served(settings_of(sample_ladder)))
        config = dashboard_config(tmp_path, gateway_url=gateway.url, prometheus_url=alerts)
        page = open_page(f"{running.enter_context(dashboard(config))}/health")
        expect(page.get_by_text("ready, without small")).to_be_visible()
        rungs = page.locator("#health-rungs")
        expect(rungs).to_contain_text("nano")
        expect(rungs).to_contain_text("in use")
        fires = page.locator("#health-alerts")
        expect(fires).to_contain_text("AlwaysThere")
        expect(fires).to_contain_text("ComesLater")
        link = fires.get_by_role("link", name="Runbook")
        expect(link).to_have_count(1)  # the other one would have run a script
        expect(page.get_by_role("status")).to_contain_text("1 in trouble")
        shoot(page, "health")
        gateway_stops.close()
        expect(page.get_by_text("It last answered")).to_be_visible()
        expect(rungs).to_contain_text("As of the gateway's last answer.")
        expect(page.get_by_role("status")).to_contain_text("2 in trouble")
