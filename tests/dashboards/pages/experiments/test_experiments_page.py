"""Experiments in a real browser: found by words, drawn as a tree, compared in red and green."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from accessibility import faults_of, too_wide
from dashboard_samples import dashboard_config, served
from experiment_samples import CONTRACT, attempt, contract, small_ledger, write
from playwright.sync_api import Page, expect

from components.experiments.document import Experiment

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
LARGEST_ANSWER = """Math.max(...performance.getEntriesByType('resource')
    .filter(one => one.name.includes('_dash-update-component'))
    .map(one => one.decodedBodySize))"""
Shoot = Callable[[Page, str], Path]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of four, two of them launched, with learning curves of two seeds."""
    monkeypatch.setattr("components.experiments.ledger.SHIPPED", tmp_path / "none")
    write(tmp_path, "base", contract=contract(objective="keep accuracy", author="bert"))
    write(
        tmp_path, "longer", extends="base", contract=contract(), set={"refine": {"timesteps": 200}}
    )
    write(
        tmp_path,
        "leash",
        extends="longer",
        contract=contract(hypothesis="<b>free</b>"),
        set={"refine": {"learning_rate": 1e-3}},
    )
    write(tmp_path, "lost", extends="nobody")
    out = tmp_path / "out"
    for seed in (0, 1):
        file = out / "policies" / f"seed-{seed}" / "training.csv"
        file.parent.mkdir(parents=True)
        rows = "\n".join(f"{100 * step},{0.5 + seed + step / 10},0.1,0.2,0.9" for step in range(5))
        file.write_text(f"timesteps,reward,kl_to_clone,entropy,explained_variance\n{rows}\n")
    (out / "report.json").write_text("{}")
    ledger = small_ledger(tmp_path)
    ledger.index.put_attempts(
        [
            attempt(
                "base",
                verdict="met",
                reason="retained is 0.97",
                out=str(out),
                expected="retained >= 0.95",
                figures={"retained": 0.97},
            ),
            attempt(
                "leash",
                verdict="missed",
                reason="retained is 0.94",
                out=str(out),
                expected="retained >= 0.95",
                figures={"retained": 0.94},
            ),
        ]
    )
    ledger.close()
    return tmp_path


