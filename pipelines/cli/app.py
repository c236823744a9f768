"""The command line: every verb in its group.

Rooms are imported where they are called, so that ``gearshift --help`` answers at once.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
import typer.main

from pipelines.cli.audit import audit
from pipelines.cli.batch import batch
from pipelines.cli.bench import bench
from pipelines.cli.cluster_install import cluster
from pipelines.cli.console import group, option
from pipelines.cli.data import data, scenes
from pipelines.cli.demo_drift import demo_drift
from pipelines.cli.demo_streams import demo_streams
from pipelines.cli.drift import drift
from pipelines.cli.edge import bundle, edge
from pipelines.cli.experiment_runs import experiment
from pipelines.cli.feedback import feedback
from pipelines.cli.graph import graph
from pipelines.cli.kafka import kafka
from pipelines.cli.keys import key, sign
from pipelines.cli.ladder import ladder
from pipelines.cli.notify import notify
from pipelines.cli.pipeline import demo, pipeline
from pipelines.cli.platform import manifests, rules, sessions
from pipelines.cli.policy import policy, retrain
from pipelines.cli.rollout import bench_rollout, rollout
from pipelines.cli.serving import dashboard, route, stream, up
from pipelines.cli.tokens import token
from pipelines.cli.triggers import triggers

app = group("The right-sized detector for every frame.", add_completion=True)

_PANELS: dict[str, dict[str, Any]] = {
    "Start here": {
        "demo": demo,
        "up": up,
        "stream": stream,
        "route": route,
        "batch": batch,
        "kafka": kafka,
        "demo streams": demo_streams,
        "dashboard": dashboard,
    },
    "Data and detectors": {"scenes": scenes, "data": data, "ladder": ladder},
    "Train and compare": {
        "pipeline": pipeline,
        "policy": policy,
        "retrain": retrain,
        "experiment": experiment,
    },
    "Watch and improve": {
        "drift": drift,
        "feedback": feedback,
        "triggers": triggers,
        "rollout": rollout,
        "sessions": sessions,
        "demo drift": demo_drift,
    },
    "Deploy": {
        "cluster": cluster,
        "manifests": manifests,
        "graph": graph,
        "rules": rules,
        "notify": notify,
        "bundle": bundle,
        "edge": edge,
    },
    "Security": {"token": token, "key": key, "sign": sign, "audit": audit},
    "Measure": {"bench": bench},
}
"""The verbs as `gearshift --help` shows them: what is needed first stands first."""

for _panel, _entries in _PANELS.items():
    for _name, _verb in _entries.items():
        if isinstance(_verb, typer.Typer):
            app.add_typer(_verb, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_verb)
bench.command("rollout")(bench_rollout)


def root_command() -> Any:
    """The whole command line as one command, for those who read its verbs and options."""
    return typer.main.get_command(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"gearshift {version('gearshift')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """The right-sized detector for every frame."""
