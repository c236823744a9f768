"""Installing: from an empty namespace to an answered frame, and nothing where all is there.

Each part checks first whether it is done, so that an installation that was interrupted anywhere
continues from there. What is there is never written over: Secrets, claims, weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from foundation.errors import (
    ConfigurationError,
    Conflict,
    DeadlineExceeded,
    GearshiftError,
    Unavailable,
)
from inference_graph.control.installer import secrets
from inference_graph.control.installer.bucket import upload_to_bucket
from inference_graph.control.installer.kubectl import Kubectl, yaml_input
from inference_graph.control.installer.overlay import gateway_address
from inference_graph.control.installer.ownership import refuse_others
from inference_graph.control.installer.pods import TRIAL, UPLOAD
from inference_graph.control.installer.serving import look, stuck
from inference_graph.control.installer.snapshot import Snapshot
from inference_graph.control.installer.steps import (
    ANSWERED,
    Plan,
    annotation,
    apply_step,
    check_target,
    claim_step,
    digests_step,
    namespace_step,
    trial_result,
    trial_steps,
    upload_end,
    upload_steps,
)
from inference_graph.control.manifests.names import Document
from inference_graph.control.manifests.promoted import read_promoted
from inference_graph.control.manifests.writer import write_promoted
from inference_graph.control.rollout.promoted import promoted_on

Say = Callable[[str], None]

_PAUSE = 2.0
_TRIAL_SECONDS = 300.0
_UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Installed:
    """Result of an installation.

    Attributes:
        target: the overlay.
        namespace: where.
        changed: what was made or changed, as kubectl reports it; empty when all was there.
        kept: weights on a claim or in the bucket that differ from the local ones, which stay.
        answers: what gateway and graph answered to one frame; empty if they were not asked, for
            nothing was changed since they answered.
        gateway: where the gateway is reached.
    """

    target: str
    namespace: str
    changed: tuple[str, ...]
    kept: tuple[str, ...]
    answers: Mapping[str, Mapping[str, Any]]
    gateway: str


def install(
    kubectl: Kubectl, plan: Plan, say: Say, show_token: Callable[[str, str], None]
) -> Installed:
    """Install, or complete an installation.

    Args:
        kubectl: the cluster.
        plan: what is installed; its manifests lie in its folder.
        say: called with what is done, and what is waited for.
        show_token: called once with the first client's name and token, before it is stored.

    Raises:
        ConfigurationError: something is missing that only the operator can give, or another
            target is installed there.
        Conflict: the namespace or a claim is being deleted, or somebody else's objects have names
            of the installation.
        DeadlineExceeded: not everything serves in time; it can be run again.
        GearshiftError: and the rest, as ``Kubectl.run`` does.
    """
    changed: list[str] = []
    say("namespace and secrets")
    namespace = kubectl.read("namespace", kubectl.namespace)
    check_target(namespace, plan.overlay.target)
    _check_stays(namespace)
    if namespace:
        refuse_others(kubectl, plan.overlay)
    fresh = _changes(namespace_step(plan).run(kubectl))
    changed += fresh
    changed += _secrets(kubectl, plan, show_token)
    changed_weights, kept = _weights(kubectl, plan, say)
    changed += changed_weights
    say("the overlay")
    _keep_promoted(kubectl, plan)
    if fresh or _differs(kubectl, plan):
        changed += _changes(apply_step(plan).run(kubectl)) or ["the overlay"]
    _until_it_serves(kubectl, plan, say)
    answers: Mapping[str, Mapping[str, Any]] = {}
    namespace = kubectl.read("namespace", kubectl.namespace)
    if changed or _annotations(namespace).get(ANSWERED) != plan.mark:
        say("one frame through gateway and graph")
        answers = _try(kubectl, plan)
        kubectl.run(
            ("annotate", "--overwrite", "namespace", kubectl.namespace, f"{ANSWERED}={plan.mark}")
        )
    return Installed(
        plan.overlay.target,
        kubectl.namespace,
        tuple(changed),
        kept,
        answers,
        gateway_address(plan.overlay),
    )


def _secrets(kubectl: Kubectl, plan: Plan, show_token: Callable[[str, str], None]) -> list[str]:
    overlay = plan.overlay
    names = [*secrets.generated(overlay), *secrets.given(overlay)]
    there = secrets.present(kubectl, names)
    for name, (command, what) in secrets.given(overlay).items():
        if name not in there:
            raise ConfigurationError(f"the Secret {name} is missing ({what}); make it: {command}")
    making = secrets.missing(overlay, there, plan.client)
    if making.client_token:
        show_token(plan.client, making.client_token)
    changed = []
    if making.created:
        try:
            output = kubectl.run(("create", "--filename=-"), yaml_input(making.created)).out
        except Conflict as error:
            raise Unavailable(
                "another installation makes this namespace's secrets at the same time; run it again"
            ) from error
        changed += _changes(output)
    if making.extended is not None:
        changed += _changes(
            kubectl.run(("replace", "--filename=-"), yaml_input([making.extended])).out
        )
    return changed


def _weights(kubectl: Kubectl, plan: Plan, say: Say) -> tuple[list[str], tuple[str, ...]]:
    changed: list[str] = []
    kept: list[str] = []
    for claim, files in plan.claims().items():
        there = kubectl.read("pvc", claim)
        _check_stays(there)
        if not there:
            changed += _changes(claim_step(plan, claim).run(kubectl))
        digests = _annotations(there)
        if any(annotation(name) not in digests for name in files):
            say(f"weights to the claim {claim}")
            stored, digests = _upload(kubectl, plan, claim, files, say)
            changed += stored
        elif kubectl.read("pod", UPLOAD):  # of an upload that was interrupted after its end
            upload_end().run(kubectl)
        wanted = {path: plan.digests[name] for name, path in plan.weights.items()}
        kept += [
            name for name, path in files.items() if digests.get(annotation(name)) != wanted[path]
        ]
    if plan.bucket():
        say(f"weights to {plan.bucket()}")
        stored, other = upload_to_bucket(plan.bucket(), plan.weights, plan.digests)
        changed += [f"{plan.bucket()}/{name} stored" for name in stored]
        kept += other
    return changed, tuple(dict.fromkeys(kept))


def _upload(
    kubectl: Kubectl, plan: Plan, claim: str, files: Mapping[str, Any], say: Say
) -> tuple[list[str], dict[str, str]]:
    stored = []
    for step in upload_steps(plan, claim, files):
        output = step.run(kubectl).strip()
        if step.file is not None and output.startswith("stored: "):
            name = output.removeprefix("stored: ")
            stored.append(f"{claim}/{name} stored")
            say(f"weights to the claim {claim}: {name}")
    marks = digests_step().run(kubectl).split()
    kubectl.run(("annotate", "--overwrite", "pvc", claim, *marks))
    upload_end().run(kubectl)
    return stored, dict(mark.rsplit("=", 1) for mark in marks)


def _keep_promoted(kubectl: Kubectl, plan: Plan) -> None:
    """Have the manifests name the weights that rollouts have put on the cluster."""
    if not plan.overlay.named("InferenceService"):
        return
    there = Snapshot(kubectl.items("inferenceservices.serving.kserve.io"))
    promoted = promoted_on(there)
    if promoted != read_promoted(plan.folder):
        write_promoted(plan.folder, promoted)


def _differs(kubectl: Kubectl, plan: Plan) -> bool:
    """Whether applying would change anything; if that is unknown, it may."""
    try:
        answer = kubectl.run(
            ("diff", "--kustomize", str(plan.kustomization)), seconds=300, accepted=range(256)
        )
    except GearshiftError:
        return True
    return answer.code != 0


def _until_it_serves(kubectl: Kubectl, plan: Plan, say: Say) -> None:
    end = time.monotonic() + plan.seconds
    while True:
        try:
            serving = look(kubectl, plan.overlay)
            done = sum(one.ready for one in serving.workloads)
            left, waiting = not serving.complete, serving.waiting
            output = f"{done} of {len(serving.workloads)} serve; {waiting}"
        except Unavailable as error:  # an API server that is away for a moment ends nothing
            left, waiting, output = True, str(error), str(error)
        if not left:
            return
        if time.monotonic() > end:
            raise DeadlineExceeded(
                f"after {plan.seconds:g} s not everything serves: {waiting}; then run it again"
            )
        say(output)
        time.sleep(_PAUSE)


def _try(kubectl: Kubectl, plan: Plan) -> Mapping[str, Mapping[str, Any]]:
    for step in trial_steps(plan):
        step.run(kubectl)
    end = time.monotonic() + _TRIAL_SECONDS
    while True:
        pod = kubectl.read("pod", TRIAL)
        phase = pod.get("status", {}).get("phase", "")
        if phase in ("Succeeded", "Failed"):
            break
        if time.monotonic() > end:
            why = stuck(pod, kubectl.namespace) if pod else "it is gone"
            raise DeadlineExceeded(
                f"the pod {TRIAL} does not end: {why or phase or 'unknown'}; run it again"
            )
        time.sleep(_PAUSE / 4)
    printed, _ = [step.run(kubectl) for step in trial_result()]
    lines = printed.strip().splitlines()
    if phase == "Failed":
        output = (lines or ["nothing"])[-1].removeprefix("error: ")
        raise Unavailable(f"no frame is answered: {output}")
    answers: Mapping[str, Mapping[str, Any]] = json.loads(lines[-1])
    return answers


def _changes(output: str) -> list[str]:
    """What kubectl reports it made or changed."""
    return [line for line in output.splitlines() if line and not line.endswith(_UNCHANGED)]


def _check_stays(document: Document) -> None:
    """Refuse what is being deleted: it is still there, and what is put into it is lost."""
    metadata = document.get("metadata", {})
    if "deletionTimestamp" in metadata:
        raise Conflict(
            f"the {document['kind']} {metadata['name']} is being deleted; run it again when it is "
            "gone"
        )


def _annotations(document: Document) -> dict[str, str]:
    return dict(document.get("metadata", {}).get("annotations") or {})
