"""What docs/install.md states that an installation does is what it prints."""

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
    (block,) = re.findall(r"In short:\n\n```[^\n]*\n(.*?)```", TEXT, re.DOTALL)
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


@pytest.mark.parametrize(
    "section", TEXT.split("\n## ")[1:], ids=lambda text: text.partition("\n")[0]
)
def test_a_namespace_is_made_before_something_is_made_in_it(section: str) -> None:
    """By the installation, or by a command of the same section."""
    made = [section.find(one) for one in ("cluster install", "kubectl create namespace gearshift")]
    first = min((one for one in made if one >= 0), default=len(section))
    for found in re.finditer(r"kubectl (-n|--namespace) gearshift \w+", section):
        assert first < found.start() or "In short:" in section[: found.start()], found[0]


def test_a_secret_is_made_in_a_namespace_that_is_named() -> None:
    """Without one it lands in the current context's; operations.md sets that once, at its top."""
    for path in (ROOT / "docs" / "install.md", *(ROOT / "manifests").rglob("*.md")):
        for line in path.read_text("utf-8").splitlines():
            if "create secret" in line:
                assert re.search(r"kubectl (-n|--namespace) \S+ create secret", line), (path, line)
