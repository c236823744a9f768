"""The rules as files: one source for a Prometheus of one's own and for the operator's."""

from __future__ import annotations

from typing import Any

import yaml

from inference_graph.control.monitoring.alerts import alert_rules
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.records import record_rules


def rule_groups(objectives: Objectives) -> dict[str, Any]:
    """The content of a rules file, which is the ``spec`` of a PrometheusRule as well.

    A group's rules run one after the other, so that alerts see what was just recorded.
    """
    return {
        "groups": [
            {
                "name": "gearshift",
                "rules": [*record_rules(), *alert_rules(objectives)],
            }
        ]
    }


def rules_text(objectives: Objectives) -> str:
    """The rules as Prometheus reads them from a file."""
    return yaml.safe_dump(rule_groups(objectives), sort_keys=False, width=100)
