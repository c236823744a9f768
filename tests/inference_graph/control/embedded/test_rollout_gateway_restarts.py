"""The gateway falls, and is started again, at any moment of a promotion on one machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from processes import closed_port

from foundation.errors import Conflict, GearshiftError, Unavailable
from foundation.storage import sha256_file
from inference_graph.control.embedded import canary as room
from inference_graph.control.embedded.canary import EmbeddedTraffic, PlatformParts, read_released
from inference_graph.control.embedded.supervisor import READY, Service, ServiceState
from inference_graph.control.manifests.services import ServiceContainer
from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.state import RolloutState
from inference_graph.control.rollout.traffic import AlreadyPromoted

NANO = ServiceContainer("nano", "predictor", ("d", "--model_name=nano"), {}, None)
GRAPH: dict[str, Any] = {
    "metadata": {"name": "g"},
    "spec": {"nodes": {"root": {"steps": [{"name": "primary", "serviceName": "nano"}]}}},
}
OLD = "0" * 12


class Machine:
    """Supervisor and gateway; before its n-th call the gateway falls and is started again."""

    def __init__(self, new: str) -> None:
        self.new, self.left = new, 0
        self.services = {
            "nano-predictor": Service("nano-predictor", ("d",), "http://a:1/ready"),
            "gateway": Service("gateway", ("g", "--rung=nano=a:2"), ""),
        }
        self.stable, self.canary, self.weight = OLD, "", 0

    def restart(self) -> None:
        """As the supervisor does, by the command that it knows now."""
        old = "--rung=nano=a:2" in self.services["gateway"].command
        self.stable, self.canary, self.weight = OLD if old else self.new, "", 0

    def call(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.restart()

    # The gateway

    def revisions(self) -> dict[str, dict[str, Any]]:
        self.call()
        return {"nano": {"stable": self.stable, "revision": self.canary, "weight": self.weight}}

    def add(self, model: str, target: str) -> dict[str, Any]:
        self.call()
        if self.stable == self.new:
            raise Conflict("in use already")
        self.canary = self.new
        return self.revisions()[model]

    def shift(self, model: str, weight: int, *_: object) -> None:
        self.call()
        if not self.canary:
            raise Conflict("no canary")
        self.weight = weight

    def promote(self, model: str, revision: str) -> None:
        self.call()
        if self.stable != revision:
            if not self.canary:
                raise Conflict("no canary")
            self.stable, self.canary, self.weight = self.canary, "", 0

    # The gateway and the supervisor share a name.

    def remove(self, what: str | Collection[str]) -> None:
        self.call()
        if isinstance(what, str):
            self.canary, self.weight = "", 0
        else:
            self.services = {k: one for k, one in self.services.items() if k not in what}

    # The supervisor

    def add_services(self, services: Iterable[Service]) -> None:
        self.services |= {one.name: one for one in services}

    def amend(self, name: str, change: Callable[[Service], Service]) -> None:
        self.call()
        self.services[name] = change(self.services[name])

    def service(self, name: str) -> Service | None:
        return self.services.get(name)

    def state_of(self, name: str) -> ServiceState:
        return ServiceState(name, READY, 1, 0, 1.0, "", Path())


class Platform:
    """A rollout at its last step on such a machine."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        new, given = folder / "new.onnx", folder / "nano.onnx"
        new.write_bytes(b"new")
        given.write_bytes(b"old")
        self.machine = machine = Machine(sha256_file(new)[:12])
        self.shown: dict[str, Any] = {}
        patch.setattr(room, "_digest", lambda url: "same")
        patch.setattr(room, "graph_digest", lambda path: "same")
        ports = count(3)

        class Supervised:
            amend, service, state_of = machine.amend, machine.service, machine.state_of
            add, remove = machine.add_services, machine.remove

        def make(one: ServiceContainer, *_: object) -> Service:
            return Service("nano-predictor", one.command, "http://b/ready")

        self.state = folder / "state"
        self.traffic = EmbeddedTraffic(
            PlatformParts(
                Supervised(),  # type: ignore[arg-type]
                [NANO],
                make,
                lambda many: [f"b:{next(ports)}" for _ in range(many)],
                GRAPH,
                folder / "graph.yaml",
                "http://graph",
                f"http://127.0.0.1:{closed_port()}",
                None,
                self.state,
                {"nano": given},
            )
        )
        self.traffic._gateway = machine  # type: ignore[assignment]
        begun = RolloutState(
            "r1", "nano", str(new), sha256_file(new), "anna", RolloutPlan(), datetime.now(UTC)
        )
        ready = self.traffic.prepare(begun)
        self.rollout = replace(begun, canary=ready.canary, phase="promoting", step=3)
        self.traffic.shift(self.rollout, 50)

    def check(self, promoted: bool) -> None:
        """One revision is in use, by gateway, graph and the next start, and its process runs."""
        self.machine.restart()
        assert (self.machine.stable == self.machine.new) is promoted
        name = f"nano-{self.rollout.sha256[:8]}"
        process = f"{name}-predictor" if promoted else "nano-predictor"
        assert set(self.machine.services) == {"gateway", process}
        assert set(read_released(self.state)) == ({"nano"} if promoted else set())
        graph = (self.state.parent / "graph.yaml").read_text()
        assert (name in graph) is promoted
        assert "canary" not in graph


@pytest.mark.parametrize("abort", [False, True], ids=["goes on", "aborted"])
def test_one_revision_is_in_use_wherever_the_gateway_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abort: bool
) -> None:
    for at in range(1, 20):
        platform = Platform(tmp_path / str(at), monkeypatch)
        platform.machine.left = at
        promoted = None
        for attempt in range(5):
            try:
                if abort and attempt:
                    platform.traffic.withdraw(platform.rollout)
                    promoted = False
                else:
                    platform.traffic.promote(platform.rollout)
                    promoted = True
                break
            except AlreadyPromoted:
                promoted = True
                break
            except GearshiftError:
                continue  # the controller asks again
        assert promoted is not None, f"at call {at} it never ends"
        assert promoted or abort
        platform.check(promoted)


def test_an_abort_after_the_gateway_took_over_ends_nothing_that_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph did not take its manifest in time, and somebody has lost patience."""
    platform = Platform(tmp_path / "x", monkeypatch)

    def slow(graph: Any) -> None:
        raise Unavailable("the graph does not take its new manifest; see its log")

    with monkeypatch.context() as patched, pytest.raises(Unavailable):
        patched.setattr(platform.traffic, "_show", slow)
        platform.traffic.promote(platform.rollout)
    with pytest.raises(AlreadyPromoted):
        platform.traffic.withdraw(platform.rollout)
    platform.check(promoted=True)