def test_found_drawn_and_compared(folder: Path, open_page: OpenPage, shoot: Shoot) -> None:
    config = dashboard_config(folder, ledger=folder / "ledger")
    with served(config) as url:
        page = open_page(f"{url}/experiments", wait=".ag-row")
        expect(page.get_by_role("status")).to_contain_text("4 experiments")
        assert faults_of(page) == [] and too_wide(page) <= 0
        shoot(page, "experiments-table")
        page.get_by_label("Search intent").fill("tried to cut missed deadlines")
        expect(page.get_by_role("status")).to_contain_text("2 experiments")
        names = page.locator('.ag-row [col-id="name"]')
        expect(names).to_have_text(["longer", "leash"])  # the longer's words are all of the search
        for button, start in (("Markdown", "| name |"), ("Download CSV", "name,parent")):
            with page.expect_download() as loading:
                page.get_by_role("button", name=button).click()
            text = Path(loading.value.path()).read_text()
            assert text.startswith(start) and len(text.splitlines()) == 3 + (button == "Markdown")
        page.get_by_role("textbox", name="Filters").fill("outcom=missed")
        page.get_by_role("textbox", name="Filters").press("Enter")
        expect(page.get_by_role("status")).to_contain_text("did you mean 'outcome'")
        page.get_by_role("textbox", name="Filters").press("Backspace")
        page.get_by_role("textbox", name="Filters").fill("outcome=missed")
        page.get_by_role("textbox", name="Filters").press("Enter")
        expect(names).to_have_text(["leash"])
        expect(page).to_have_url(
            f"{url}/experiments?words=tried+to+cut+missed+deadlines&"
            "where=outcome%3Dmissed&first=base&second=leash"
        )

        page.get_by_role("tab", name="Tree").click()
        tree = page.locator(".lineage").first
        expect(tree).to_contain_text("refine.timesteps = 200")
        expect(tree).to_contain_text("extends nobody, which is missing")
        page.get_by_role("tab", name="Hypotheses").click()
        expect(page.get_by_role("row", name="bert")).to_contain_text("100%")

        page = open_page(
            f"{url}/experiments?view=compare&first=base&second=leash", dark=True, wait=".diff"
        )
        rows = page.locator(".diff tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.nth(0)).to_contain_text("refine.timesteps")
        minus, plus = page.locator(".diff .minus").nth(0), page.locator(".diff .plus").nth(0)
        expect(minus).to_have_text("− 100")
        expect(plus).to_have_text("+ 200")
        assert minus.evaluate("e => getComputedStyle(e).color") != plus.evaluate(
            "e => getComputedStyle(e).color"
        )
        expect(page.get_by_text("actual: missed: retained is 0.94")).to_be_visible()
        words = page.locator("#experiments-curves-words")
        expect(words).to_contain_text("leash: 2 seeds, reward ends at 1.4 (0.9 to 1.9)")
        page.locator("#experiments-measure").get_by_text("entropy").click()
        expect(words).to_contain_text("entropy ends at 0.2 (0.2 to 0.2)")
        assert faults_of(page) == []
        expect(page.get_by_role("row", name="retained")).to_have_text("retained0.970.94-0.03")
        shoot(page, "experiments-compare")

        page = open_page(
            f"{url}/experiments?view=launch&experiment=base",
            wait="#experiments-launch-metrics tbody",
        )
        expect(page.locator("#experiments-launch-outcome")).to_contain_text("actual: met: retained")
        expect(page.get_by_role("row", name="retained")).to_have_text("retained0.97")
        with page.expect_download() as loading:
            page.get_by_role("button", name="report.json").click()
        assert Path(loading.value.path()).read_text() == "{}"
        words = page.locator("#experiments-launch-curves-words")
        expect(words).to_contain_text("base.1: 2 seeds, reward ends at 1.4")
        expect(page).to_have_url(
            f"{url}/experiments?view=launch&first=base&second=leash&experiment=base&launch=base.1"
        )
        assert faults_of(page) == [] and too_wide(page) <= 0
        shoot(page, "experiments-launch")


def test_thousands_stay_on_the_server(
    tmp_path: Path, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser gets the rows it shows; sorting, filtering and choosing reach all of them."""
    monkeypatch.setattr("components.experiments.ledger.SHIPPED", tmp_path / "none")
    ledger = small_ledger(tmp_path)
    count = 1500
    many = [
        Experiment(
            f"e{number:04d}",
            f"e{number // 2:04d}" if number else "",
            {"refine.timesteps": number + 1},
            CONTRACT,
            file=tmp_path / f"{number}",
        )
        for number in range(count)
    ]
    ledger.index.put([(one, "") for one in many], {})
    ledger.index.put_effective({one.name: one.changes for one in many})
    ledger.index.put_attempts(
        attempt(one.name, verdict="met", figures={"retained": number * 7 % count / count})
        for number, one in enumerate(many)
    )
    ledger.close()
    with served(dashboard_config(tmp_path, ledger=tmp_path / "ledger")) as url:
        page = open_page(f"{url}/experiments", wait=".ag-row")
        expect(page.get_by_role("status")).to_contain_text("1,500 experiments")
        names = page.locator('.ag-row [col-id="name"]')
        expect(names.first).to_have_text("e0000")
        page.get_by_role("columnheader", name="retained").click()
        expect(names.first).to_have_text("e0000")
        page.get_by_role("columnheader", name="retained").click()
        best = max(range(count), key=lambda number: number * 7 % count)
        expect(names.first).to_have_text(f"e{best:04d}")
        page.get_by_label("Last Page").click()
        expect(names.last).to_have_text("e0000")
        page.get_by_role("textbox", name="Filters").fill("refine.timesteps<=3")
        page.get_by_role("textbox", name="Filters").press("Enter")
        expect(names).to_have_text(["e0002", "e0001", "e0000"])
        assert 0 < page.evaluate(LARGEST_ANSWER) < 100_000  # all of them are some 400 kB

        page.get_by_role("tab", name="Tree").click()
        expect(page.locator(".lineage")).to_contain_text("more, with what extends them")
        field = page.get_by_role("textbox", name="Branch")
        field.fill("e0700")
        page.get_by_role("option", name="e0700").click()
        expect(page.locator(".lineage > li > b").first).to_have_text("e0700")
        expect(page.locator(".lineage li")).to_have_count(3)
        page.get_by_role("tab", name="Comparison").click()
        page.get_by_role("textbox", name="Second (+)").fill("e1499")
        page.get_by_role("option", name="e1499").click()
        expect(page.locator(".diff .plus")).to_have_text("+ 1500")


def test_on_a_phone_and_without_a_ledger(folder: Path, open_page: OpenPage, tmp_path: Path) -> None:
    with served(dashboard_config(folder, ledger=folder / "ledger")) as url:
        page = open_page(f"{url}/experiments?view=compare&second=longer", phone=True, wait=".diff")
        assert too_wide(page) <= 0
    with served(dashboard_config(folder, ledger=tmp_path / "none")) as url:
        page = open_page(f"{url}/experiments")
        expect(page.get_by_text("There is no experiment yet")).to_be_visible()
    assert not (tmp_path / "none").exists()
