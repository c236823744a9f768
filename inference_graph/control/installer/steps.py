"""The steps of an installation as ``kubectl`` commands: what runs is what ``--dry-run`` prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from foundation.errors import ConfigurationError
from foundation.signing import SIGNATURE_SUFFIX, signature_file
from foundation.storage import sha256_file
from inference_graph.contract import LADDER
from inference_graph.control.installer.kubectl import Kubectl, yaml_input, yaml_text
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.pods import (
    DIGESTS,
    RECEIVE,
    TRIAL,
    UPLOAD,
    trial_documents,
    upload_pod,
)
from inference_graph.control.manifests.names import PART_OF, POLICY_FILE, Document
from inference_graph.tasks.rung import demo_for, rung_files

CLAIM_MODES = ("ReadWriteOnce", "ReadWriteMany")
ANSWERED = "gearshift/answered"
"""Annotation of the namespace: which installation answered a frame."""
_CLAIM_SIZE = "2Gi"
_POD_SECONDS = 600.0
_UPLOAD_SECONDS = 900.0


@dataclass(frozen=True)
class InstallStep:
    """One command.

    Attributes:
        arguments: behind ``kubectl``.
        documents: on its standard input.
        file: the same.
        seconds: how long it may take.
        unless: arguments of a ``kubectl`` command; where it succeeds this one is not needed.
    """

    arguments: tuple[str, ...]
    documents: tuple[Document, ...] = ()
    file: Path | None = None
    seconds: float = 60.0
    unless: tuple[str, ...] = ()

    def run(self, kubectl: Kubectl) -> str:
        """Run it, and give what it printed; raises as ``Kubectl.run`` does."""
        stdin = yaml_input(self.documents) if self.documents else self.file
        return kubectl.run(self.arguments, stdin, self.seconds).out

    def text(self, kubectl: Kubectl) -> str:
        """As it is typed into a shell."""
        line = kubectl.line(self.arguments)
        if self.unless:
            line = f"{kubectl.line(self.unless)} > /dev/null 2>&1 || {line}"
        if self.file is not None:
            return f"{line} < {shlex.quote(str(self.file))}"
        if self.documents:
            return f"{line} <<'EOF'\n{yaml_text(self.documents)}EOF"
        return line


@dataclass(frozen=True)
class Plan:
    """What is installed.

    Attributes:
        overlay: the target, with its options.
        weights: by name below the weights' place (``ladder/nano.onnx``), the local file.
        folder: where the manifests are written.
        client: name of the first client's token.
        claim_mode: access mode of a claim that is made.
        seconds: how long everything may take to serve.
    """

    overlay: Overlay
    weights: Mapping[str, Path]
    folder: Path = Path("deploy")
    client: str = "first"
    claim_mode: str = CLAIM_MODES[0]
    seconds: float = 900.0
    digests: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Read the weights' digests.

        Raises:
            ConfigurationError: an unknown claim mode.
        """
        if self.claim_mode not in CLAIM_MODES:
            raise ConfigurationError(
                f"claim mode is {self.claim_mode!r}; give {' or '.join(CLAIM_MODES)}"
            )
        digests = {name: sha256_file(path) for name, path in self.weights.items()}
        object.__setattr__(self, "digests", digests)

    @property
    def kustomization(self) -> Path:
        """The folder that is applied."""
        return self.folder / "overlays" / self.overlay.target

    @property
    def mark(self) -> str:
        """What the namespace is marked with when this installation has answered a frame."""
        return f"{self.overlay.target}_{self.overlay.options.version}"

    def bucket(self) -> str:
        """URL of the bucket that the weights are read from; empty where it is a claim."""
        storage = self.overlay.options.storage
        return "" if storage.startswith("pvc://") else storage

    def claims(self) -> dict[str, dict[str, Path]]:
        """For each claim the files that belong on it, by their path there."""
        options = self.overlay.options
        found: dict[str, dict[str, Path]] = {}
        for name, path in self.weights.items():
            if not self.bucket():
                claim, _, folder = options.storage.removeprefix("pvc://").partition("/")
                at = f"{folder.strip('/')}/{name}".lstrip("/")
                found.setdefault(claim, {})[at] = path
            if name.startswith("policy/") or self.overlay.target == "edge":
                # The gateway reads them from the claim wherever the services do.
                found.setdefault(options.claim, {})[name] = path
        return found


