"""Files that the ledger leaves out are named above its page."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from experiment_samples import small_ledger, write
from plotly.utils import PlotlyJSONEncoder

from dashboards.pages.experiments.page import layout


@pytest.mark.usefixtures("no_shipped")
def test_the_page_goes_on_and_says_what_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "base")

    def page() -> str:
        ledger = small_ledger(tmp_path)
        ledger.close()
        sources = SimpleNamespace(config=SimpleNamespace(ledger=tmp_path / "ledger"))
        return json.dumps(layout(cast(Any, sources), {}), cls=PlotlyJSONEncoder)

    assert "left out" not in page()
    (tmp_path / "experiments" / "no name.yaml").write_text("")
    shown = page()
    assert "Some files are left out" in shown
    assert "no name.yaml is left out: 'no name' is no name of an experiment" in shown
