"""Grafana's files are what the generator writes, and ask for metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from overlays import kustomized
from promql import metric_names

from dashboards.grafana.__main__ import main
from dashboards.grafana.files import grafana_files, pages
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.records import record_rules
from inference_graph.control.monitoring.rules import rule_groups
from inference_graph.metric_names import ALL_FIGURES

FOLDER = Path(__file__).resolve().parents[3] / "manifests" / "monitoring" / "grafana"
FOREIGN = {"process_cpu_seconds_total", "process_resident_memory_bytes", "up"}
"""Metrics of the Prometheus client and of Prometheus itself."""


def known_names() -> set[str]:
    names = {rule["record"] for rule in record_rules()} | FOREIGN
    for figure in ALL_FIGURES:
        if figure.kind == "histogram":
            names |= {f"{figure.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            names.add(figure.name)
    return names


def dashboard(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return read


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (r) (rate(a_total{b="c(d)"}[5m])) / on (x) group_left () e:f', "a_total e:f"),
        ("time() - a > 7.5e3 and b offset 5m", "a b"),
        ("histogram_quantile(0.95, sum by (le) (rate(a_bucket[$__rate_interval])))", "a_bucket"),
        ('min by (n) (up) == 0 or absent(up{job="x"})', "up"),
        ("1 - (1 - a) * (b / c) unless inf", "a b c"),
    ],
)
def test_names_in_promql(expression: str, names: str) -> None:
    assert metric_names(expression) == set(names.split())


def test_the_committed_files_are_the_generators(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    written, committed = (
        {
            str(path.relative_to(folder)): path.read_text("utf-8")
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (tmp_path, FOLDER)
    )
    assert committed == written, "run python -m dashboards.grafana"
    assert written == grafana_files(Objectives())


def test_every_query_asks_for_what_is_in_the_vocabulary() -> None:
    known = known_names()
    for page in pages(Objectives()):
        for query in page.queries:
            assert metric_names(query.expression) <= known, query
    for rule in rule_groups(Objectives())["groups"][0]["rules"]:
        assert metric_names(rule["expr"]) <= known, rule


def test_every_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    asked = {
        name
        for page in pages(Objectives())
        for query in page.queries
        for name in metric_names(query.expression)
    }
    asked |= {
        name
        for rule in rule_groups(Objectives())["groups"][0]["rules"]
        for name in metric_names(rule["expr"])
    }
    unseen = {
        figure.name
        for figure in ALL_FIGURES
        if not asked & {figure.name, f"{figure.name}_bucket", f"{figure.name}_sum"}
    }
    assert unseen == set()


@pytest.mark.parametrize("name", ["gearshift-routing", "gearshift-services"])
class TestDashboards:
    def test_every_panel_takes_the_chosen_datasource(self, name: str) -> None:
        page = dashboard(name)
        panels = [panel for panel in page["panels"] if panel["type"] != "row"]
        assert len(panels) >= 15
        for panel in panels:
            sources = [panel["datasource"], *(one["datasource"] for one in panel["targets"])]
            assert {one["uid"] for one in sources} == {"${datasource}"}
            assert panel["title"] and panel["description"]
            for target in panel["targets"]:
                selectors = re.findall(r"\{[^{}]*\}", target["expr"])
                assert selectors, target
                assert all('namespace=~"$namespace"' in one for one in selectors), target
        variables = {one["name"]: one for one in page["templating"]["list"]}
        assert variables["datasource"]["query"] == "prometheus"
        assert variables["namespace"]["allValue"] == ".*"

    def test_panels_do_not_overlap_and_have_ids_of_their_own(self, name: str) -> None:
        panels = dashboard(name)["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (place["x"] + column, place["y"] + line)
                for column in range(place["w"])
                for line in range(place["h"])
            }
            assert not taken & cells, panel["title"]
            taken |= cells


def test_kustomize_makes_what_grafanas_sidecar_takes(tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "grafana")])
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump({"components": ["../grafana"], "namespace": "fleet"})
    )
    text = kustomized(overlay)
    config = yaml.safe_load(text)
    assert config["kind"] == "ConfigMap"
    assert config["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert config["metadata"]["name"] == "gearshift-dashboards"
    assert json.loads(config["data"]["gearshift-routing.json"]) == dashboard("gearshift-routing")


def test_provisioning_finds_the_files() -> None:
    provider = yaml.safe_load(
        (FOLDER / "provisioning" / "dashboards" / "gearshift.yaml").read_text("utf-8")
    )
    assert provider["providers"][0]["options"]["path"] == "/var/lib/grafana/dashboards/gearshift"
    source = yaml.safe_load(
        (FOLDER / "provisioning" / "datasources" / "prometheus.yaml").read_text("utf-8")
    )
    assert source["datasources"][0]["url"] == "$GEARSHIFT_PROMETHEUS_URL"