def weight_files(ladder: Mapping[str, Path], policy: Path) -> dict[str, Path]:
    """The files that an installation serves, by their name below the weights' place.

    Signatures and the policy's reference go along where they lie beside their file.

    Args:
        ladder: file of each rung: ONNX, or JSON that names an engine.
        policy: the policy's ONNX file.

    Raises:
        ConfigurationError: the policy is missing.
    """
    if not policy.is_file():
        demo = demo_for(policy, ladder[LADDER[0]])
        raise ConfigurationError(
            f"there is no policy at {policy}; run `{demo}`, or name one with --policy"
        )
    files = {}
    for rung in LADDER:
        own, *beside = rung_files(ladder[rung])
        files[f"ladder/{rung}{own.suffix}"] = own
        files |= {f"ladder/{one.name}": one for one in beside}
    files[f"policy/{POLICY_FILE}"] = policy
    reference = policy.with_name("reference.parquet")
    if reference.is_file():
        files["policy/reference.parquet"] = reference
    for name, path in list(files.items()):
        signature = signature_file(path)
        if signature.is_file():
            files[name + SIGNATURE_SUFFIX] = signature
    return files


def annotation(name: str) -> str:
    """The annotation of a claim that states which digest lies there under a name."""
    return f"gearshift/{name.replace('/', '.')}"


def check_target(namespace: Document, target: str) -> None:
    """Refuse a namespace in which another target is installed: the two share names.

    Args:
        namespace: as the cluster has it; empty where there is none.
        target: that is to be installed, or taken away.

    Raises:
        ConfigurationError: names what is there.
    """
    metadata = namespace.get("metadata", {})
    there = (metadata.get("annotations") or {}).get(ANSWERED, "").partition("_")[0]
    if there not in ("", target):
        raise ConfigurationError(
            f"--target {there} is installed in the namespace {metadata['name']}; uninstall that "
            "one first, or name another --namespace"
        )


def namespace_step(plan: Plan) -> InstallStep:
    """Make the namespace, as the overlay has it."""
    (document,) = plan.overlay.named("Namespace").values()
    return InstallStep(("apply", "--filename=-"), (document,))


def claim_step(plan: Plan, claim: str) -> InstallStep:
    """Make the claim of the weights, unless there is one of that name."""
    document = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "labels": PART_OF},
        "spec": {
            "accessModes": [plan.claim_mode],
            "resources": {"requests": {"storage": _CLAIM_SIZE}},
        },
    }
    return InstallStep(("create", "--filename=-"), (document,), unless=("get", "pvc", claim))


def upload_steps(plan: Plan, claim: str, files: Mapping[str, Path]) -> list[InstallStep]:
    """Put files on a claim, by a pod that mounts it; what lies there stays."""
    digests = {path: plan.digests[name] for name, path in plan.weights.items()}
    pod = f"pod/{UPLOAD}"
    steps = [
        InstallStep(("delete", pod, "--ignore-not-found"), seconds=120),
        InstallStep(("create", "--filename=-"), (upload_pod(plan.overlay, claim),)),
        InstallStep(
            ("wait", "--for=condition=Ready", pod, f"--timeout={_POD_SECONDS:g}s"),
            seconds=_POD_SECONDS + 30,
        ),
    ]
    for name, path in files.items():
        receive = ("sh", "-c", RECEIVE, "receive", name, digests[path])
        steps.append(
            InstallStep(("exec", "-i", UPLOAD, "--", *receive), file=path, seconds=_UPLOAD_SECONDS)
        )
    return steps


def digests_step() -> InstallStep:
    """Ask the pod which digests lie on the claim; its lines are annotations."""
    return InstallStep(("exec", UPLOAD, "--", "sh", "-c", DIGESTS), seconds=300)


def upload_end() -> InstallStep:
    """Take the pod away."""
    return InstallStep(("delete", f"pod/{UPLOAD}", "--ignore-not-found"), seconds=120)


def apply_step(plan: Plan) -> InstallStep:
    """Apply the overlay."""
    return InstallStep(("apply", "--kustomize", str(plan.kustomization)), seconds=300)


def trial_steps(plan: Plan) -> list[InstallStep]:
    """Begin the pod that sends a frame; one of an interrupted installation goes first."""
    names = (f"pod/{TRIAL}", f"networkpolicy/{TRIAL}")
    return [
        InstallStep(("delete", *names, "--ignore-not-found"), seconds=120),
        InstallStep(("create", "--filename=-"), tuple(trial_documents(plan.overlay))),
    ]


def trial_result() -> list[InstallStep]:
    """Read what the pod printed, and take it away."""
    names = (f"pod/{TRIAL}", f"networkpolicy/{TRIAL}")
    return [
        InstallStep(("logs", TRIAL)),
        InstallStep(("delete", *names, "--ignore-not-found"), seconds=120),
    ]
