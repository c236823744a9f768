"""Whatever keeps kubectl from working is one line that states what to do."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from api_server import Refusal, write_kubeconfig
from cluster_world import World, cli
from processes import closed_port
from tiny_models import save_policy

from feature_transformer.observation import OBSERVATION_SIZE
from feature_transformer.speech_features import SPEECH_SCHEMA_HASH
from foundation.errors import (
    AccessError,
    ConfigurationError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    GearshiftError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from inference_graph.contract import LADDER
from inference_graph.control.installer import kubectl as room
from inference_graph.control.installer.kubectl import Kubectl, failure


def message(code: int, lines: list[str], notes: str) -> str:
    """The one line of a failure."""
    assert (code, lines) == (1, [])
    (line,) = notes.splitlines()
    return line


@pytest.mark.parametrize("verb", ["check", "install", "status", "uninstall", "secrets"])
def test_without_kubectl_it_states_where_to_get_it(
    world: World, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    more = world.weights if verb == "install" else []
    line = message(*cli(*world.words(verb), *more))
    assert line.startswith("error: kubectl is not installed, or not in PATH; install it: https://")


def test_a_dry_run_needs_neither_kubectl_nor_a_cluster(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, lines, notes = cli(*world.words("install", "--dry-run"), *world.weights)
    assert (code, notes) == (0, "")
    assert sum("kubectl" in line for line in lines) > 20


@pytest.mark.parametrize("storage", ["pvc://gearshift-models", "s3://vision"])
def test_a_ladder_of_engines_is_installed_with_its_grammar_and_image(
    world: World, tmp_path: Path, storage: str
) -> None:
    policy = tmp_path / "policy.onnx"
    seen = np.zeros((OBSERVATION_SIZE, len(LADDER)), np.float32)
    save_policy(policy, seen, notes={"gearshift.schema_hash": SPEECH_SCHEMA_HASH})
    words = [*world.words("install", "--dry-run"), "--ladder=speech", f"--storage={storage}"]
    code, lines, notes = cli(*words, f"--policy={policy}")
    assert (code, notes) == (0, "")
    script = "\n".join(lines)
    assert "--task=speech" in script and "gearshift:0.1.0-speech" in script
    assert "--sound=true" in script
    if storage.startswith("pvc"):
        for name in ("nano.json", "small.json", "large.json", "commands.gram"):
            assert f" ladder/{name} " in script
    else:
        assert re.search("cluster upload --storage s3://vision --ladder .*/ladder/speech ", script)
    assert ".onnx" not in script.replace("policy.onnx", "")
    # A detector's policy is refused here, before any pod refuses it.
    line = message(*cli(*words, f"--policy={world.policy}"))
    assert "for speech" in line


def test_a_context_or_file_that_is_not_there(world: World) -> None:
    line = message(*cli(*world.words("status"), "--context=production"))
    assert line == (
        "error: the kubeconfig has no context production; list them with `kubectl config "
        "get-contexts`"
    )
    line = message(*cli("cluster", "status", "--target=kind", "--kubeconfig=/nowhere"))
    assert line == "error: there is no kubeconfig /nowhere; name another file"


def test_a_target_that_is_none(world: World) -> None:
    line = message(*cli(*world.words("check", target="moon")))
    assert line == "error: target is 'moon'; give kind, gke, onprem, edge"


def test_no_server_listens(tmp_path: Path, kubectl_program: str) -> None:
    port = closed_port()
    write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}")
    line = message(*cli("cluster", "check", "--target=kind", f"--kubeconfig={tmp_path / 'config'}"))
    assert line.startswith("error: the API server does not answer (")
    assert f"127.0.0.1:{port}" in line
    assert "kubectl cluster-info" in line


def test_a_server_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    world.server.before = lambda method, path: released.wait(60) and None
    try:
        monkeypatch.setattr(room, "_REQUEST_SECONDS", 1)
        line = message(*cli(*world.words("check")))
        assert line.startswith("error: the API server does not answer (")
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="`kubectl exec -i` did not end within 0.5 s"):
            world.kubectl().run(("exec", "-i", "x", "--", "true"), b"", seconds=0.5)
        assert time.monotonic() - begun < 30
    finally:
        released.set()


@pytest.mark.parametrize(
    ("code", "reason", "text", "line"),
    [
        (401, "Unauthorized", "Unauthorized", "does not accept the credentials"),
        (
            403,
            "Forbidden",
            'pods is forbidden: User "anna" cannot list resource "pods"',
            'does not allow it: User "anna" cannot list resource "pods"; ask',
        ),
        (503, "ServiceUnavailable", "etcd is away", "the API server does not answer ("),
    ],
)
def test_a_server_that_refuses(world: World, code: int, reason: str, text: str, line: str) -> None:
    def refuse(method: str, path: str) -> None:
        if "/namespaces/" in path:
            raise Refusal(code, reason, text)

    world.server.before = refuse
    reported = message(*cli(*world.words("status")))
    assert line in reported


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('error: context "x" does not exist', ConfigurationError),
        (
            "The connection to the server localhost:8080 was refused - did you specify the right "
            "host or port?",
            Unavailable,
        ),
        (
            'E1129 19:00:00.1 7 memcache.go:265] "Unhandled Error" err="couldn\'t get current '
            'server API group list: Get \\"https://10.0.0.1/api\\": dial tcp: i/o timeout"\n'
            "Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout",
            Unavailable,
        ),
        (
            "Unable to connect to the server: getting credentials: exec: executable "
            "gke-gcloud-auth-plugin not found",
            ConfigurationError,
        ),
        ("error: You must be logged in to the server (Unauthorized)", AccessError),
        (
            'Error from server (Forbidden): secrets is forbidden: User "a" cannot create resource '
            '"secrets"',
            Forbidden,
        ),
        (
            "Unable to connect to the server: tls: failed to verify certificate: x509: certificate "
            "signed by unknown authority",
            Unavailable,
        ),
        (
            'error: resource mapping not found for name: "nano" namespace: "g" from "x": no '
            'matches for kind "InferenceService" in version "serving.kserve.io/v1beta1"\n'
            "ensure CRDs are installed first",
            NotFound,
        ),
        ('error: the server doesn\'t have a resource type "inferenceservices"', NotFound),
        (
            'Error from server (AlreadyExists): error when creating "STDIN": secrets "x" already '
            "exists",
            Conflict,
        ),
        ("error: timed out waiting for the condition on pods/x", DeadlineExceeded),
        (
            'Error from server (Forbidden): secrets "x" is forbidden: unable to create new content '
            "in namespace gearshift because it is being terminated",
            Conflict,
        ),
        (
            'Error from server (BadRequest): admission webhook "inferenceservice.kserve" denied '
            "the request: no",
            InvalidInput,
        ),
        ('error: error loading config file "/x": yaml: line 1: did not find', ConfigurationError),
        ("error: something new", Unavailable),
        ("", Unavailable),
    ],
)
def test_what_kubectl_writes_is_the_right_error_in_one_line(
    text: str, kind: type[GearshiftError]
) -> None:
    error = failure(text, ("apply", "-k", "x"))
    assert type(error) is kind
    line = str(error)
    assert "\n" not in line
    assert len(line) < 500
    assert "memcache" not in line


def test_secrets_go_by_standard_input_and_where_it_is_asked_is_typed() -> None:
    kubectl = Kubectl("vision", "prod", Path("my config"))
    assert kubectl.line(("get", "pods")) == (
        "kubectl '--kubeconfig=my config' --context=prod --namespace vision get pods"
    )
