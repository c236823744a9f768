"""Rollouts of our own controller, with its own rights, on a control plane with KServe in it.

No container runs, so no request can be lost here. What would lose one is looked for instead, all
the time: a router or transformer that works and is set to call a service without a ready pod.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from campaign import runs
from control_plane import Document, wait
from installed import Installed, kustomized
from pods import Pods
from rollout_process import Rollout

NEW = hashlib.sha256(b"new").hexdigest()
SERVICES = {"small": "small", "policy": "router"}
_LOOK = 0.1
_SETTLED = 2.0
"""Seconds in which KServe's controller, which answers in milliseconds, has done what it does."""
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


@pytest.fixture(scope="module")
def room(bare_cluster: Any, pods: Pods) -> Iterator[Installed]:
    """The overlay for a laptop, which has the rollout's account."""
    made = Installed(bare_cluster)
    made.apply(kustomized(bare_cluster, "kind"))
    pods.stop_seconds = 1.5  # a router that ends answers for a while
    yield made
    pods.holds, pods.stop_seconds = lambda pod: False, 0.3
    made.delete()


@pytest.fixture(scope="module")
def account(room: Installed) -> Path:
    """A kubeconfig of the rollout's service account."""
    return room.cluster.account_config("rollout", room.namespace)


def unreachable(room: Installed) -> set[str]:
    """Which router, or transformer behind one, calls whom though no pod of that one is ready."""
    before = _callers(room)
    led_to: dict[str, set[str]] = {}
    for one in room.cluster.ask(_SLICES.format(room.namespace))["items"]:
        service = one["metadata"]["labels"]["kubernetes.io/service-name"]
        ready = [end for end in one["endpoints"] or () if end["conditions"].get("ready")]
        names = {end["targetRef"]["name"] for end in ready if "targetRef" in end}
        led_to.setdefault(service, set()).update(names)
    # What stands in both lists did so when the endpoints were read.
    callers = {name: hosts & before.get(name, set()) for name, hosts in _callers(room).items()}
    asked = [name for name in callers if name.startswith("gearshift-")]
    found = set()
    for caller in asked:
        for host in callers.get(caller, ()):
            asked += led_to.get(host, set()) - set(asked)
            if not led_to.get(host):
                found.add(f"{caller} calls {host}")
    return found


def _callers(room: Installed) -> dict[str, set[str]]:
    """Which service each pod that works is configured to call."""
    found: dict[str, set[str]] = {}
    for pod in room.cluster.ask(room.path("pods"))["items"]:
        shown = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
        if shown.get("Ready") == "True":
            words = pod["spec"]["containers"][0].get("args", [])
            found[pod["metadata"]["name"]] = set(_called(words))
    return found


def _called(words: list[str]) -> Iterator[str]:
    if "--predictor_host" in words:
        yield words[words.index("--predictor_host") + 1].partition(".")[0]
    if "--graph-json" in words:
        nodes = json.loads(words[words.index("--graph-json") + 1])["nodes"]
        for node in nodes.values():
            for step in node["steps"]:
                if "serviceUrl" in step and step.get("weight") != 0:
                    yield step["serviceUrl"].split("/")[2].partition(".")[0]


@contextmanager
def always_reachable(room: Installed) -> Iterator[None]:
    """Check all the time while the block runs that no pod calls a service without pods."""
    found: set[str] = set()
    looks, end = [0], threading.Event()

    def run() -> None:
        while not end.wait(_LOOK):
            found.update(unreachable(room))
            looks[0] += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(60)
    assert found == set()
    assert looks[0] > 10


@pytest.fixture
def rollout(
    room: Installed, pods: Pods, account: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Rollout]:
    uri = f"pvc://gearshift-models/{tmp_path.name}"
    made = Rollout(tmp_path, account, request.param, uri, NEW)
    yield made
    made.kill()
    pods.holds = lambda pod: False


def spec_of(room: Installed, service: str) -> Document:
    return dict(room.read("inferenceservices", service)["spec"])


def rolled(room: Installed, service: str) -> int:
    """How often the pods of a service's predictor were replaced."""
    annotations = room.read("deployments", f"{service}-predictor")["metadata"]["annotations"]
    return int(annotations["deployment.kubernetes.io/revision"])


