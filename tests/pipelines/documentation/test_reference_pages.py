"""The reference pages are those that the code makes, and have everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import gearshift
from inference_graph.metric_names import ALL_FIGURES
from pipelines.documentation.reference import COMMAND, ENVIRONMENT, PAGES
from pipelines.training.stages import STAGES, stage_defaults

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("components", "dashboards", "inference_graph", "pipelines", "transformers")
NOT_SET_BY_PEOPLE = {
    "GEARSHIFT_PAYLOAD_LOG",
    "GEARSHIFT_PAYLOAD_LOG_MODE",
    "GEARSHIFT_PROMETHEUS_URL",
    "GEARSHIFT_TRIGGER_LAUNCH",
    "GEARSHIFT_TRIGGER_REASON",
    "GEARSHIFT_TRIGGER_RULE",
    "GEARSHIFT_VERSION",
}
"""Manifests, images and triggers set them."""


def verbs(app: typer.Typer, words: tuple[str, ...] = ()) -> Iterator[str]:
    for command in app.registered_commands:
        name = command.name or str(command.callback and command.callback.__name__)
        yield " ".join((*words, name.replace("_", "-")))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from verbs(group.typer_instance, (*words, str(group.name)))


def page(name: str) -> str:
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    assert page(name) == PAGES[name](), f"run {COMMAND}"


def test_every_verb_and_option_is_on_its_page() -> None:
    text = page("cli")
    headings = set(re.findall(r"^##+ gearshift (.+)$", text, re.MULTILINE))
    assert set(verbs(gearshift.app)) <= headings
    assert "--open-access" in text and "--learning-rate" in text


def test_every_option_of_a_stage_and_every_metric_is_on_its_page() -> None:
    configuration, metrics = page("configuration"), page("metrics")
    for stage in STAGES:
        for name in stage_defaults(stage):
            assert f"`{stage}.{name}`" in configuration
    for one in ALL_FIGURES:
        assert f"`{one.name}`" in metrics


def test_every_variable_of_the_code_is_explained() -> None:
    found = {
        name
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
        if file.parent.name != "documentation"
        for name in re.findall(r"\bGEARSHIFT_[A-Z_]*[A-Z]\b", file.read_text("utf-8"))
    }
    assert found - NOT_SET_BY_PEOPLE == set(ENVIRONMENT)
