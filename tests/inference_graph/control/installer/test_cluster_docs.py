"""What docs/install.md says an installation does is what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster_world import running_world

from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import read_overlay
from inference_graph.control.installer.script import install_script
from inference_graph.control.installer.secrets import generated
from inference_graph.control.installer.steps import Plan, weight_files
from inference_graph.control.manifests import ManifestOptions

ROOT = Path(__file__).resolve().parents[4]
TEXT = (ROOT / "docs" / "install.md").read_text("utf-8")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    with running_world(tmp_path_factory.mktemp("docs")) as world:
        weights = weight_files(world.ladder, world.policy)
        plan = Plan(read_overlay("kind", ManifestOptions()), weights)
        return install_script(plan, Kubectl("gearshift"))


def test_its_steps_are_those_of_the_dry_run_in_their_order(script: str) -> None:
    (block,) = re.findall(r"In short:\n\n```\n(.*?)```", TEXT, re.DOTALL)
    printed = script.splitlines()
    at = 0
    for line in block.splitlines():
        start, cut, _ = line.partition("…")
        found = [
            number
            for number in range(at, len(printed))
            if (printed[number].startswith(start.rstrip()) if cut else printed[number] == line)
        ]
        assert found, line
        at = found[0] + 1


@pytest.mark.parametrize("target", ["kind", "onprem"])
def test_it_names_every_secret_that_is_generated(target: str) -> None:
    named = set(re.findall(r"^\| `(gearshift-[a-z0-9]+)` \|", TEXT, re.MULTILINE))
    assert set(generated(read_overlay(target, ManifestOptions()))) <= named
