from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from dashboard_samples import dashboard_config, served
from log_rows import write_sample
from playwright.sync_api import Page, expect
from processes import environment

from dashboards.app import build_app, serve_dashboard
from dashboards.config import DashboardConfig
from dashboards.log.queries import LogQueries
from dashboards.sources import Sources
from dashboards.widgets.parts import read_query
from foundation.errors import ConfigurationError
from serving_kit.listening import listen


def test_the_dashboard_imports_no_training_framework() -> None:
    code = """
import importlib, pkgutil, sys, dashboards
for room in pkgutil.walk_packages(dashboards.__path__, "dashboards."):
    importlib.import_module(room.name)
heavy = {"torch", "ultralytics", "stable_baselines3", "kfp", "mlflow"}
print(",".join(sorted(heavy & set(sys.modules))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.strip() == ""


def test_the_options_are_read_without_dash() -> None:
    code = "import dashboards.config, sys; print('dash' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.strip() == "False False"


def test_no_callback_waits_for_itself(tmp_path: Path) -> None:
    """In a circle of callbacks Dash drops answers and clicks where the server is slow."""
    config = dashboard_config(tmp_path)
    app = build_app(config, Sources(config))
    # Dash's own list: ``callback_map`` leaves out the callbacks that run in the browser.
    callbacks = app._callback_list

    def written(callback: Mapping[str, Any]) -> list[str]:
        one = callback["output"]
        return one[2:-2].split("...") if one.startswith("..") else [one]

    def same(output: str, read: Mapping[str, str]) -> bool:
        name, _, value = output.rpartition(".")
        if value.partition("@")[0] != read["property"]:
            return False
        if not (name.startswith("{") and read["id"].startswith("{")):
            return name == read["id"]
        here, there = json.loads(name), json.loads(read["id"])
        return here.keys() == there.keys() and all(
            here[key] == there[key] or isinstance(here[key], list) or isinstance(there[key], list)
            for key in here
        )

    before = {
        number: {
            other
            for other, writer in enumerate(callbacks)
            # A callback may write what it reads: Dash knows how to end that.
            if other != number
            and any(same(one, read) for one in written(writer) for read in reader["inputs"])
        }
        for number, reader in enumerate(callbacks)
    }
    assert sum(map(len, before.values())) > 20
    TopologicalSorter(before).prepare()  # raises CycleError


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"port": 70_000}, "port"),
        ({"refresh_seconds": 0.0}, "refresh_seconds"),
        ({"refresh_seconds": float("nan")}, "refresh_seconds"),
        ({"memory_rows": 10}, "memory_rows"),
        ({"threads": 0}, "threads"),
        ({"log": ""}, "log"),
        ({"gateway_url": "127.0.0.1:8600"}, "gateway_url"),
        ({"prometheus_url": "javascript://127.0.0.1"}, "prometheus_url"),
        ({"host": "0.0.0.0"}, "open_access"),
        ({"host": "camera.example"}, "open_access"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        DashboardConfig(**options)  # type: ignore[arg-type]  # options of several types


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert DashboardConfig(host=host).host == host


def test_a_port_in_use_is_one_line_before_any_page_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("dashboards.app.build_app")
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: .*; choose another"):
            serve_dashboard(dashboard_config(tmp_path, port=port))


def test_a_query_is_read_as_the_address_has_it() -> None:
    assert read_query("?session=robot%207&rung=nano,large&rung=small") == {
        "session": "robot 7",
        "rung": "small",
    }
    assert read_query("") == read_query(None) == {}


@pytest.mark.browser
def test_an_address_that_leads_nowhere_states_where_to_go(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/nowhere", wait="text=There is no such page")
        page.click("main a:has-text('Live')")
        page.wait_for_selector("h1:has-text('Live')")
        page.wait_for_function("document.title == 'Live · Gearshift'")


@pytest.mark.browser
def test_what_takes_longer_than_a_second_has_a_sign(
    tmp_path: Path, open_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sample(tmp_path / "log", 30)
    slow = threading.Event()

    def late(*given: Any) -> Any:
        slow.wait()
        return totals(*given)

    totals = LogQueries.totals
    monkeypatch.setattr(LogQueries, "totals", late)
    monkeypatch.setattr(Sources, "data_sets", property(lambda one: slow.wait() and {}))
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/explore")
        sign, frames = page.locator(".loading"), page.locator("#explore-frames")
        expect(sign).to_be_visible()
        assert frames.inner_text() == "–"
        slow.set()
        expect(frames).to_have_text("30")
        expect(sign).to_be_hidden()
        slow.clear()
        page.click("nav >> text=Data")
        expect(sign).to_be_visible()
        slow.set()
        expect(page.locator("h1")).to_have_text("Data")
        expect(sign).to_be_hidden()


@pytest.mark.browser
def test_the_scheme_follows_the_system_until_it_is_switched(
    tmp_path: Path, open_page: Callable[..., Page], shoot: Callable[[Page, str], Path]
) -> None:
    scheme = "document.documentElement.dataset.mantineColorScheme"
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(url, dark=True)
        assert page.evaluate(scheme) == "dark"
        shoot(page, "live-empty-dark")
        page.click("[aria-label='Switch between light and dark']")
        page.wait_for_function(f"{scheme} == 'light'")
        page.reload()
        page.wait_for_selector("h1")
        assert page.evaluate(scheme) == "light"  # the choice stays


@pytest.mark.browser
def test_a_view_is_saved_opened_and_removed(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(f"{url}/explore?rung=nano")
        assert "gearshift-zone=" in page.evaluate("document.cookie")
        page.once("dialog", lambda dialog: dialog.accept("nano only"))
        page.click("text=Save view")
        page.goto(f"{url}/health")
        field = page.get_by_role("textbox", name="Saved views")
        field.click()
        page.get_by_role("option", name="nano only").first.click()
        page.wait_for_url("**/explore?rung=nano")
        field.click()
        page.get_by_role("option", name="nano only").last.click()
        field.click()
        page.wait_for_selector("text=None yet")


@pytest.mark.browser
def test_a_phone_has_the_navigation_behind_a_button(
    tmp_path: Path, open_page: Callable[..., Page], shoot: Callable[[Page, str], Path]
) -> None:
    with served(dashboard_config(tmp_path)) as url:
        page = open_page(url, phone=True)
        link = page.locator("nav a:has-text('Live')")
        assert not link.is_visible() or link.bounding_box()["x"] < 0  # type: ignore[index]  # it has a box
        page.click("[aria-label='Navigation']")
        page.wait_for_function("document.querySelector('nav a').getBoundingClientRect().left >= 0")
        shoot(page, "navigation-phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_foreign_host_or_page_is_refused(tmp_path: Path) -> None:
    """A name that resolves to this machine, or another page's script, must not read the log."""
    client = build_app(dashboard_config(tmp_path)).server.test_client()
    for headers, status in (
        ({"host": "127.0.0.1:8602"}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "localhost", "origin": "http://evil.example"}, 403),
        ({"host": "localhost", "sec-fetch-site": "cross-site"}, 403),
        ({"host": "localhost", "origin": "http://localhost:8602"}, 200),
    ):
        assert client.get("/", headers=headers).status_code == status, headers
        assert client.get("/_dash-layout", headers=headers).status_code == status, headers
    named = dashboard_config(tmp_path, hosts="vision.example")
    client = build_app(named).server.test_client()
    assert client.get("/", headers={"host": "vision.example"}).status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403


