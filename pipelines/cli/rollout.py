"""``gearshift rollout``: a new detector or policy takes over step by step, or goes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from foundation.path_roles import KEPT_FOLDER, READ
from pipelines.cli.console import (
    Json,
    Ladder,
    argument,
    configured_by,
    group,
    note,
    option,
    progress_bar,
    show,
)

if TYPE_CHECKING:
    from inference_graph.control.rollout.state import RolloutState

rollout = group("Canary rollouts: a new detector or policy takes over step by step, or goes back.")

Folder = Annotated[
    Path,
    option(
        envvar="GEARSHIFT_ROLLOUTS",
        help="Folder of the rollouts: `rollout` in the state folder of gearshift up.",
    ),
    KEPT_FOLDER,
]
Who = Annotated[
    str, option(help="Stands in the audit; $GEARSHIFT_WHO, or account and host, without it.")
]
Reason = Annotated[str, option(help="Why; stands in the audit.")]
_FOLDER = Path("runs/up/rollout")


@rollout.command()
@configured_by("inference_graph.control.rollout.plan:RolloutPlan")
def start(
    config: Any,
    model: Annotated[str, argument(help="nano, small, large or policy.")],
    source: Annotated[
        str,
        argument(
            help="The new revision: an ONNX file, an engine's JSON, or for a cluster a storageUri."
        ),
        READ,
    ],
    folder: Folder = _FOLDER,
    sha256: Annotated[
        str, option(help="With a storageUri: the SHA-256 of its file, by which the log knows it.")
    ] = "",
    who: Who = "",
    wait: Annotated[
        bool, option("--wait", help="Stay until it ends; exit code 1 if it is rolled back.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a rollout: 5, 25, 50, then 100 % of the traffic, each step judged from the log.

    At each step errors, latency, agreement with the reference and accuracy retained are compared
    with those of the revision in use, by a test that may be looked at at any time. The first limit
    that is shown to be exceeded rolls it back; it goes on once it is shown that none is.

    `gearshift up` controls rollouts of its own folder; for a cluster `gearshift rollout run` does.

    Example: `gearshift rollout start small my/small.onnx --wait`, or on a cluster
    `gearshift rollout start small pvc://gearshift-models/ladder-2 --sha256 DIGEST`
    """
    from foundation.audit_log import operator
    from foundation.errors import GateRefused
    from inference_graph.control.rollout.controller import start as begin
    from inference_graph.control.rollout.state import state_content
    from pipelines.rollout import followed

    state = begin(folder, model, source, config, who or operator(), sha256)
    if wait:
        state = followed(folder, state.rollout, note)
    if as_json:
        show(state_content(state), as_json)
    else:
        print(f"rollout {state.rollout} of {state.model}: {state.phase}: {state.sentence}")
    if wait and state.phase != "promoted":
        raise GateRefused(f"{state.model} was rolled back: {state.sentence}")


@rollout.command()
def status(folder: Folder = _FOLDER, as_json: Json = False) -> None:
    """Show the state of the rollout, and the result of its last analysis.

    Example: `gearshift rollout status --json`
    """
    from inference_graph.control.rollout.state import read_state, state_content

    state = read_state(folder)
    if as_json:
        show({"rollout": None if state is None else state_content(state)}, as_json)
        return
    if state is None:
        print(f"there was no rollout in {folder}")
        return
    print(f"rollout {state.rollout} of {state.model} by {state.who}: {state.phase}")
    print(f"  {state.stable or '?'} -> {state.canary or '?'}, canary {_share(state)}")
    print(f"  {state.sentence}")
    if state.waiting:
        print(f"  waits since {state.waiting_since:%H:%M:%S}: {state.waiting}")
    if state.failure:
        print(f"  the last attempt failed: {state.failure}")
    units = "segments" if state.model == "policy" else "frames"
    for name, one in state.findings.items():
        verdict = "breached" if one["breached"] else "within its limit" if one["passed"] else "open"
        frames = f"{units} {one['frames'][0]:,} and {one['frames'][1]:,}"
        print(f"  {name:<10} {_effect(one)}{verdict}; {frames}")
    if state.findings and state.phase == "step":
        left = "unknown yet" if state.frames_left is None else f"about {state.frames_left:,}"
        print(f"  {units} to go in this step: {left}")


