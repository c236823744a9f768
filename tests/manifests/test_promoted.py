"""A promotion outlives the manifests: they are written again, and applied again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from overlays import MANIFESTS, OVERLAYS, kustomized, named, rendered

from foundation.errors import ConfigurationError
from inference_graph.control.manifests import ManifestOptions, render, write_manifests
from inference_graph.control.manifests.promoted import Promoted, read_promoted
from inference_graph.control.manifests.writer import write_promoted

NEW = {
    "small": Promoted("pvc://gearshift-models/ladder-2", "1" * 64),
    "router": Promoted("s3://models/policy-7", "2" * 64),
}


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    write_manifests(tmp_path, ManifestOptions(namespace="fleet"))
    write_promoted(tmp_path, NEW)
    return tmp_path


def model(folder: Path, overlay: str, name: str) -> dict[str, Any]:
    documents = render(folder / "overlays" / overlay)
    found: dict[str, Any] = named(documents, "InferenceService")[name]["spec"]["predictor"]["model"]
    return found


def test_every_overlay_ends_with_it() -> None:
    for overlay in OVERLAYS:
        listed = yaml.safe_load(
            (MANIFESTS / "overlays" / overlay / "kustomization.yaml").read_text()
        )
        if overlay != "edge":
            elsewhere = ("/kubeflow-runs", "/kafka-topics")  # of another namespace
            own = [one for one in listed["components"] if not one.endswith(elsewhere)]
            assert own[-1] == "../../components/promoted"


@pytest.mark.parametrize("overlay", ["cpu", "onprem"])
def test_it_counts_more_than_what_comes_before(overlay: str, deploy: Path) -> None:
    for name in ("nano", "small", "large", "router"):
        before = named(rendered(overlay), "InferenceService")[name]["spec"]["predictor"]["model"]
        after = model(deploy, overlay, name)
        if name not in NEW:
            assert after == before
            continue
        assert after["storageUri"] == NEW[name].source
        assert after["args"] == [*before["args"], f"--sha256={NEW[name].sha256}"]


def test_the_manifests_are_written_again_and_keep_it(deploy: Path) -> None:
    assert read_promoted(deploy) == NEW
    write_manifests(deploy, ManifestOptions(namespace="fleet", version="0.2.0"))
    assert read_promoted(deploy) == NEW
    assert model(deploy, "cpu", "small")["storageUri"] == NEW["small"].source
    write_promoted(deploy, {})
    assert read_promoted(deploy) == {}
    assert model(deploy, "cpu", "small")["storageUri"] == "pvc://gearshift-models/ladder"


def test_kubectl_renders_it_alike(deploy: Path) -> None:
    text = kustomized(deploy / "overlays" / "cpu")
    services = named(list(yaml.safe_load_all(text)), "InferenceService")
    for name, one in NEW.items():
        assert services[name]["spec"]["predictor"]["model"] == model(deploy, "cpu", name)
        assert one.source in text


def test_what_it_did_not_write_is_refused(deploy: Path, tmp_path: Path) -> None:
    (deploy / "components" / "promoted" / "small.yaml").write_text("- {op: remove, path: /spec}\n")
    with pytest.raises(ConfigurationError, match="holds other patches"):
        write_manifests(deploy)
    with pytest.raises(ConfigurationError, match="holds no manifests"):
        write_promoted(tmp_path / "elsewhere", NEW)


@pytest.mark.parametrize("overlay", ["kind", "gke", "onprem"])
def test_an_apply_leaves_replicas_to_who_decides_on_them(overlay: str) -> None:
    """An apply in the middle of a rollout once ended its controller, and streams of gateways."""
    documents = rendered(overlay)
    assert "replicas" not in named(documents, "Deployment")["rollout"]["spec"]
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for one in named(documents, kind).values()
    }
    for kind in ("Deployment", "StatefulSet"):
        for name, one in named(documents, kind).items():
            assert ("replicas" in one["spec"]) != (name in scaled | {"rollout"}), name
