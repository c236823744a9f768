"""The page Data and the data report in a real browser, on a phone and in the dark as well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from accessibility import faults_of, too_wide
from coco_samples import box_record, image_record, write_canonical, write_image
from dashboard_samples import dashboard_config, served
from playwright.sync_api import Page, expect

from components.data.dataset import load_dataset
from components.data.report import ReportConfig, write_report
from components.data.split import split
from components.data.validate import ValidateConfig, validate

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
Shoot = Callable[[Page, str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with two tiny boxes and a dark picture, validated and divided; one before it."""
    root = tmp_path_factory.mktemp("pages")
    images = [
        image_record(n, attributes={"time_of_day": ("night", "midday")[n % 2]})
        for n in range(1, 25)
    ]
    boxes = [box_record(n, n, [4, 4, 20, 20], category_id=(1, 3)[n % 2]) for n in range(1, 25)]
    write_canonical(root / "data/before", images[1:], boxes[1:])
    shutil.copytree(root / "data/before/images", root / "data/streets/images")
    write_image(root / "data/streets/images/003.png", colour=(2, 2, 2))
    boxes += [box_record(40 + n, n, [40, 9, 2, 2]) for n in (2, 5)]
    write_canonical(root / "data/streets", images, boxes)
    validate(root / "data/streets", root / "data/streets-report", ValidateConfig())
    split(root / "data/streets", root / "data/streets-split.json")
    return root


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, True)])
def test_the_page_shows_pictures_anomalies_slices_and_another_version(
    folder: Path, open_page: OpenPage, shoot: Shoot, dark: bool, phone: bool
) -> None:
    with served(dashboard_config(folder, data=folder / "data")) as url:
        page = open_page(f"{url}/data?data=streets", dark=dark, phone=phone)

        def look(name: str) -> None:
            assert too_wide(page) == 0, name
            assert faults_of(page) == [], name
            shoot(page, f"data-{name}-{'phone-dark' if phone else 'light'}")

        expect(page.get_by_role("cell", name="images without objects")).to_be_visible()
        look("overview")
        page.get_by_role("tab", name="Pictures").click()
        expect(page.locator("figure img")).to_have_count(12)
        expect(page.get_by_text("1 to 12 of 24")).to_be_visible()
        page.get_by_role("button", name="Next pictures").click()
        expect(page.get_by_text("13 to 24 of 24")).to_be_visible()
        expect(page.get_by_role("button", name="Next pictures")).to_be_disabled()
        expect(page).to_have_url(f"{url}/data?data=streets&view=pictures&at=12")
        look("pictures")
        page.get_by_role("tab", name="Anomalies").click()
        page.get_by_role("textbox", name="Kind of anomaly").click()
        page.get_by_role("option", name="tiny boxes").click()
        expect(page.get_by_text("annotation id 42, bbox [40.0, 9.0, 2.0, 2.0]")).to_be_visible()
        page.get_by_role("button", name="Next cases").click()
        expect(page.get_by_text("annotation id 45, bbox [40.0, 9.0, 2.0, 2.0]")).to_be_visible()
        expect(page.get_by_role("img", name="1 × car, 1 × person")).to_be_visible()
        look("anomalies")
        page.get_by_role("tab", name="Slices and split").click()
        expect(page.get_by_role("heading", name="By time of day")).to_be_visible()
        page.wait_for_selector("#data-imbalance .barlayer path", state="attached")
        look("slices")
        page.get_by_role("tab", name="Comparison").click()
        page.get_by_role("textbox", name="Images").click()
        expect(page.get_by_role("option", name="added (1)")).to_be_visible()
        page.get_by_role("option", name="relabelled (2)").click()
        expect(page.locator("figure img")).to_have_count(2)
        look("comparison")
        page = open_page(page.url)  # the address restores the view
        expect(page.locator("figure img")).to_have_count(2)


def test_what_is_missing_is_reported(tmp_path: Path, open_page: OpenPage) -> None:
    with served(dashboard_config(tmp_path, data=tmp_path / "data")) as url:
        page = open_page(f"{url}/data")
        expect(page.get_by_text("There is no data set yet")).to_be_visible()
        write_canonical(tmp_path / "data", [image_record(1)], [box_record(1, 1, [4, 4, 9, 9])])
        (tmp_path / "data/images/001.png").write_bytes(b"no picture")
    with served(dashboard_config(tmp_path, data=tmp_path / "data")) as url:
        page = open_page(f"{url}/data?view=anomalies&data=gone")
        expect(page.get_by_text(f"gearshift data validate {tmp_path}/data --out")).to_be_visible()
        page.get_by_role("tab", name="Pictures").click()
        expect(page.get_by_text("The picture cannot be read.")).to_be_visible()
        (tmp_path / "data/annotations.json").write_text(json.dumps({"images": 1}))
        page.get_by_role("tab", name="Overview").click()
        expect(page.get_by_text("This could not be shown")).to_be_visible()


@pytest.mark.parametrize("dark", [False, True])
def test_the_data_report_on_a_phone(
    folder: Path, tmp_path: Path, open_page: OpenPage, shoot: Shoot, dark: bool
) -> None:
    write_report(
        folder / "data/streets",
        tmp_path / "report.html",
        folder / "data/streets-report",
        folder / "data/streets-split.json",
        load_dataset(folder / "data/before"),
        ReportConfig(pictures=4, per_slice=2),
    )
    page = open_page((tmp_path / "report.html").as_uri(), phone=True, dark=dark)
    page.wait_for_selector("#chart-imbalance .barlayer path", state="attached")
    assert too_wide(page) == 0
    assert faults_of(page) == []
    page.get_by_role("link", name="boxes of a few pixels").click()
    page.locator("#anomaly-tiny_boxes-1").get_by_role("link", name="next").click()
    expect(page.locator("#anomaly-tiny_boxes-2")).to_be_in_viewport()
    page.get_by_text("Pictures by time of day").click()
    assert faults_of(page) == []
    shoot(page, f"data-report-phone-{'dark' if dark else 'light'}")
