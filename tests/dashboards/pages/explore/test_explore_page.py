"""The explore page in a real browser."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from accessibility import DARK_TEXT, LIGHT_TEXT, chart_text, faults_of, too_wide
from dashboard_samples import dashboard_config, served
from log_rows import NOON, open_log, sample_row, write_sample
from playwright.sync_api import Page, expect
from processes import until
from test_attribution import linear_policy

from feature_transformer.observation import OBSERVATION_SIZE
from inference_graph.prediction_log.row import PredictionRow

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
Shoot = Callable[[Page, str], Path]
Sample = tuple[str, list[PredictionRow]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """A dashboard over 600 answers and their rows; the policy that decided is in the runs."""
    folder = tmp_path_factory.mktemp("explore")
    runs = folder / "runs"
    runs.mkdir()
    weights = np.random.default_rng(0).normal(0, 0.05, (OBSERVATION_SIZE, 3)).astype(np.float32)
    policy = linear_policy(runs / "policy.onnx", weights, np.zeros(3, np.float32))
    (runs / "report.json").write_text(json.dumps({"rows": []}))
    rows = write_sample(folder / "log")
    with open_log(folder / "log") as log:
        log.append(
            sample_row(
                700,
                NOON,
                session="last",
                policy_revision=policy.revision,
                image=rows[25].image,
                observation=rows[25].observation,
            )
        )
    with served(dashboard_config(folder)) as url:
        yield f"{url}/explore", rows


def figure_of(page: Page, name: str, wanted: str) -> None:
    page.wait_for_function(
        "([id, wanted]) => document.getElementById(id)?.innerText == wanted", arg=[name, wanted]
    )


def test_every_figure_follows_a_choice(sample: Sample, open_page: OpenPage, shoot: Shoot) -> None:
    url, rows = sample
    page = open_page(url)
    figure_of(page, "explore-frames", "601")
    page.wait_for_selector(".ag-row")
    assert faults_of(page) == []
    shoot(page, "explore")
    nights = sum(row.tags.get("condition") == "night" for row in rows) + 1  # the last one
    page.click("#explore-condition")
    page.click("[role=option]:has-text('night')")
    figure_of(page, "explore-frames", str(nights))
    page.wait_for_function("location.search == '?condition=night'")
    # The address alone restores the view.
    again = open_page(page.url)
    figure_of(again, "explore-frames", str(nights))
    again.click("text=Show everything")
    figure_of(again, "explore-frames", "601")
    again.wait_for_function("location.search == ''")


def test_an_agreement_without_an_interval_states_the_cause(
    sample: Sample, open_page: OpenPage
) -> None:
    url, rows = sample
    minute = [
        row
        for row in rows
        if row.session == "robot-0"
        and row.answered_by != "large"
        and (row.time.hour, row.time.minute) == (12, 57)
        and not row.error
    ]
    compared = sum(row.shadow for row in minute)
    assert 1 < compared < len(minute)
    for query, words in (
        ("rung=large", "large answered every frame"),
        ("from=2030-01-01", "no frame was answered"),
        (
            "session=robot-0&from=2026-11-21T12:57:00&to=2026-11-21T12:58:00",
            f"no interval: {compared} of {len(minute)} frames compared, all in one minute of one "
            "session",
        ),
    ):
        page = open_page(f"{url}?{query}")
        expect(page.locator("#explore-agreement-note")).to_have_text(words)
        expect(page.locator("#explore-hint")).to_have_text("")


def test_a_brush_over_time_narrows_all_charts(sample: Sample, open_page: OpenPage) -> None:
    url, rows = sample
    page = open_page(f"{url}?from=2026-11-21T12:55:00")
    figure_of(page, "explore-frames", "600")
    box = page.locator("#explore-frames-chart .nsewdrag").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=8)
    page.mouse.up()
    page.wait_for_function("location.search.includes('to=')")
    page.wait_for_function("+document.getElementById('explore-frames').innerText < 400")
    count = int(page.inner_text("#explore-frames"))
    assert 100 <= count <= 220  # a quarter of 600, give or take the pixels at the ends
    # The other charts show the same frames.
    page.wait_for_function(
        "n => document.getElementById('explore-frames-chart-words').innerText.startsWith(n)",
        arg=f"{count} frames",
    )


def test_a_brush_over_the_latencies_chooses_a_range(sample: Sample, open_page: OpenPage) -> None:
    url, _ = sample
    page = open_page(url)
    figure_of(page, "explore-frames", "601")
    box = page.locator("#explore-latency-chart .nsewdrag").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, y, steps=8)
    page.mouse.up()
    page.wait_for_function("location.search.includes('ms=')")
    page.wait_for_function("+document.getElementById('explore-frames').innerText < 600")
    high = float(page.input_value("#explore-high"))
    shown = page.inner_text("#explore-latency")
    assert float(shown.removesuffix(" ms")) <= high * 1.02


def test_a_frame_is_explained_down_to_its_cells(
    sample: Sample, open_page: OpenPage, shoot: Shoot
) -> None:
    url, _ = sample
    page = open_page(f"{url}?session=last")
    figure_of(page, "explore-frames", "1")
    page.click(".ag-row .ag-cell")
    page.wait_for_selector("#explore-frame img")
    page.wait_for_selector("#explore-frame .heatmaplayer")
    text = page.inner_text("#explore-frame")
    assert "What moved" in text and "ahead of" in text
    assert "edges top left" in text and "previous is nano" in text
    expect(page.locator("#explore-frame [role=img]")).to_have_count(3)
    assert faults_of(page) == []
    shoot(page, "explore-frame")
    page.wait_for_function("location.search.includes('frame=')")
    again = open_page(page.url, dark=True)
    again.wait_for_selector("#explore-frame .heatmaplayer")
    # The page's other charts get their words by callbacks of their own.
    until(lambda: not faults_of(again))
    shoot(again, "explore-frame-dark")


def test_the_chosen_frame_stays_chosen_while_data_arrive(
    tmp_path: Path, open_page: OpenPage
) -> None:
    with (
        open_log(tmp_path / "log") as log,
        served(dashboard_config(tmp_path)) as url,
    ):
        for index in range(6):
            log.append(sample_row(index, NOON + timedelta(seconds=index), fallback=""))
        assert log.flush(60)
        page = open_page(f"{url}/explore")
        figure_of(page, "explore-frames", "6")
        expect(page.locator("#explore-latency-note")).to_contain_text("from only 6 frames; ")
        expect(page.locator("#explore-stages caption")).to_contain_text("from only 6 frames; ")
        chosen = ".ag-row-selected [col-id=frame_id], .ag-row-selected [col-id=time]"
        page.click(".ag-row[row-index='2'] .ag-cell")
        page.wait_for_function("location.search.includes('event-3')")
        time = page.inner_text(".ag-row-selected [col-id=time]")
        assert time.endswith("12:00:03.000")
        for index in range(6, 9):
            fallback = "late" if index == 8 else ""
            time_of = NOON + timedelta(seconds=index)
            log.append(sample_row(index, time_of, fallback=fallback))
        assert log.flush(60)
        page.click("label:has-text('only fallbacks')")
        figure_of(page, "explore-frames", "1")  # the newest, and not the chosen one
        page.wait_for_selector("text=The frame below is none of them")
        expect(page.locator(chosen)).to_have_count(0)
        page.click("label:has-text('only fallbacks')")
        figure_of(page, "explore-frames", "9")
        page.wait_for_selector(".ag-row-selected[row-index='5']")
        expect(page.locator(".ag-row-selected [col-id=time]")).to_have_text(time)
        assert "event-3" in page.url
        # The address alone restores it.
        again = open_page(page.url)
        again.wait_for_selector(".ag-row-selected[row-index='5']")


def test_the_log_can_be_chosen_and_the_address_keeps_it(
    tmp_path: Path, open_page: OpenPage
) -> None:
    write_sample(tmp_path / "demo" / "up" / "log", 30)
    write_sample(tmp_path / "log", 40)
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/explore")
        figure_of(page, "explore-frames", "40")
        page.click("#explore-log")
        page.click("[role=option]:has-text('demo/up/log')")
        figure_of(page, "explore-frames", "30")
        page.wait_for_function("location.search.includes('log=')")
        again = open_page(page.url)
        figure_of(again, "explore-frames", "30")


def test_a_frame_whose_policy_is_elsewhere_reports_it(sample: Sample, open_page: OpenPage) -> None:
    url, _ = sample
    page = open_page(f"{url}?only=images&rung=small")
    page.click(".ag-row .ag-cell")
    page.wait_for_selector("text=Policy 0123456789ab is not on this machine")
    page.goto(f"{url}?frame=5-gone")
    page.wait_for_selector("text=This frame is not in the log")


def test_what_is_shown_can_be_saved(sample: Sample, open_page: OpenPage) -> None:
    url, rows = sample
    page = open_page(f"{url}?rung=large&from=2026-11-21T12:30")
    wanted = [row for row in rows if row.answered_by == "large"]
    figure_of(page, "explore-frames", str(len(wanted)))
    with page.expect_download() as saved:
        page.click("text=Frames as CSV")
    text = Path(saved.value.path()).read_text("utf-8")
    found = list(csv.DictReader(io.StringIO(text)))
    assert saved.value.suggested_filename == "frames.csv"
    assert {row["event_id"] for row in found} == {row.event_id for row in wanted}
    with page.expect_download() as saved:
        page.click("text=Frames over time as CSV")
    steps = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text("utf-8"))))
    assert sum(int(step["large"]) for step in steps) == len(wanted)
    assert sum(int(step["nano"]) for step in steps) == 0


def test_everything_can_be_done_with_the_keyboard(sample: Sample, open_page: OpenPage) -> None:
    url, _ = sample
    page = open_page(f"{url}?session=last")
    page.wait_for_selector(".ag-row")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id || location.hash") in ("content", "#content")
    # By Tab alone from the content to the rungs, whose list opens and is chosen from.
    for _ in range(25):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "explore-rung":
            break
    else:
        raise AssertionError("Tab never reached the rungs")
    style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    border = page.evaluate(
        "getComputedStyle(document.activeElement.closest('[data-variant]')).borderColor"
    )
    assert style != "none" or border
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("location.search.includes('rung=')")
    page.goto(f"{url}?session=last")
    page.wait_for_selector(".ag-row")
    page.focus(".ag-row .ag-cell")
    page.keyboard.press("Space")
    page.wait_for_selector("#explore-frame img")


def test_a_choice_that_nothing_fits_reports_it(sample: Sample, open_page: OpenPage) -> None:
    url, _ = sample
    page = open_page(f"{url}?from=2030-01-01")
    page.wait_for_selector("text=None fits this choice")
    page.wait_for_selector("#explore-frames-chart >> text=No frame fits this choice.")
    page.wait_for_selector("#explore-latency-chart >> text=No answer fits this choice.")
    figure_of(page, "explore-frames", "0")
    expect(page.locator("#explore-frames-note")).to_have_text("nothing fits this choice")


def test_an_empty_log_states_what_to_type(tmp_path: Path, open_page: OpenPage) -> None:
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/explore")
        page.wait_for_selector("text=No answer was logged yet")


def test_a_broken_log_states_what_to_do(tmp_path: Path, open_page: OpenPage) -> None:
    write_sample(tmp_path / "log", 300)
    first, *_ = sorted((tmp_path / "log").rglob("*.parquet"))
    first.write_bytes(b"no parquet")
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/explore")
        page.wait_for_selector("text=restore or remove it")
    shutil.rmtree(tmp_path / "log")


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_is_cut_off(
    sample: Sample, open_page: OpenPage, shoot: Shoot, dark: bool
) -> None:
    url, _ = sample
    page = open_page(f"{url}?session=last", phone=True, dark=dark)
    page.wait_for_selector(".ag-row")
    page.click(".ag-row .ag-cell")
    page.wait_for_selector("#explore-frame img")
    assert too_wide(page) == 0
    assert chart_text(page, "explore-frames-chart") == (DARK_TEXT if dark else LIGHT_TEXT)
    assert faults_of(page) == []
    shoot(page, f"explore-phone-{'dark' if dark else 'light'}")
