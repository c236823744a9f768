"""The command line: every verb in its group.

Rooms are imported where they are called, so that ``gearshift --help`` answers at once.
"""

from __future__ import annotations

from pipelines.cli.audit import audit
from pipelines.cli.bench import bench
from pipelines.cli.cluster_install import cluster
from pipelines.cli.console import group
from pipelines.cli.data import data, scenes
from pipelines.cli.demo_drift import demo_drift
from pipelines.cli.drift import drift
from pipelines.cli.edge import bundle, edge
from pipelines.cli.experiment_runs import experiment
from pipelines.cli.feedback import feedback
from pipelines.cli.graph import graph
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

app = group("The right-sized detector for every frame.")
app.command()(scenes)
app.command()(route)
app.command()(dashboard)
app.command()(up)
app.command()(stream)
app.command()(manifests)
app.command()(rules)
app.command()(sessions)
app.command()(demo)
app.add_typer(data, name="data")
app.add_typer(ladder, name="ladder")
app.add_typer(pipeline, name="pipeline")
app.add_typer(graph, name="graph")
app.add_typer(token, name="token")
app.add_typer(notify, name="notify")
app.add_typer(bench, name="bench")
app.add_typer(drift, name="drift")
app.add_typer(experiment, name="experiment")
app.add_typer(feedback, name="feedback")
app.add_typer(triggers, name="triggers")
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")
app.add_typer(key, name="key")
app.add_typer(edge, name="edge")
app.add_typer(rollout, name="rollout")
app.add_typer(cluster, name="cluster")
app.command("demo drift")(demo_drift)
app.command()(retrain)
app.command()(sign)
app.command()(bundle)
bench.command("rollout")(bench_rollout)
