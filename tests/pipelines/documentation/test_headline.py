"""The README's table is written from a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import InvalidInput
from pipelines.documentation.headline import SHOWN, headline, write_headline

ROOT = Path(__file__).resolve().parents[3]


def report() -> dict[str, Any]:
    row = {"map": 0.7, "retained": 0.98, "mean_ms": 12.0, "p95_ms": 14.0, "usd_per_million": 0.3}
    return {
        "rows": [{"name": name, **row} for name in SHOWN],
        "latency_ratio": 0.154,
        "lift": {
            "over_hull": {"value": 0.0123, "low": -0.004, "high": 0.03},
            "over_rule": {"value": None, "low": None, "high": None},
            "rule": "object-count",
        },
        "gate": {"checks": [{"name": "retained", "passed": True}]},
    }


def test_the_policy_has_its_lift_with_an_interval() -> None:
    lines = headline(report()).splitlines()
    assert lines[5] == (
        "| **gearshift** | 0.700 | 98.0% | +1.2 points (95 % interval -0.4 to +3.0) | 12.0 | 14.0 "
        "| 0.30 |"
    )
    assert lines[-1] == (
        "The policy runs at 15.4% of large's mean latency. Its lift over the best rule, "
        "`object-count`, is not measured. It passes the gate."
    )


def test_a_refusal_is_reported() -> None:
    refused = report()
    refused["gate"]["checks"][0]["passed"] = False
    assert headline(refused).endswith("The gate refuses it: retained.\n")


def test_only_the_table_is_replaced(tmp_path: Path) -> None:
    readme, file = tmp_path / "README.md", tmp_path / "report.json"
    before = (ROOT / "README.md").read_text("utf-8")
    readme.write_text(before, "utf-8")
    file.write_text(json.dumps(report()), "utf-8")
    shown = write_headline(readme, file)
    once = readme.read_text("utf-8")
    write_headline(readme, file)
    assert readme.read_text("utf-8") == once and once.count(shown) == 1
    assert once.partition("<!-- headline")[0] == before.partition("<!-- headline")[0]
    assert once.partition("<!-- /headline")[2] == before.partition("<!-- /headline")[2]
    readme.write_text("nothing", "utf-8")
    with pytest.raises(InvalidInput, match="headline"):
        write_headline(readme, file)
