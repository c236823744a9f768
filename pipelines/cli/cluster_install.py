"""``gearshift cluster install``, and its parts for those who install by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from foundation.path_roles import READ
from pipelines.cli.cluster import (
    Context,
    Kubeconfig,
    Target,
    Verbose,
    cluster,
    progress,
    reached,
    refuse,
    where,
)
from pipelines.cli.console import Json, Ladder, configured_by, notes, option, show
from pipelines.cli.platform import MANIFESTS

__all__ = ["cluster"]

if TYPE_CHECKING:
    from inference_graph.control.installer.overlay import Overlay
    from inference_graph.control.installer.steps import Plan

Policy = Annotated[Path, option(help="The policy's ONNX file."), READ]
_POLICY = Path("runs/demo/policy.onnx")


@cluster.command()
@configured_by("inference_graph.control.manifests.options:ManifestOptions")
def install(
    config: Any,
    target: Target,
    ladder: Ladder = "",
    policy: Policy = _POLICY,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    out: Annotated[
        Path,
        option(help="Folder that the manifests are written to, and applied from."),
        MANIFESTS,
    ] = Path("deploy"),
    client: Annotated[
        str, option(help="Whose access token is made and shown, where there is none yet.")
    ] = "first",
    claim_mode: Annotated[
        str,
        option(
            help="Access mode of the weights' claim: ReadWriteOnce, or ReadWriteMany where "
            "pods run on several nodes."
        ),
    ] = "ReadWriteOnce",
    seconds: Annotated[float, option(min=1, help="How long it may take to serve.")] = 900,
    dry_run: Annotated[
        bool, option("--dry-run", help="Do nothing; print the commands, as a shell script.")
    ] = False,
    checked: Annotated[
        bool, option("--check/--no-check", help="Look first whether the cluster has what it needs.")
    ] = True,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Install on a cluster: from an empty namespace to an answered frame.

    Makes the namespace and the secrets (generated; the first client's token is shown once), puts
    ladder and policy on their claim or into their bucket, applies the manifests, waits until all
    of it serves, and sends one frame through the gateway and the graph.

    What is there is never written over. Interrupted, run it again: it goes on where it was. Run
    on a complete installation it changes nothing, and reports that. Other weights go out by
    `gearshift rollout start`. Options besides those of the installation are the manifests' own.

    Examples: `gearshift cluster install --target kind`, `gearshift cluster install --target onprem
    --namespace vision --image registry.example/team/gearshift --hostname vision.example`, and
    `gearshift cluster install --target kind --dry-run > install.sh`
    """
    from inference_graph.control.installer.checks import check_cluster
    from inference_graph.control.installer.install import install as run
    from inference_graph.control.installer.overlay import forward, read_overlay, written_overlay
    from inference_graph.control.installer.script import install_script
    from inference_graph.control.manifests.names import DASHBOARD

    kubectl = reached(config, context, kubeconfig, verbose)
    config = _for_ladder(config, ladder)

    def plan(overlay: Overlay) -> Plan:
        return _plan(overlay, ladder, policy, out, client, claim_mode, seconds)

    if dry_run:
        print(install_script(plan(read_overlay(target, config)), kubectl), end="")
        return
    plan(read_overlay(target, config))  # reports what is wrong on this machine first
    with progress() as say:
        say(f"looking at {where(kubectl)}")
        overlay = written_overlay(target, config, out)
        if checked:
            refuse(list(check_cluster(kubectl, overlay)), f"--target {target}")
        result = run(kubectl, plan(overlay), say, _show_token)
    if as_json:
        show(result, as_json)
        return
    done = f"{len(result.changed)} made or changed" if result.changed else "nothing to change"
    print(
        f"Gearshift {config.version} ({target}) serves in the namespace {config.namespace}: {done}"
    )
    if result.answers:
        parts = [
            f"{name} {one['rung']}, {one['detections']} objects, {one['milliseconds']:.0f} ms"
            for name, one in result.answers.items()
        ]
        print(f"one frame  {'; '.join(parts)}")
    print(f"gateway    {result.gateway}")
    if DASHBOARD in overlay.named("Deployment"):
        host = f"dashboard.{config.hostname}"
        address = f"https://{host}" if host in overlay.hosts else ""
        print(f"dashboard  {address or forward(config.namespace, DASHBOARD, 8602)}")
    if result.kept:
        print(f"kept other weights: {', '.join(result.kept)}; change them by gearshift rollout")


