"""An installation as a shell script that does the same: ``gearshift cluster install --dry-run``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import option_line
from inference_graph.control.installer.pods import RECEIVE, TRIAL
from inference_graph.control.installer.serving import expected
from inference_graph.control.installer.steps import (
    ANSWERED,
    Plan,
    apply_step,
    claim_step,
    digests_step,
    namespace_step,
    trial_result,
    trial_steps,
    upload_end,
    upload_steps,
)
from inference_graph.control.manifests.names import GATEWAY, GRAPH


def install_script(plan: Plan, kubectl: Kubectl) -> str:
    """Every command of an installation into an empty namespace.

    Pasted into a shell it does what ``install`` does, and it can be run again. No secret is in it:
    they come from ``gearshift cluster secrets`` through a pipe.

    Args:
        plan: what is installed.
        kubectl: where.
    """
    overlay = plan.overlay
    parts = [
        f"# Gearshift {overlay.options.version} ({overlay.target}) in the namespace "
        f"{kubectl.namespace}.\nset -eu",
        _part("the manifests", _manifests(plan)),
        _part("the namespace", [namespace_step(plan).text(kubectl)]),
        _part("the secrets: generated, never written over", _secrets(plan, kubectl)),
        *(
            _part(f"the weights on the claim {claim}", _weights(plan, kubectl, claim))
            for claim in plan.claims()
        ),
    ]
    if plan.bucket():
        parts.append(_part("the weights in the bucket", _bucket(plan)))
    parts += [
        _part("the overlay", _overlay(plan, kubectl)),
        _part("until it serves", _wait(plan, kubectl)),
        _part("one frame through gateway and graph", _trial(plan, kubectl)),
    ]
    return "\n\n".join(parts) + "\n"


def _part(title: str, lines: Iterable[str]) -> str:
    return "\n".join((f"# {title}", *lines))


def _manifests(plan: Plan) -> list[str]:
    folder = shlex.quote(str(plan.folder))
    return [f"gearshift manifests{option_line(plan.overlay.options)} --out {folder}"]


def _where(kubectl: Kubectl) -> str:
    where = f" --context={shlex.quote(kubectl.context)}" if kubectl.context else ""
    if kubectl.kubeconfig:
        where += f" --kubeconfig={shlex.quote(str(kubectl.kubeconfig))}"
    return where


def _overlay(plan: Plan, kubectl: Kubectl) -> Iterator[str]:
    if plan.overlay.named("InferenceService"):
        # What rollouts have promoted since stays.
        folder = shlex.quote(str(plan.folder))
        yield (
            f"gearshift rollout promoted --manifests {folder} --namespace {kubectl.namespace}"
            f"{_where(kubectl)}"
        )
    yield apply_step(plan).text(kubectl)


def _secrets(plan: Plan, kubectl: Kubectl) -> Iterator[str]:
    verb = (
        f"gearshift cluster secrets --target {plan.overlay.target} --client "
        f"{shlex.quote(plan.client)}{_where(kubectl)}{option_line(plan.overlay.options)}"
    )
    for command, more in (("create", ""), ("replace", " --additions")):
        typed = kubectl.line((command, "--filename=-"))
        yield f"secrets=$({verb}{more})"
        yield f'[ -z "$secrets" ] || printf \'%s\\n\' "$secrets" | {typed}'
    yield "unset secrets"


def _weights(plan: Plan, kubectl: Kubectl, claim: str) -> Iterator[str]:
    yield claim_step(plan, claim).text(kubectl)
    yield f"receive={shlex.quote(RECEIVE)}"
    for step in upload_steps(plan, claim, plan.claims()[claim]):
        yield step.text(kubectl).replace(shlex.quote(RECEIVE), '"$receive"')
    annotate = kubectl.line(("annotate", "--overwrite", "pvc", claim))
    yield f"{annotate} $({digests_step().text(kubectl)})"
    yield upload_end().text(kubectl)


def _bucket(plan: Plan) -> list[str]:
    files = plan.weights
    ladder = next(path for name, path in files.items() if name.startswith("ladder/")).parent
    policy = files["policy/policy.onnx"]
    return [
        f"gearshift cluster upload --storage {shlex.quote(plan.bucket())} "
        f"--ladder {shlex.quote(str(ladder))} --policy {shlex.quote(str(policy))}"
    ]


def _wait(plan: Plan, kubectl: Kubectl) -> Iterator[str]:
    timeout = f"--timeout={plan.seconds:g}s"
    for kind, name, labels in expected(plan.overlay):
        if not labels:
            yield kubectl.line(("rollout", "status", f"{kind.lower()}/{name}", timeout))
            continue
        # KServe makes these, a moment after it has seen the overlay.
        chosen = "--selector=" + ",".join(f"{key}={value}" for key, value in labels.items())
        made = kubectl.line(("get", "deployment", chosen, "--output=name"))
        yield f'until [ -n "$({made})" ]; do sleep 2; done'
        yield kubectl.line(("rollout", "status", "deployment", chosen, timeout))
    services = [GATEWAY, *(one for one in plan.overlay.named("InferenceGraph") if one == GRAPH)]
    for service in services:
        yield kubectl.line(
            (
                "wait",
                "--for=jsonpath={.endpoints[0].conditions.ready}=true",
                "endpointslice",
                f"--selector=kubernetes.io/service-name={service}",
                timeout,
            )
        )


def _trial(plan: Plan, kubectl: Kubectl) -> Iterator[str]:
    for step in trial_steps(plan):
        yield step.text(kubectl)
    yield kubectl.line(
        ("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{TRIAL}", "--timeout=300s")
    )
    for step in trial_result():
        yield step.text(kubectl)
    yield kubectl.line(
        ("annotate", "--overwrite", "namespace", kubectl.namespace, f"{ANSWERED}={plan.mark}")
    )
