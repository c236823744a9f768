"""What a test needs and may not find: skipped without it, or a failure where CI demands all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from made_once import made_once

pytest_plugins = ["experiment_fixtures", "feedback_fixtures", "signing_fixtures"]

REQUIRE_ALL = "GEARSHIFT_REQUIRE_ALL"
_PROGRAMS = {
    "browser": ("chromium", "chromium-browser", "google-chrome"),
    "mono": ("mcs",),
    "promtool": ("promtool",),
}
if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker and what it starts has one core of its own: more threads would wait for each other.
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")
_LONGEST = ("whole_chain", "retraining", "training_run", "serving_bench", "platform_monitoring")
"""Modules that take minutes: they come first, so that no worker is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest modules first, then the others with slow tests, then the rest."""
    longest = [f"test_{name}" for name in _LONGEST]
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> int:
        stem = item.path.stem
        return longest.index(stem) if stem in longest else len(longest) + (item.path not in slow)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    """A test that skips for want of a package or a program fails where all are required."""
    report = yield
    if report.skipped and os.environ.get(REQUIRE_ALL) == "1" and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
        if any(words in reason for words in ("could not import", "is not installed")):
            report.outcome, report.longrepr = "failed", f"{reason}, and {REQUIRE_ALL} is set"
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, programs in _PROGRAMS.items():
        if item.get_closest_marker(marker) is None or any(map(shutil.which, programs)):
            continue
        _do_without(f"needs {' or '.join(programs)}")


@pytest.fixture(scope="session", autouse=True)
def audit_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests do is no part of the audit of whoever runs them."""
    os.environ["GEARSHIFT_AUDIT"] = str(tmp_path_factory.mktemp("audit") / "audit.jsonl")


@pytest.fixture(scope="session")
def sample_ladder() -> Path:
    """Folder of the committed weights."""
    folder = Path(__file__).resolve().parents[1] / "ladder"
    if not (folder / "large.onnx").is_file():
        _do_without("needs the sample ladder's weights in ladder/")
    return folder


@pytest.fixture(scope="session")
def light_ladder(sample_ladder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder of real detectors that is a fifth of the sample ladder's work.

    Its nano is the sample's at a smaller input, its small the sample's nano, and its large the
    sample's small: for tests of what a pipeline does, whatever its detectors cost.
    """

    def make(folder: Path) -> Path:
        from components.ladder.resize import resize_rung

        resize_rung(sample_ladder / "nano.onnx", folder / "nano.onnx", "nano", 128, 160)
        for rung, source in (("small", "nano"), ("large", "small")):
            (folder / f"{rung}.onnx").symlink_to(sample_ladder / f"{source}.onnx")
        return folder

    return made_once(tmp_path_factory, "light-ladder", make)


def _do_without(reason: str) -> None:
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL} is set", pytrace=False)
    pytest.skip(reason)
