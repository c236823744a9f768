"""``gearshift cluster``: look at a cluster, see what runs on it, take it away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from foundation.path_roles import READ
from pipelines.cli.console import Json, configured_by, group, notes, option, show
from pipelines.cli.interrupts import until_interrupted

if TYPE_CHECKING:
    from inference_graph.control.installer.kubectl import Kubectl

cluster = group(
    "The whole platform on a Kubernetes cluster: `check` it, `install`, see its `status`, "
    "`uninstall`."
)

Target = Annotated[
    str,
    option(
        help="kind (a laptop), gke (Google), onprem (your own machines) or edge (one node, without "
        "KServe).",
        metavar="kind|gke|onprem|edge",
    ),
]
Context = Annotated[str, option(help="Of the kubeconfig; its current one without it.")]
Kubeconfig = Annotated[
    Path | None,
    option(help="File of the clusters and credentials; kubectl's own without it."),
    READ,
]
Verbose = Annotated[
    bool, option("--verbose", "-v", help="Show every kubectl command before it runs.")
]
_MARKS = {"ok": "green", "missing": "red", "unknown": "yellow"}


@cluster.command()
@configured_by("inference_graph.control.manifests.options:ManifestOptions")
def check(
    config: Any,
    target: Target,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    probe: Annotated[
        bool,
        option(
            help="Also try, with pods in a namespace that is deleted again, whether "
            "NetworkPolicies are enforced and images can be pulled."
        ),
    ] = True,
    probe_seconds: Annotated[float, option(min=1, help="How long each probe may take.")] = 180,
    probe_image: Annotated[
        str, option(help="Image with a shell, wget and httpd; busybox without it.")
    ] = "",
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Look whether a cluster has what an installation needs; report how to mend what is missing.

    Kubernetes' version, the kinds that the manifests use, cert-manager, KServe's version and mode,
    the Gateway API, GPUs, a default StorageClass, rights, and by two short pods whether
    NetworkPolicies are enforced. Each is ok, missing or unknown, with the command that mends it.
    Exit code 1 if something that is needed is missing.

    Example: `gearshift cluster check --target kind`
    """
    from inference_graph.control.installer.checks import check_cluster
    from inference_graph.control.installer.overlay import read_overlay
    from inference_graph.control.installer.pods import PROBE_IMAGE
    from inference_graph.control.installer.probes import probe_cluster

    overlay = read_overlay(target, config)
    kubectl = reached(config, context, kubeconfig, verbose)
    found = []

    def looks() -> Iterator[Any]:
        yield from check_cluster(kubectl, overlay)
        if probe:
            yield from probe_cluster(kubectl, overlay, probe_seconds, probe_image or PROBE_IMAGE)

    # SIGTERM ends it as Ctrl-C does, so that the probes' namespace goes.
    with until_interrupted(), progress() as say:
        say(f"looking at {where(kubectl)}")
        for one in looks():
            found.append(one)
            if not as_json:
                _print_check(one)
    if as_json:
        show({"target": target, "checks": found}, as_json)
    refuse(found, "")