def objects(room: Installed) -> tuple[set[str], set[str], Any]:
    graph = room.read("inferencegraphs", "gearshift")["spec"]
    return room.names("inferenceservices"), room.names("deployments"), graph


@pytest.mark.parametrize("rollout", SERVICES, indirect=True)
@pytest.mark.timeout(600)
def test_promotion_with_a_controller_killed_in_each_phase(
    room: Installed, pods: Pods, rollout: Rollout
) -> None:
    service = SERVICES[rollout.model]
    before, rolls = objects(room), rolled(room, service)
    with always_reachable(room):
        rollout.killed_while(pods, "starting")
        rollout.reaches("25 %", lambda state: state["weight"] == 25 and state["target"] is None)
        rollout.killed_while(pods, "step", "promote")
        rollout.reaches("50 %", lambda state: state["weight"] == 50 and state["target"] is None)
        rollout.killed_while(pods, "promoting", "promote", "--all")
        rollout.reaches("the promotion", lambda state: state["phase"] == "promoted")
        wait("the end of the canary", lambda: objects(room) == before)
    model = spec_of(room, service)["predictor"]["model"]
    assert model["storageUri"] == rollout.uri
    assert f"--sha256={NEW}" in model["args"]
    time.sleep(_SETTLED)
    assert room.is_complete(f"{service}-predictor")
    assert rolled(room, service) == rolls + 1  # for the new storage, and not again at the end


@pytest.mark.parametrize("rollout", SERVICES, indirect=True)
@pytest.mark.timeout(600)
def test_going_back_with_a_controller_killed_on_the_way(
    room: Installed, pods: Pods, rollout: Rollout
) -> None:
    service = SERVICES[rollout.model]
    serving, before = spec_of(room, service), objects(room)
    rolls = rolled(room, service)
    with always_reachable(room):
        rollout.reaches("25 %", lambda state: state["weight"] == 25 and state["target"] is None)
        rollout.killed_while(pods, "rolling back", "abort")
        rollout.reaches("the end", lambda state: state["phase"] == "rolled back")
        wait("the end of the canary", lambda: objects(room) == before)
    assert spec_of(room, service) == serving
    time.sleep(_SETTLED)
    assert rolled(room, service) == rolls


@pytest.mark.parametrize("rollout", ["small"], indirect=True)
@pytest.mark.timeout(600)
def test_going_back_from_the_middle_of_a_promotion(
    room: Installed, pods: Pods, rollout: Rollout
) -> None:
    serving, before = spec_of(room, "small"), objects(room)
    with always_reachable(room):
        rollout.reaches("25 %", lambda state: state["weight"] == 25 and state["target"] is None)
        rollout.ask("promote", "--all")

        def taking_over() -> bool:
            return bool(spec_of(room, "small")["predictor"]["model"]["storageUri"] == rollout.uri)

        wait("the stable service's new revision", taking_over, 180, 0.02)
        pods.holds = lambda pod: True
        rollout.ask("abort", "--reason", "it rains")
        rollout.reaches("its way back", lambda state: state["phase"] == "rolling back")
        pods.holds = lambda pod: False
        rollout.reaches("the end", lambda state: state["phase"] == "rolled back")
        wait("the end of the canary", lambda: objects(room) == before)
    assert spec_of(room, "small") == serving


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(runs(1, 10)))
@pytest.mark.parametrize("rollout", ["small"], indirect=True)
@pytest.mark.timeout(600)
def test_a_controller_that_dies_again_and_again_promotes_in_the_end(
    room: Installed, rollout: Rollout, seed: int
) -> None:
    rng = random.Random(seed)
    before = objects(room)
    with always_reachable(room):
        for _ in range(4):
            # From before it has read the state, until it has moved traffic or written it down.
            time.sleep(rng.uniform(1.0, 6.0))
            rollout.control()
            if rollout.state["phase"] == "step":
                rollout.ask("promote", "--all")
        rollout.reaches("steps", lambda state: state["phase"] != "starting")
        if rollout.state["phase"] == "step":
            rollout.ask("promote", "--all")
        wait("the promotion", lambda: rollout.state["phase"] == "promoted", 180)
        wait("the end of the canary", lambda: objects(room) == before)
    assert spec_of(room, "small")["predictor"]["model"]["storageUri"] == rollout.uri
