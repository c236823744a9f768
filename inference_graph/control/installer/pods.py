"""The pods that an installation needs for a moment; each goes away again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.secrets import TRIAL_SECRET
from inference_graph.control.installer.trial import TOKEN_VARIABLE
from inference_graph.control.manifests.names import GATEWAY, GRAPH, PART_OF, Document
from inference_graph.tasks.speech.listener import SPEECH

UPLOAD, TRIAL = "gearshift-upload", "gearshift-trial"
CLAIM_FOLDER = "/models"
PROBE_IMAGE = "docker.io/library/busybox:1.37.0"
ENFORCED, OPEN, UNDECIDED = 0, 10, 20
"""Exit codes of the probe: policies hold, they do not, and it does not know."""
LIFETIME_SECONDS = 3600
_USER = 65532
SERVER, CLIENT, IMAGES = "server", "client", "images"
_ALLOWED_PORT, _REFUSED_PORT = 8080, 8081

RECEIVE = """set -eu
at=/models/$1
if [ -e "$at" ]; then
  cat > /dev/null
  set -- "$1" "$2" $(sha256sum "$at")
  if [ "$3" = "$2" ]; then echo "there: $1"; else echo "kept: $1"; fi
  exit 0
fi
mkdir -p "${at%/*}"
cat > "$at.part"
echo "$2  $at.part" | sha256sum --check --status
mv "$at.part" "$at"
sync
echo "stored: $1"
"""
"""Stores what comes in under a name, if its digest is right; what is there stays."""

DIGESTS = (
    "cd /models && sha256sum ladder/* policy/* 2> /dev/null | "
    "sed 's|^\\([0-9a-f]*\\)  \\(.*\\)/\\(.*\\)$|gearshift/\\2.\\3=\\1|'"
)
"""The digests of what lies there, as annotations."""

_PROBE = f"""
get() {{ wget -q -T 2 -O /dev/null "http://$SERVER_SERVICE_HOST:$1/"; }}
tries=0
until get {_ALLOWED_PORT}; do
  tries=$((tries + 1))
  [ $tries -lt 15 ] || exit {UNDECIDED}
  sleep 1
done
sleep 3
refused=0
for try in 1 2 3 4 5; do get {_REFUSED_PORT} || refused=$((refused + 1)); done
get {_ALLOWED_PORT} || exit {UNDECIDED}
[ $refused -ge 3 ] || exit {OPEN}
exit {ENFORCED}
"""


def upload_pod(overlay: Overlay, claim: str) -> Document:
    """A pod that mounts the claim and waits for files.

    Args:
        overlay: whose image it runs.
        claim: the claim of the weights.
    """
    container = {
        "name": "upload",
        **_image(overlay),
        "command": ["sleep", str(LIFETIME_SECONDS)],
        "volumeMounts": [{"name": "models", "mountPath": CLAIM_FOLDER}],
    }
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": claim}}
    # Nothing in it listens to a signal to end.
    return _pod(UPLOAD, [container], [volume], terminationGracePeriodSeconds=0)


def trial_documents(overlay: Overlay) -> list[Document]:
    """A pod that sends one frame through gateway and graph, and the way out that it needs."""
    arguments = ["-m", "inference_graph.control.installer.trial", f"--gateway=http://{GATEWAY}"]
    reached = [{"app": GATEWAY}]
    if GRAPH in overlay.named("InferenceGraph"):
        arguments.append(f"--graph=http://{GRAPH}")
        reached.append({"serving.kserve.io/inferencegraph": GRAPH})
    if overlay.options.task == SPEECH:
        arguments.append("--sound=true")
    token = {"secretKeyRef": {"name": TRIAL_SECRET, "key": "token"}}
    container = {
        "name": "trial",
        **_image(overlay),
        "command": ["python", *arguments],
        "env": [{"name": TOKEN_VARIABLE, "valueFrom": token}],
    }
    peers = [{"podSelector": {"matchLabels": labels}} for labels in reached]
    way_out = _policy(TRIAL, TRIAL, egress=[{"to": peers}])
    return [way_out, _pod(TRIAL, [container], [])]


def network_probe(image: str) -> list[Document]:
    """A server of which a policy allows one port of two, and a client that tries both."""
    listen = "mkdir -p /tmp/www && touch /tmp/www/index.html && " + " & ".join(
        f"httpd -f -p {port} -h /tmp/www" for port in (_ALLOWED_PORT, _REFUSED_PORT)
    )
    ports = [{"protocol": "TCP", "port": _ALLOWED_PORT}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVER},
        "spec": {
            "selector": {"app": SERVER},
            "ports": [
                {"name": f"port-{port}", "port": port, "protocol": "TCP"}
                for port in (_ALLOWED_PORT, _REFUSED_PORT)
            ],
        },
    }
    return [
        service,
        _policy("probe", SERVER, ingress=[{"ports": ports}]),
        _pod(SERVER, [_shell(image, listen)], []),
        # The Service's address comes as a variable, so that no name has to be resolved.
        _pod(CLIENT, [_shell(image, _PROBE)], [], enableServiceLinks=True),
    ]


def image_probe(images: Sequence[str]) -> Document:
    """A pod with a container for each image; it shows which of them a node can pull."""
    containers = [
        {
            "name": f"image-{number}",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["true"],
        }
        for number, image in enumerate(images)
    ]
    return _pod(IMAGES, containers, [])


def _policy(name: str, app: str, **directions: list[Document]) -> Document:
    """A NetworkPolicy over the pods of one label."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": PART_OF},
        "spec": {
            "podSelector": {"matchLabels": {"app": app}},
            "policyTypes": [direction.capitalize() for direction in directions],
            **directions,
        },
    }


def _shell(image: str, script: str) -> Document:
    return {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
    }


def _image(overlay: Overlay) -> Document:
    container = overlay.named("StatefulSet")[GATEWAY]["spec"]["template"]["spec"]["containers"][0]
    return {key: container[key] for key in ("image", "imagePullPolicy")}


def _pod(
    name: str, containers: Sequence[Document], volumes: Sequence[Document], **more: Any
) -> Document:
    for one in containers:
        one["securityContext"] = {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        one["resources"] = {
            "requests": {"cpu": "50m", "memory": "256Mi"},
            "limits": {"cpu": "200m", "memory": "256Mi"},
        }
        mounts = [{"name": "tmp", "mountPath": "/tmp"}, *one.get("volumeMounts", ())]
        one["volumeMounts"] = mounts
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **PART_OF}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": LIFETIME_SECONDS,
            "securityContext": {
                "fsGroup": _USER,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **more,
            "containers": list(containers),
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, *volumes],
        },
    }
