"""The hand-written tree and the code around it agree on names, and nothing in the tree is idle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from overlays import MANIFESTS, OVERLAYS, named, rendered

from inference_graph.control.manifests import names, render

COMPONENTS = sorted(path.parent for path in MANIFESTS.rglob("kustomization.yaml"))
SETTINGS = yaml.safe_load((MANIFESTS / "site" / "settings" / "settings.yaml").read_text())["data"]


def kustomizations() -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in COMPONENTS:
        yield folder, yaml.safe_load((folder / "kustomization.yaml").read_text())


def everything() -> list[dict[str, Any]]:
    """The documents of every overlay, and of the components that are in none."""
    found = [one for overlay in OVERLAYS for one in rendered(overlay)]
    found += render(MANIFESTS / "overlays" / "seldon")
    for path in (MANIFESTS / "components").rglob("*.yaml"):
        found += [one for one in yaml.safe_load_all(path.read_text()) if isinstance(one, dict)]
    return found


def test_what_patches_and_replacements_select_is_there() -> None:
    """kustomize passes over a target that is absent, a misspelt one as well."""
    there = {(one["kind"], one.get("metadata", {}).get("name")) for one in everything()}
    there |= {("Role", "fleet-runs"), ("Namespace", "gearshift")}
    for folder, content in kustomizations():
        selectors = [one["target"] for one in content.get("patches", ())]
        selectors += [
            target["select"] for one in content.get("replacements", ()) for target in one["targets"]
        ]
        for selector in selectors:
            kinds, wanted = selector["kind"], selector.get("name", ".*")
            for alternative in wanted.split("|"):
                assert any(
                    re.fullmatch(kinds, kind) and re.fullmatch(alternative, str(name))
                    for kind, name in there
                ), (folder, selector)


def test_every_setting_goes_somewhere_and_every_source_is_a_setting() -> None:
    used = {
        one["source"]["fieldPath"].removeprefix("data.")
        for _, content in kustomizations()
        for one in content.get("replacements", ())
    }
    assert used == set(SETTINGS)


def test_every_file_of_the_tree_is_used() -> None:
    for folder, content in kustomizations():
        listed = {"kustomization.yaml", *content.get("resources", ())}
        listed |= {one["path"] for one in content.get("patches", ()) if "path" in one}
        if "grafana" not in str(folder):
            assert {path.name for path in folder.glob("*.yaml")} <= listed, folder


def test_the_codes_names_are_the_trees() -> None:
    documents = rendered("onprem")
    assert {names.GATEWAY, names.DATABASE} <= set(named(documents, "StatefulSet"))
    assert names.DASHBOARD in named(documents, "Deployment")
    assert names.GRAPH in named(documents, "InferenceGraph")
    assert names.ROUTER in named(documents, "InferenceService")
    text = yaml.safe_dump(documents)
    for name in (
        names.MODELS,
        names.POLICY_FILE,
        names.GPU,
        names.MODEL_LABEL,
        names.S3_SECRET,
        names.MLFLOW_SECRET,
        names.SCRAPE_SECRET,
        names.OPERATE_SECRET,
        f"{names.ROUTER}{names.CANARY_SUFFIX}",
        f"containerPort: {names.GRPC_PORT}",
    ):
        assert name in text, name


def test_settings_are_no_part_of_what_is_applied() -> None:
    for folder in (MANIFESTS / "base", MANIFESTS / "overlays" / "edge"):
        assert "gearshift-settings" not in named(render(folder), "ConfigMap")