_LATE = """() => {
    const [fetched, delays] = [window.fetch, [['page.children', 4000], ['"page":"live"', 2000]]];
    const write = window.history.replaceState.bind(window.history);
    [window.late, window.written] = [[], []];
    window.history.replaceState = (state, title, address) => {
        window.written.push(address);
        write(state, title, address);
    };
    window.fetch = async (address, options) => {
        const answer = await fetched(address, options);
        const output = options?.body ? JSON.parse(options.body).output : '';
        const [name, delay] = delays.find(([name]) => output?.includes(name)) ?? [];
        if (name) {
            await new Promise((resolve) => setTimeout(resolve, delay));
            window.late.push(name);
        }
        return answer;
    };
}"""


@pytest.mark.browser
def test_a_late_answer_of_a_page_that_was_left_changes_no_address(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    with served(dashboard_config(tmp_path, refresh_seconds=30.0)) as url:
        page = open_page(url)
        page.wait_for_selector("#live-robots", state="attached")
        page.evaluate(_LATE)
        page.evaluate("dash_clientside.set_props('live-robots', {value: 77})")
        page.click("nav >> text=Explore")
        page.wait_for_selector("h1:has-text('Explore')")
        assert page.evaluate("window.late") == ['"page":"live"', "page.children"]
        assert page.evaluate("window.written") == []
