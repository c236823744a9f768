"""The page of texts in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import pytest
from accessibility import faults_of
from dashboard_samples import dashboard_config, served
from log_rows import NOON, open_log, picture, sample_row
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
Shoot = Callable[[Page, str], Path]


def reading(*lines: str, prefix: str = "") -> dict[str, Any]:
    """Columns of an answer with these lines, one below the other."""
    return {
        f"{prefix}boxes": [[10, 20 * row, 90, 20 * row + 18] for row in range(len(lines))],
        f"{prefix}scores": [0.9] * len(lines),
        f"{prefix}labels": [0] * len(lines),
        f"{prefix}texts": lines,
    }


def write(folder: Path) -> None:
    """Three answers of nano, one of them compared with large, and one of large; one of boxes."""
    jpeg = cv2.imencode(".jpg", picture(0))[1].tobytes()
    with open_log(folder / "log") as log:
        for index in range(4):
            shadow = (
                reading("FRESH MILK", "<b>1.20</b>", prefix="shadow_")
                | {"shadow": True, "shadow_ms": 100.0, "agreement": 0.8, "image": jpeg}
                if index == 0
                else {"shadow": False, "shadow_ms": float("nan"), "agreement": float("nan")}
            )
            log.append(
                sample_row(
                    index,
                    NOON + timedelta(seconds=index),
                    detect_ms=25.0 if index < 3 else 100.0,
                    answered_by="nano" if index < 3 else "large",
                    fallback="",
                    **({"rung": "nano"} | reading("FRESH MULK", "<b>1.20</b>") | shadow),
                )
            )
        log.append(sample_row(9, NOON))
        assert log.flush(60)


def test_texts_page_shows_routing_cost_agreement_and_words(
    tmp_path: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    write(tmp_path)
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/texts")
        expect(page.get_by_text("The newest 4 answers")).to_be_visible()
        rows = page.locator("#texts-routing tbody tr").all_inner_texts()
        nano, large = (row.split("\t") for row in rows)
        assert [cell.strip() for cell in nano[1:]] == [
            "3",
            "75.0 %",
            "25 ms",
            "25 %",
            "22",
            "80.0 %",
            "1",
        ]
        assert [cell.strip() for cell in large[1:5]] == ["1", "25.0 %", "100 ms", "100 %"]
        # The letters that differ, and text that is no markup.
        expect(page.locator("mark")).to_have_text(["U", "I"])
        expect(page.get_by_text("<b>1.20</b>").first).to_be_visible()
        expect(page.locator("img.frame")).to_have_count(1)
        assert faults_of(page) == []
        shoot(page, "texts")
        page = open_page(f"{url}/texts", phone=True, dark=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert faults_of(page) == []


def test_without_a_comparison_the_page_states_why(tmp_path: Path, open_page: OpenPage) -> None:
    nothing = {"shadow": False, "shadow_ms": float("nan"), "agreement": float("nan")}
    with open_log(tmp_path / "log") as log:
        log.append(sample_row(0, NOON, answered_by="nano", **(reading("FRESH MULK") | nothing)))
        assert log.flush(60)
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/texts")
        expect(page.get_by_text("The one frame was not compared with large")).to_be_visible()


def test_without_texts_the_page_names_what_brings_them(tmp_path: Path, open_page: OpenPage) -> None:
    with open_log(tmp_path / "log") as log:
        log.append(sample_row(0, NOON))
        assert log.flush(60)
    with served(dashboard_config(tmp_path)) as url:
        expect(open_page(f"{url}/texts").get_by_text("No answer with a text")).to_be_visible()
