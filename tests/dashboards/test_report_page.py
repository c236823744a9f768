"""The evaluation report as people open it: on a phone, and in the dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from accessibility import faults_of, too_wide
from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from policy_samples import MadeRuns

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("dark", [False, True])
def test_the_report_on_a_phone(
    made_runs: MadeRuns,
    open_page: Callable[..., Page],
    shoot: Callable[[Page, str], Path],
    dark: bool,
) -> None:
    report = made_runs.runs / "calm" / "report.html"
    page = open_page(report.as_uri(), phone=True, dark=dark)
    page.wait_for_selector("#pareto .scatterlayer path")
    assert too_wide(page) == 0
    assert faults_of(page) == []
    expect(page.locator(".pictures img")).to_have_count(3)
    colour = "el => getComputedStyle(document.querySelector(el)).fill"
    assert page.evaluate(colour, "#pareto .xtick text") == (
        "rgb(217, 223, 229)" if dark else "rgb(28, 39, 51)"
    )
    shoot(page, f"report-phone-{'dark' if dark else 'light'}")
