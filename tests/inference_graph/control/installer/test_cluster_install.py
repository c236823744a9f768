"""``gearshift cluster install``: from an empty cluster to an answered frame, again and again."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import KINDS, Document
from campaign import runs
from cluster_world import World, cli, running_world
from processes import ROOT, environment

from foundation.errors import (
    ConfigurationError,
    DeadlineExceeded,
    Forbidden,
    Unavailable,
)
from inference_graph.control.installer.install import Installed, install
from inference_graph.control.installer.overlay import TARGETS, read_overlay
from inference_graph.control.installer.secrets import generated, given, missing
from inference_graph.control.manifests import ManifestOptions
from inference_graph.gateway.access import Role, TokenAccess

_PLURALS = {
    (api, kind): f"{plural}.{api.partition('/')[0]}" if "/" in api else plural
    for api, kinds in KINDS.items()
    for plural, kind, _ in kinds
}


class Killed(BaseException):
    """In place of a signal that nothing can catch."""


def run(world: World, target: str = "kind", **options: Any) -> tuple[Installed, list[str]]:
    tokens: list[str] = []
    plan = world.plan(target, ManifestOptions(**options))
    return install(
        world.kubectl(), plan, lambda text: None, lambda _, one: tokens.append(one)
    ), tokens


def secret(world: World, name: str) -> dict[str, str]:
    data = world.server.get("secrets", name)["data"]
    return {key: base64.b64decode(one).decode() for key, one in data.items()}


def contents(world: World) -> dict[Any, Document]:
    """All that lies on a cluster, but the values of secrets and what the server numbers."""
    found = {}
    for key, one in world.server.objects.items():
        metadata = {
            name: value
            for name, value in one["metadata"].items()
            if name not in ("uid", "resourceVersion", "generation", "creationTimestamp")
        }
        kept = copy.deepcopy({**one, "metadata": metadata})
        if key[0] == "secrets":
            kept["data"] = sorted(one["data"])
        kept.get("status", {}).pop("observedGeneration", None)
        found[key] = kept
    return found


@pytest.fixture(scope="module")
def complete(
    tmp_path_factory: pytest.TempPathFactory, kubectl_program: str
) -> Iterator[tuple[World, tuple[int, list[str], str]]]:
    """A cluster after one installation, and what that printed; tests leave it as it is."""
    with running_world(tmp_path_factory.mktemp("complete")) as world:
        yield world, cli(*world.words("install"), *world.weights)


def test_from_an_empty_cluster_to_an_answered_frame(complete: Any) -> None:
    world, (code, lines, notes) = complete
    assert code == 0, notes
    assert len(lines) + len(notes.splitlines()) <= 6
    assert "serves in the namespace gearshift" in lines[0]
    assert "gateway nano, 3 objects, 41 ms; graph small, 3 objects, 95 ms" in lines[1]
    for one in read_overlay("kind", ManifestOptions()).documents:
        key = _PLURALS[one["apiVersion"], one["kind"]]
        place = "" if one["kind"] == "Namespace" else "gearshift"
        assert (key, place, one["metadata"]["name"]) in world.server.objects
    for rung, path in world.ladder.items():
        stored = world.server.folder / "ladder" / f"{rung}.onnx"
        assert stored.read_bytes() == path.read_bytes()
    assert (world.server.folder / "policy" / "reference.parquet").is_file()
    claim = world.server.get("persistentvolumeclaims", "gearshift-models")
    digest = hashlib.sha256(world.policy.read_bytes()).hexdigest()
    assert claim["metadata"]["annotations"]["gearshift/policy.policy.onnx"] == digest
    assert not world.server.named("pods")
    assert "gearshift-trial" not in world.server.named("networkpolicies.networking.k8s.io")


def test_the_tokens_are_good_and_each_has_its_role(complete: Any, tmp_path: Path) -> None:
    world, (_, _, notes) = complete
    client = notes.split()[-1]
    tokens = tmp_path / "tokens.jsonl"
    tokens.write_text(secret(world, "gearshift-tokens")["tokens.jsonl"])
    access = TokenAccess(tokens)

    presented = {
        "first": (client, Role.STREAM),
        "install": (secret(world, "gearshift-trial")["token"], Role.STREAM),
        "scrape": (secret(world, "gearshift-scrape")["token"], Role.WATCH),
        "rollout": (secret(world, "gearshift-operate")["token"], Role.OPERATE),
        "logger": (secret(world, "gearshift-events")["token"], Role.EVENTS),
    }
    for name, (token, role) in presented.items():
        found = access.check({"authorization": f"Bearer {token}"}, role)
        assert (found.name, found.roles) == (name, {role})
    assert len({token for token, _ in presented.values()}) == len(presented)
    assert len(secret(world, "gearshift-tokens")["event-key"]) == 64
    with pytest.raises(Forbidden):
        access.check({"authorization": f"Bearer {client}"}, Role.WATCH)

    mlflow, store = secret(world, "gearshift-mlflow"), secret(world, "gearshift-s3")
    uri = f"postgresql://mlflow:{mlflow['password']}@postgres:5432/mlflow"
    assert mlflow["backend-store-uri"] == uri
    (identity,) = json.loads(store["s3.json"])["identities"]
    assert identity["credentials"] == [
        {"accessKey": store["AWS_ACCESS_KEY_ID"], "secretKey": store["AWS_SECRET_ACCESS_KEY"]}
    ]


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("http://gateway/v1/events", "http://logger:{token}@gateway/v1/events"),
        ("http://gateway.vision:80/v1/events", "http://logger:{token}@gateway.vision:80/v1/events"),
        ("http://own:word@gateway/v1/events", "http://own:word@gateway/v1/events"),
        ("http://broker.knative-eventing/vision", "http://broker.knative-eventing/vision"),
    ],
)
def test_events_go_where_asked_and_only_the_gateway_gets_its_token(
    address: str, wanted: str
) -> None:
    overlay = read_overlay("kind", ManifestOptions(events_url=address))
    made = {one["metadata"]["name"]: one["data"] for one in missing(overlay, {}, "first").created}
    data = made["gearshift-events"]
    content = {key: base64.b64decode(value).decode() for key, value in data.items()}
    assert content["url"] == wanted.format(token=content["token"])


def test_a_second_run_changes_nothing_and_reports_it(complete: Any) -> None:
    world, _ = complete
    world.server.writes.clear()
    code, lines, notes = cli(*world.words("install"), *world.weights)
    assert (code, world.server.writes, notes) == (0, [], "")
    assert "nothing to change" in lines[0]
    assert len(lines) <= 6


@pytest.mark.parametrize("target", TARGETS)
def test_every_secret_is_made_or_asked_for(target: str) -> None:
    overlay = read_overlay(target, ManifestOptions())
    needed = {name for name, must in overlay.secrets.items() if must}
    assert needed <= {*generated(overlay), *given(overlay)}
    asked = {"gke": {"gearshift-mlflow", "gearshift-iap"}}.get(target, set())
    assert set(given(overlay)) == asked


@pytest.mark.campaign
def test_killed_before_any_command_it_is_taken_up_again(new_world: Callable[[], World]) -> None:
    whole = new_world()
    run(whole)
    reference, count = contents(whole), len(whole.commands)
    assert count > 20
    places = random.Random(5).sample(range(count), runs(3, count))

    for place in places:
        world = new_world()
        seen: list[str] = []

        def kill(command: str, place: int = place, seen: list[str] = seen) -> None:
            if len(seen) == place:
                raise Killed
            seen.append(command)

        with pytest.raises(Killed):
            install(world.kubectl(kill), world.plan(), lambda text: None, lambda _, one: None)
        before = {name: one["data"] for name, one in world.server.named("secrets").items()}
        run(world)

        assert contents(world) == reference, f"killed before {whole.commands[place]}"
        for name, data in before.items():
            assert world.server.get("secrets", name)["data"] == data


@pytest.mark.campaign
def test_a_process_killed_at_any_time_is_taken_up_again(world: World) -> None:
    chance = random.Random(7)
    command = [sys.executable, "-m", "gearshift", *world.words("install"), *world.weights]
    for _ in range(runs(1, 12)):
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            process.communicate(timeout=chance.uniform(1.5, 6))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    result, _ = run(world)
    assert run(world)[0].changed == ()
    assert result.namespace == "gearshift"
    stored = world.server.folder / "ladder" / "large.onnx"
    assert stored.read_bytes() == world.ladder["large"].read_bytes()


@pytest.mark.campaign
def test_the_printed_commands_do_the_same(
    new_world: Callable[[], World], tmp_path: Path, kubectl_program: str
) -> None:
    installed, scripted = new_world(), new_world()
    run(installed)
    code, lines, notes = cli(*scripted.words("install", "--dry-run"), *scripted.weights)
    assert (code, scripted.server.writes) == (0, []), notes
    script = tmp_path / "install.sh"
    script.write_text("\n".join(lines) + "\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    verb = programs / "gearshift"
    verb.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gearshift "$@"\n')
    verb.chmod(0o755)
    path = os.pathsep.join((str(programs), str(Path(kubectl_program).parent), os.environ["PATH"]))

    for _ in range(runs(1, 2)):  # it can be pasted again
        done = subprocess.run(
            ["sh", str(script)],
            cwd=ROOT,
            env={**environment(), "PATH": path},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        assert contents(scripted) == contents(installed)


def test_no_secret_is_printed_logged_or_an_argument(
    world: World, tmp_path: Path, kubectl_program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    arguments = tmp_path / "arguments"
    wrapper = programs / "kubectl"
    wrapper.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {arguments}\nexec {kubectl_program} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    code, lines, notes = cli(*world.words("install", "-v"), *world.weights)
    _, dry, _ = cli(*world.words("install", "--dry-run"), *world.weights)

    assert code == 0
    typed = arguments.read_text()
    assert "--kustomize" in typed
    written = "\n".join((typed, *lines, notes, *dry))
    names = generated(read_overlay("kind", ManifestOptions()))
    values = [value for name in names for value in secret(world, name).values()]
    encoded = [one for name in names for one in world.server.get("secrets", name)["data"].values()]
    assert len(values) == 12
    for value in (*values, *encoded):
        assert value not in written
    assert notes.count("gs_") == 1


def test_secrets_that_are_there_stay_and_their_tokens_become_known(world: World) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gearshift"}}
    world.server.put("namespaces", namespace)
    by_hand = '{"name": "robot-7", "roles": ["stream"], "sha256": "' + "a" * 64 + '"}'

    def put(name: str, **content: str) -> None:
        data = {key: base64.b64encode(one.encode()).decode() for key, one in content.items()}
        metadata = {"name": name, "namespace": "gearshift"}
        world.server.put(
            "secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        )

    put("gearshift-tokens", **{"tokens.jsonl": by_hand, "event-key": "of old"})
    put("gearshift-scrape", token="of old as well")

    _, shown = run(world)

    assert shown == []
    assert secret(world, "gearshift-scrape") == {"token": "of old as well"}
    tokens = secret(world, "gearshift-tokens")
    lines = tokens["tokens.jsonl"].splitlines()
    assert (tokens["event-key"], lines[0]) == ("of old", by_hand)
    known = {json.loads(line)["name"]: json.loads(line)["sha256"] for line in lines}
    assert set(known) == {"robot-7", "scrape", "rollout", "install", "logger"}
    assert known["scrape"] == hashlib.sha256(b"of old as well").hexdigest()


def test_other_weights_on_the_claim_stay(world: World) -> None:
    (world.server.folder / "ladder").mkdir()
    (world.server.folder / "ladder" / "small.onnx").write_bytes(b"promoted last week")
    result, _ = run(world)
    assert result.kept == ("ladder/small.onnx",)
    assert (world.server.folder / "ladder" / "small.onnx").read_bytes() == b"promoted last week"

    world.ladder["nano"].write_bytes(b"a new one")
    code, lines, _ = cli(*world.words("install"), *world.weights)
    assert code == 0
    assert "ladder/nano.onnx, ladder/small.onnx" in lines[-1]
    assert b"weights of nano" in (world.server.folder / "ladder" / "nano.onnx").read_bytes()


def test_what_a_rollout_promoted_stays(world: World) -> None:
    run(world)
    services = "inferenceservices.serving.kserve.io"
    promoted = copy.deepcopy(world.server.get(services, "small"))
    model = promoted["spec"]["predictor"]["model"]
    model["storageUri"] = "pvc://gearshift-models/ladder-2"
    model["args"].append(f"--sha256={'b' * 64}")
    promoted = world.server.put(services, promoted)
    world.controllers(world.server, services, promoted, False)

    run(world)

    model = world.server.get(services, "small")["spec"]["predictor"]["model"]
    assert model["storageUri"] == "pvc://gearshift-models/ladder-2"
    assert model["args"][-1] == f"--sha256={'b' * 64}"
    assert (world.folder / "deploy" / "components" / "promoted" / "small.yaml").is_file()
    world.server.writes.clear()
    assert (run(world)[0].changed, world.server.writes) == ((), [])


def test_weights_in_a_bucket_and_the_policy_on_its_claim(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = tmp_path / "bucket"
    stored = []

    def put(url: str, weights: Any, digests: Any) -> tuple[list[str], list[str]]:
        stored.append((url, sorted(weights)))
        return [], []

    monkeypatch.setattr("inference_graph.control.installer.install.upload_to_bucket", put)
    run(world, storage=f"gs://{bucket.name}/of")
    assert stored == [
        (
            "gs://bucket/of",
            [
                "ladder/large.onnx",
                "ladder/nano.onnx",
                "ladder/small.onnx",
                "policy/policy.onnx",
                "policy/reference.parquet",
            ],
        )
    ]
    assert [one.name for one in world.server.folder.iterdir()] == ["policy"]


def test_what_does_not_serve_is_named_with_what_to_do(world: World) -> None:
    world.controllers.stuck.add("gateway")
    plan = world.plan()
    object.__setattr__(plan, "seconds", 0.1)
    with pytest.raises(DeadlineExceeded) as reported:
        install(world.kubectl(), plan, lambda text: None, lambda _, one: None)
    assert "gateway-0: ImagePullBackOff" in str(reported.value)
    assert "kind load docker-image gearshift:0.1.0" in str(reported.value)
    assert "\n" not in str(reported.value)


def test_a_frame_that_is_not_answered_is_a_failure(world: World) -> None:
    world.controllers.trial = ("Failed", "error: the graph at http://gearshift answers 500: boom")
    with pytest.raises(Unavailable, match="no frame is answered: the graph .* answers 500: boom"):
        run(world)
    world.controllers.trial = type(world.controllers)().trial
    result, _ = run(world)
    assert (result.changed, result.answers["graph"]["rung"]) == ((), "small")


def test_what_only_the_operator_has_is_asked_for_before_anything_is_made(world: World) -> None:
    overlay = read_overlay("gke", ManifestOptions())
    assert given(overlay)["gearshift-mlflow"][0].startswith("kubectl -n gearshift create secret")
    with pytest.raises(ConfigurationError, match="the Secret gearshift-.* is missing"):
        run(world, "gke")
    assert world.server.named("secrets") == {}


def test_one_node_without_kserve(world: World) -> None:
    world.controllers.trial = (
        "Succeeded",
        '{"gateway": {"rung": "nano", "detections": 0, "milliseconds": 5}}',
    )
    for api in [one for one in world.server.kinds if "kserve" in one or "cert-manager" in one]:
        del world.server.kinds[api]
    code, lines, notes = cli(*world.words("install", target="edge"), *world.weights)
    assert code == 0, notes
    assert lines[1] == "one frame  gateway nano, 0 objects, 5 ms"
    assert run(world, "edge")[0].changed == ()
