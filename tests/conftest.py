"""Tests that need an outside program are skipped without it, or fail where CI demands all."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRE_ALL = "GEARSHIFT_REQUIRE_ALL"
_PROGRAMS = {
    "browser": ("chromium", "chromium-browser", "google-chrome"),
    "promtool": ("promtool",),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, programs in _PROGRAMS.items():
        if item.get_closest_marker(marker) is None or any(map(shutil.which, programs)):
            continue
        reason = f"needs {' or '.join(programs)}"
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(f"{reason}, and {REQUIRE_ALL} is set", pytrace=False)
        pytest.skip(reason)