@cluster.command()
@configured_by("inference_graph.control.manifests.options:ManifestOptions")
def status(
    config: Any,
    target: Target,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Show what runs: version, weights and policy, canaries, and whether it can be reached.

    Exit code 1 if something does not serve.

    Example: `gearshift cluster status --target kind --json`
    """
    from foundation.errors import Unavailable
    from inference_graph.control.installer.overlay import read_overlay
    from inference_graph.control.installer.status import read_status

    overlay = read_overlay(target, config)
    found = read_status(reached(config, context, kubeconfig, verbose), overlay)
    if as_json:
        show(found, as_json)
    else:
        version = ", ".join(found.versions) or "nothing"
        print(
            f"{target} in {found.namespace}: {version}; answered a frame: {found.answered or 'no'}"
        )
        for one in found.serving.workloads:
            state = "serves" if one.ready else f"does not serve: {one.reason}"
            print(f"  {one.name:<32} {one.replicas[0]}/{one.replicas[1]}  {state}")
        for name in found.serving.unreachable:
            print(f"  service/{name:<24} no ready endpoint")
        for model in found.models:
            digest = f" sha256 {model.sha256[:12]}" if model.sha256 else ""
            canary = model.canary
            beside = f"; canary {canary.storage}, {canary.percent} %" if canary else ""
            print(f"  {model.name:<8} {model.storage}{digest}{beside}")
        reachable = {True: "reachable", False: "not reachable", None: "unknown"}[found.reachable]
        print(f"  gateway: {reachable} ({found.says})")
    if not found.well:
        raise Unavailable(found.serving.waiting or f"the gateway: {found.says}")


@cluster.command()
@configured_by("inference_graph.control.manifests.options:ManifestOptions")
def uninstall(
    config: Any,
    target: Target,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    data: Annotated[
        bool, option("--data", help="Claims (weights, log, databases) and secrets too.")
    ] = False,
    yes: Annotated[bool, option("--yes", help="Do it; without it, only list.")] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Print the commands only.")] = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Take an installation away. Data stay: the claims with weights and log, and the secrets.

    Without `--yes` it lists what would go and what would stay. With `--data` the data go too, and
    cannot be had back. The namespace stays, and so does what somebody else made under a name of
    the installation: all that is installed has the label `app.kubernetes.io/part-of=gearshift`.

    Example: `gearshift cluster uninstall --target kind --yes`
    """
    from foundation.errors import ConfigurationError
    from inference_graph.control.installer.overlay import read_overlay
    from inference_graph.control.installer.ownership import MARK
    from inference_graph.control.installer.uninstall import find_installed, remove

    overlay = read_overlay(target, config)
    kubectl = reached(config, context, kubeconfig, verbose)
    removal = find_installed(kubectl, overlay, data)
    if dry_run:
        for arguments in removal.commands(kubectl.namespace):
            print(kubectl.line(arguments))
        return
    gone = removal.goes
    stays = () if data else removal.data
    if as_json:
        found = {"found": gone, "kept": stays, "others": removal.others}
        show({"removed": gone if yes else (), **found}, as_json)
    else:
        for title, names in (("goes", gone), ("stays", stays)):
            for name in names:
                print(f"{title:<6} {name}")
        for name in removal.others:
            print(f"stays  {name} (somebody else's: without the label {MARK})")
    if not gone:
        notes.print(f"nothing is installed in the namespace {config.namespace}", markup=False)
    elif yes:
        with progress() as say:
            say(f"taking {len(gone)} objects away")
            remove(kubectl, removal)
    else:
        raise ConfigurationError(f"nothing was taken away; say --yes to remove {len(gone)} objects")


def reached(config: Any, context: str, kubeconfig: Path | None, verbose: bool) -> Kubectl:
    """The cluster that the options name; raises ConfigurationError where there is no such file."""
    from foundation.errors import ConfigurationError
    from inference_graph.control.installer.kubectl import Kubectl

    if kubeconfig is not None and not kubeconfig.is_file():
        raise ConfigurationError(f"there is no kubeconfig {kubeconfig}; name another file")

    def typed(command: str) -> None:
        notes.print(f"$ {command}", style="dim", markup=False, soft_wrap=True)

    return Kubectl(config.namespace, context, kubeconfig, *([typed] if verbose else []))


def where(kubectl: Kubectl) -> str:
    """How messages call the cluster."""
    return f"the context {kubectl.context}" if kubectl.context else "the current context"


def _print_check(one: Any) -> None:
    from rich.markup import escape

    colour = _MARKS[one.state] if one.needed else "yellow" if one.state != "ok" else "green"
    _out().print(f"[{colour}]{one.state:<8}[/] {escape(one.name):<16} {escape(one.found)}")
    if one.mend:
        _out().print(f"         {escape(one.mend)}", style="bold")


def _out() -> Any:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def refuse(found: list[Any], install: str) -> None:
    """Stop where something needed is missing."""
    from foundation.errors import GateRefused

    missing = [one for one in found if one.stops]
    if not missing:
        return
    names = ", ".join(one.name for one in missing)
    if install:
        first = missing[0]
        raise GateRefused(
            f"the cluster lacks {names}. {first.name}: {first.found}; mend it: {first.mend}. "
            f"`gearshift cluster check {install}` says the rest"
        )
    raise GateRefused(f"{len(missing)} of {len(found)} checks found something missing: {names}")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show what is done, in one line that changes; nothing where there is no terminal."""
    if not notes.is_terminal:
        yield lambda text: None
        return
    from rich.markup import escape

    with notes.status("") as line:
        yield lambda text: line.update(escape(text))
