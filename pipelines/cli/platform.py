"""``gearshift manifests``, ``rules`` and ``sessions``: what a platform team writes and records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ, RESULT_FILE, PathRole
from pipelines.cli.console import Json, configured_by, option, show

MANIFESTS = PathRole(
    "workplace",
    shared_by="manifests",
    sign=("components/promoted/kustomization.yaml", "# Written "),
)
"""A folder of manifests; an installation writes one as well."""


@configured_by("inference_graph.control.manifests.options:ManifestOptions")
def manifests(
    config: Any,
    out: Annotated[
        Path,
        option("--out", help="Folder of the manifests; other files in it stay."),
        MANIFESTS,
    ],
    as_json: Json = False,
) -> None:
    """Write the Kubernetes manifests: the whole platform for a laptop, GKE, on premises, one node.

    Install one with `kubectl apply -k deploy/overlays/onprem`; docs/install.md lists what it needs.

    Example: `gearshift manifests --namespace vision --hostname vision.example --out deploy`
    """
    from inference_graph.control.manifests.writer import write_manifests

    show({"out": out, "files": len(write_manifests(out, config))}, as_json)


@configured_by("inference_graph.control.monitoring.objectives:Objectives")
def rules(
    config: Any,
    out: Annotated[Path, option(help="The rules file."), RESULT_FILE] = Path("rules.yaml"),
    as_json: Json = False,
) -> None:
    """Write the recording rules and alerts for Prometheus, with your own objectives.

    `gearshift up --monitoring --rules FILE` and any Prometheus take the file as it is; for the
    Prometheus operator it is the spec of a PrometheusRule.

    Example: `gearshift rules --routing-floor 0 --latency-target 0.999 --out rules.yaml`
    """
    from foundation.storage import atomic_path
    from inference_graph.control.monitoring.rules import rules_text

    with atomic_path(out) as partial:
        partial.write_text(rules_text(config), encoding="utf-8")
    if as_json:
        show({"rules": out}, as_json)
    else:
        print(out)


def sessions(
    log: Annotated[str, option(help="Prediction log: a folder, s3:// or gs://."), READ],
    tracking_uri: Annotated[
        str, option(help="MLflow's tracking URI; mlflow.db in the folder runs without it.")
    ] = "",
    experiment: Annotated[str, option(help="MLflow experiment.")] = "gearshift-sessions",
    as_json: Json = False,
) -> None:
    """Make an MLflow run of every stream session in a log that has none yet.

    Example: `gearshift sessions --log runs/up/log --tracking-uri sqlite:///runs/mlflow.db`
    """
    from components.evaluation.stream_sessions import record_sessions
    from components.tracking import database_in

    uri = tracking_uri or database_in(Path("runs"))
    show({"recorded": record_sessions(log, uri, experiment)}, as_json)