@rollout.command()
def promote(
    folder: Folder = _FOLDER,
    whole: Annotated[bool, option("--all", help="At once to 100 %.")] = False,
    who: Who = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Move the rollout to its next step without waiting for the analysis.

    Example: `gearshift rollout promote --all --reason "the fix has to be out today"`
    """
    _order("promote-all" if whole else "promote", folder, who, reason, as_json)


@rollout.command()
def abort(
    folder: Folder = _FOLDER, who: Who = "", reason: Reason = "", as_json: Json = False
) -> None:
    """Roll back: all traffic to the revision in use, then the new one ends.

    Example: `gearshift rollout abort --reason "boxes drift on the east camera"`
    """
    _order("abort", folder, who, reason, as_json)


@rollout.command()
@configured_by("inference_graph.control.rollout.cluster:ClusterRolloutConfig")
def run(
    config: Any,
    folder: Folder = _FOLDER,
    log: Annotated[
        str, option(help="Prediction log: a folder, s3:// or gs://."), READ
    ] = "runs/up/log",
    access_token: Annotated[
        str, option("--token", envvar="GEARSHIFT_TOKEN", help="Access token for the gateway.")
    ] = "",
    stay: Annotated[
        bool, option("--stay", help="Wait for a rollout, and after its end for the next one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Control the rollout of a cluster, through the Kubernetes API, until it ends.

    Interrupted and run again, it goes on. Standard mode: an InferenceService `NAME-canary` and a
    Splitter in the graph; Knative mode: `canaryTrafficPercent`; Seldon Core 2, with --mesh: a
    Model `NAME-canary` and an Experiment's weights. docs/rollout.md lists the rights it needs.

    Example: `gearshift rollout run --namespace gearshift --log s3://logs/gearshift`
    """
    from foundation.errors import GateRefused
    from inference_graph.control.rollout.cluster import ClusterTraffic, connected
    from inference_graph.control.rollout.seldon import SeldonTraffic
    from inference_graph.control.rollout.state import state_content
    from pipelines.rollout import run_controller

    place = SeldonTraffic if config.mesh else ClusterTraffic
    traffic = place(connected(config), config, access_token or None)
    state = run_controller(folder, log, traffic, note, stay)
    if state is None:
        raise GateRefused(f"no rollout is under way in {folder}; start one")
    if as_json:
        show(state_content(state), as_json)
    else:
        print(f"rollout {state.rollout} of {state.model}: {state.phase}: {state.sentence}")


@rollout.command()
@configured_by("inference_graph.control.rollout.cluster:ClusterRolloutConfig")
def promoted(config: Any, as_json: Json = False) -> None:
    """Show which revisions rollouts have promoted on a cluster; with --manifests, write them down.

    Manifests name the weights that were installed; applied again they would put those back. With
    the folder of `gearshift manifests`, what the cluster serves becomes the patches that every
    overlay of it ends with. Do so before each `kubectl apply -k`.

    Example: `gearshift rollout promoted --manifests deploy && kubectl apply -k deploy/overlays/gke`
    """
    from inference_graph.control.manifests.writer import write_promoted
    from inference_graph.control.rollout.cluster import connected
    from inference_graph.control.rollout.objects import Objects
    from inference_graph.control.rollout.promoted import promoted_on

    found = promoted_on(Objects(connected(config), config.namespace))
    if config.manifests is not None:
        write_promoted(config.manifests, found)
    if as_json:
        show({"promoted": found}, as_json)
        return
    for name, one in found.items():
        print(f"{name}: {one.source}, {one.sha256[:12]}")
    if not found:
        print("nothing was promoted: all services have the manifests' own weights")


@rollout.command()
def history(
    folder: Folder = _FOLDER,
    last: Annotated[int, option(min=1, help="Show so many, the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """Show who did what, when and why; the newest last.

    Example: `gearshift rollout history --last 5`
    """
    from inference_graph.control.rollout.audit import history as read

    lines = read(folder)[-last:]
    if as_json:
        show({"actions": lines}, as_json)
        return
    for one in lines:
        print(f"{one['time'][:19]} {one['who']}: {one['action']} {one['model']}: {one['detail']}")
    if not lines:
        print("nothing was done yet")


@configured_by("components.bench.rollout.bench:BenchRolloutConfig")
def bench_rollout(
    config: Any,
    policy: Annotated[Path, option(help="The policy's ONNX file."), READ] = Path(
        "runs/demo/policy.onnx"
    ),
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Count rollouts that end as they should, and requests that a switch of traffic loses.

    Rollouts with +30 % latency, 2 % errors and 5 % less accuracy, and of identical revisions, are
    simulated, of a detector and of a policy: the analysis is the real one, the rows of the log are
    drawn. Then all services are started and traffic is moved under load. With the defaults it takes
    some seven minutes.

    Example: `gearshift bench rollout --rollouts 60 --json`
    """
    from components.bench.rollout.bench import bench_rollout as run
    from pipelines.ladder_files import ladder_files

    show(run(policy, ladder_files(ladder), config, progress_bar, note), as_json)


def _share(state: RolloutState) -> str:
    goal = "" if state.goal == state.weight else f", moving to {state.goal} %"
    return f"{state.weight} %{goal}"


def _effect(finding: Mapping[str, Any]) -> str:
    """The canary's difference from the stable revision; empty while nothing can be compared."""
    if finding.get("estimate") is None:
        return ""
    low, high = finding["interval"]
    return (
        f"{finding['estimate']:+.1%} (95 % interval {low:+.1%} to {high:+.1%}, "
        f"limit {finding['limit']:+.1%}), "
    )


def _order(order: Any, folder: Path, who: str, reason: str, as_json: bool) -> None:
    from foundation.audit_log import operator
    from inference_graph.control.rollout.state import give_order, state_content

    state = give_order(folder, order, who or operator(), reason)
    if as_json:
        show(state_content(state), as_json)
    else:
        print(f"rollout {state.rollout} of {state.model}: asked its controller to {order}")
