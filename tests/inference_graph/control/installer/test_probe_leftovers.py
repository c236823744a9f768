"""A check of a cluster that is ended halfway leaves nothing, or what the next command finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster_world import World, cli
from processes import ROOT, environment, until

from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import read_overlay
from inference_graph.control.installer.probes import abandoned_probes, probe_cluster
from inference_graph.control.manifests import ManifestOptions


def probes(world: World) -> list[str]:
    kind = "namespaces"
    return [name for name in world.server.named(kind, "") if name.startswith("gearshift-probe-")]


def begun(world: World) -> subprocess.Popen[bytes]:
    """A check whose probe never ends."""
    world.controllers.policies = None
    check = subprocess.Popen(
        [sys.executable, str(ROOT / "gearshift.py"), *world.words("check", target="edge")],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: any(place in probes(world) for _, place, _ in world.server.objects), 240)
    (name,) = probes(world)
    # The double makes everything at New Year.
    metadata = world.server.get("namespaces", name, "")["metadata"]
    metadata["creationTimestamp"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return check


@pytest.mark.timeout(600)
def test_a_check_that_is_ended_takes_its_namespace_away_and_one_that_is_killed_is_found(
    world: World,
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with begun(world) as check:
            assert abandoned_probes(world.kubectl()) == []  # its process lives
            check.send_signal(number)
            assert check.wait(120) == 130
        assert probes(world) == []
    for command in ("check", "uninstall"):
        with begun(world) as check:
            check.kill()
            check.wait()
        (left,) = probes(world)
        if command == "check":
            world.controllers.policies = True
            list(probe_cluster(world.kubectl(), read_overlay("edge", ManifestOptions()), 20))
        else:
            code, lines, notes = cli(*world.words("uninstall", "--yes", target="edge"))
            assert (code, lines) == (0, [f"goes   namespace/{left}"]), notes
        assert probes(world) == []


def test_a_check_of_another_machine_is_left_until_its_pods_have_had_their_time(
    world: World,
) -> None:
    def put(name: str, holder: str, made: str, label: bool = True) -> None:
        document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "annotations": {"gearshift/probed-by": holder}},
        }
        if label:
            document["metadata"]["labels"] = {"gearshift/probe": "true"}
        world.server.put("namespaces", document)
        world.server.get("namespaces", name, "")["metadata"]["creationTimestamp"] = made

    now, own = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", os.uname().nodename
    put("elsewhere", "other/1", now)
    put("old", "other/1", "2026-01-01T00:00:00Z")
    put("running", f"{own}/{os.getpid()}", now)
    put("odd", f"{own}/x", now)
    put("of-others", "other/1", "2026-01-01T00:00:00Z", label=False)
    assert abandoned_probes(world.kubectl()) == ["namespace/old"]
    world.server.denied.add(("list", "namespaces"))
    assert abandoned_probes(world.kubectl()) == []


def test_an_interrupt_while_the_namespace_is_made_takes_it_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Kubectl.run

    def interrupted(self: Kubectl, arguments: Any, *rest: Any, **more: Any) -> Any:
        answer = run(self, arguments, *rest, **more)
        if arguments[0] == "create":
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(Kubectl, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(probe_cluster(world.kubectl(), read_overlay("edge", ManifestOptions()), 20))
    assert probes(world) == []