@cluster.command()
@configured_by("inference_graph.control.manifests.options:ManifestOptions")
def secrets(
    config: Any,
    target: Target,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    client: Annotated[str, option(help="Whose access token is made and shown.")] = "first",
    additions: Annotated[
        bool,
        option(
            "--additions",
            help="Print gearshift-tokens with the digests it lacks instead; for kubectl replace.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Generate the secrets that are missing, and print them for `kubectl create -f -`.

    For those who keep secrets elsewhere, or install by hand; `gearshift cluster install` does the
    same. The first client's token is shown on standard error. Nothing is printed where none is
    missing.

    Example: `gearshift cluster secrets --target onprem | kubectl -n gearshift create -f -`
    """
    from inference_graph.control.installer import secrets as room
    from inference_graph.control.installer.kubectl import yaml_text
    from inference_graph.control.installer.overlay import read_overlay

    overlay = read_overlay(target, config)
    there = room.present(reached(config, context, kubeconfig, False), room.generated(overlay))
    making = room.missing(overlay, there, client)
    documents: Sequence[Any] = making.created
    if additions:
        documents = [] if making.extended is None else [making.extended]
    elif making.client_token:
        _show_token(client, making.client_token)
    if as_json:
        show({"apiVersion": "v1", "kind": "List", "items": documents}, as_json)
    elif documents:
        print(yaml_text(documents), end="")


@cluster.command()
def upload(
    storage: Annotated[str, option(help="s3:// or gs://, as `gearshift manifests --storage`.")],
    ladder: Ladder = "",
    policy: Policy = _POLICY,
    as_json: Json = False,
) -> None:
    """Put ladder and policy into the bucket that the services read them from.

    With this machine's credentials; what lies there stays. `gearshift cluster install` does the
    same.

    Example: `gearshift cluster upload --storage gs://vision-data --policy runs/demo/policy.onnx`
    """
    from foundation.storage import sha256_file
    from inference_graph.control.installer.bucket import upload_to_bucket
    from inference_graph.control.installer.steps import weight_files
    from pipelines.ladder_files import ladder_files

    files = weight_files(ladder_files(ladder), policy)
    digests = {name: sha256_file(path) for name, path in files.items()}
    stored, kept = upload_to_bucket(storage, files, digests)
    show({"stored": stored, "kept": kept}, as_json)


def _for_ladder(config: Any, ladder: str) -> Any:
    """The options with the task of the ladder, whose image and processors the services need."""
    from dataclasses import replace

    from feature_transformer.makers import DETECTION
    from foundation.errors import ConfigurationError
    from inference_graph.contract import LADDER
    from inference_graph.tasks.rung import task_of
    from pipelines.ladder_files import ladder_files

    task = task_of(ladder_files(ladder)[LADDER[0]])
    if config.task not in (DETECTION, task):
        raise ConfigurationError(
            f"task is {config.task}, and the ladder is for {task}; name a ladder of {config.task} "
            "with --ladder"
        )
    return replace(config, task=task)


def _plan(
    overlay: Overlay,
    ladder: str,
    policy: Path,
    out: Path,
    client: str,
    claim_mode: str,
    seconds: float,
) -> Plan:
    from inference_graph.control.installer.steps import Plan, weight_files
    from inference_graph.router.policy import Policy as Loaded
    from pipelines.ladder_files import ladder_files

    weights = weight_files(ladder_files(ladder), policy)
    # One that no gateway would take shall not get that far.
    Loaded(policy, task=overlay.options.task)
    return Plan(overlay, weights, out, client, claim_mode, seconds)


def _show_token(client: str, token: str) -> None:
    notes.print(
        f"token of {client} (role stream), shown this once: {token}", markup=False, soft_wrap=True
    )
