"""A rollout over the double of a cluster, its gateway and its files, with faults on request."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cluster_server import PLURALS, Cluster, Document
from kubernetes.client.exceptions import ApiException
from rollout_samples import table
from urllib3.exceptions import ProtocolError

from foundation.errors import Conflict, GearshiftError, StorageError, Unavailable
from foundation.storage import sha256_file
from inference_graph.control.manifests import render
from inference_graph.control.manifests.names import MANIFESTS
from inference_graph.control.manifests.promoted import Promoted, read_promoted
from inference_graph.control.rollout import cluster as cluster_room
from inference_graph.control.rollout import controller as controller_room
from inference_graph.control.rollout.audit import history
from inference_graph.control.rollout.cluster import ClusterRolloutConfig, ClusterTraffic
from inference_graph.control.rollout.controller import Controller, start
from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.policy_files import PolicyFiles
from inference_graph.control.rollout.services import digest, storage
from inference_graph.control.rollout.state import ENDED, RolloutState, give_order, read_state
from inference_graph.control.rollout.traffic import TrafficControl

DOCUMENTS = [one for one in render(MANIFESTS / "overlays" / "cpu-shadow") if one["kind"] in PLURALS]
PLAN = RolloutPlan(steps=(50, 100))
OLD = "0" * 12
STATUSES = (409, 410, 429, 500, 503)
FAULTS = ("killed before", "killed after", "refused", "cut", "state truncated", "state removed")
_LASTS = 3
_TICKS = 400


class Killed(BaseException):
    """In place of SIGKILL."""


@dataclass
class Faults:
    """Counts writes, and makes one of them fail.

    Attributes:
        at: number of the write, from 1; 0 for none.
        kind: one of ``FAULTS``.
        state: the state file.
        made: writes so far, by what was written.
    """

    at: int
    kind: str
    state: Path
    made: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        return 0 < self.at <= len(self.made)

    @property
    def failing(self) -> bool:
        """Whether the last write failed."""
        lasts = _LASTS if self.kind == "refused" else 1
        return 0 < self.at <= len(self.made) < self.at + lasts

    def write(self, what: str, do: Callable[[], Any]) -> Any:
        self.made.append(what)
        number = len(self.made)
        if self.kind == "refused" and 0 < self.at <= number < self.at + _LASTS:
            raise self._failure(what, number)
        if number != self.at or self.kind == "refused":
            return do()
        if self.kind == "killed before":
            raise Killed
        do()
        if self.kind == "cut":
            raise ProtocolError("cut") if what == "api" else self._failure(what, number)
        if self.kind == "state removed":
            self.state.unlink(missing_ok=True)
        elif self.kind == "state truncated" and self.state.exists():
            self.state.write_bytes(self.state.read_bytes()[:99])
        raise Killed

    def _failure(self, what: str, number: int) -> Exception:
        if what == "api":
            return ApiException(status=STATUSES[number % len(STATUSES)], reason="a fault")
        return Unavailable("no gateway answers") if what == "gateway" else StorageError("full")


class Api:
    """Kubernetes' client, over the double of its server."""

    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        self._cluster, self.faults = cluster, faults

    def _ask(self, method: str, path: tuple[str, ...], body: Document | None = None) -> Document:
        group, version, namespace, *rest = path
        place = f"/apis/{group}/{version}/namespaces/{namespace}/{'/'.join(rest)}"

        def do() -> Document:
            status, reply = self._cluster.answer(method, place, copy.deepcopy(body))
            if status >= 400:
                raise ApiException(status=status, reason=reply["message"])
            return reply

        return do() if method == "GET" else self.faults.write("api", do)

    def get_namespaced_custom_object(self, *path: str, _request_timeout: float) -> Document:
        return self._ask("GET", path)

    def list_namespaced_custom_object(
        self, *path: str, _request_timeout: float, label_selector: str
    ) -> Document:
        query = f"{path[-1]}?labelSelector={label_selector}"
        return self._ask("GET", (*path[:-1], query))

    def create_namespaced_custom_object(self, *path: Any, _request_timeout: float) -> Document:
        return self._ask("POST", path[:-1], path[-1])

    def replace_namespaced_custom_object(self, *path: Any, _request_timeout: float) -> Document:
        return self._ask("PUT", path[:-1], path[-1])

    def patch_namespaced_custom_object_scale(self, *path: Any, _request_timeout: float) -> Document:
        return self._ask("PATCH", (*path[:-1], "scale"), path[-1])

    def delete_namespaced_custom_object(self, *path: str, _request_timeout: float) -> Document:
        return self._ask("DELETE", path)


class Gateways:
    """One gateway, asked as :class:`CanaryClients` asks all of them."""

    def __init__(self, faults: Faults, policy: str) -> None:
        self.faults = faults
        self.models = {"small": self._fresh(OLD), "policy": self._fresh(policy)}

    def _fresh(self, stable: str) -> dict[str, Any]:
        return {"stable": stable, "revision": "", "weight": 0}

    def revisions(self) -> list[dict[str, dict[str, Any]]]:
        return [copy.deepcopy(self.models)]

    def _add(self, model: str, revision: str) -> dict[str, Any]:
        used = self.models[model]
        if used["stable"] == revision:
            raise Conflict(f"revision {revision} is in use already")
        if used["revision"] not in ("", revision):
            raise Conflict("another one is there")
        used["revision"] = revision
        return dict(used)

    def add(self, model: str, target: str) -> dict[str, Any]:
        return self.faults.write("gateway", lambda: self._add(model, self.canary))

    def add_policy(self, path: Path, sha256: str) -> dict[str, Any] | None:
        if sha256.startswith(self.models["policy"]["stable"]):
            return None
        return self.faults.write("gateway", lambda: self._add("policy", sha256[:12]))

    def use_policy(self, path: Path, sha256: str) -> None:
        assert sha256_file(path) == sha256
        self.add_policy(path, sha256)
        self.faults.write("gateway", lambda: self.models.update(policy=self._fresh(sha256[:12])))

    def shift(self, model: str, weight: int, *rest: Any) -> None:
        if self.models[model]["revision"]:
            self.faults.write("gateway", lambda: self.models[model].update(weight=weight))

    def remove(self, model: str) -> None:
        self.faults.write("gateway", lambda: self.models[model].update(revision="", weight=0))

    canary = ""


class World:
    """A cluster, its gateway and the controller's files, with a rollout that was started."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
        self.model, self.service = model, "router" if model == "policy" else model
        self.folder, self._volume = tmp_path / "rollouts", tmp_path / "volume"
        self.faults = Faults(0, "", self.folder / "state.json")
        for name in ("policy", "policy-2"):
            (self._volume / name).mkdir(parents=True)
            (self._volume / name / "policy.onnx").write_bytes(name.encode())
        self.digests = {
            name: sha256_file(self._volume / name / "policy.onnx")
            for name in ("policy", "policy-2")
        }
        self.promoted = self._volume / "promoted" / "policy.onnx"
        self.manifests = tmp_path / "deploy"
        (self.manifests / "base").mkdir(parents=True)
        (self.manifests / "base" / "kustomization.yaml").touch()
        self.cluster = Cluster()
        for document in DOCUMENTS:
            self.cluster.put(PLURALS[document["kind"]], document)
        self.cluster.kserve.settle()
        self.gateways = Gateways(self.faults, self.digests["policy"][:12])
        self.gateways.canary = self.digests["policy-2"][:12]
        self.before = self.specs()
        monkeypatch.setattr(controller_room, "read_log", lambda *rest: table())
        for room, name, what in (
            (controller_room, "write_state", "file"),
            (controller_room, "note", "file"),
            (cluster_room, "write_promoted", "file"),
            (PolicyFiles, "keep", "file"),
        ):
            monkeypatch.setattr(room, name, self._counted(getattr(room, name), what))
        self.source = "pvc://gearshift-models/policy-2"
        self.rollout = self.start(self.folder, self.source)

    def _counted(self, function: Callable[..., Any], what: str) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            return self.faults.write(what, lambda: function(*given))

        return counted

    def start(self, folder: Path, source: str) -> RolloutState:
        return start(folder, self.model, source, PLAN, "anna", self.digests["policy-2"])

    def specs(self) -> dict[tuple[str, str], Document]:
        return {key: copy.deepcopy(one["spec"]) for key, one in self.cluster.objects.items()}

    def traffic(self) -> TrafficControl:
        config = ClusterRolloutConfig(
            manifests=self.manifests,
            claim=f"gearshift-models={self._volume}",
            promoted=self.promoted,
        )
        made: Any = ClusterTraffic(Api(self.cluster, self.faults), config)
        made._gateway = self.gateways
        return made

    def controller(self, folder: Path | None = None) -> Controller:
        return Controller(folder or self.folder, "log", self.traffic())

    def run(self, abort: bool = False) -> str:
        """The phase in which the rollout ends; a killed controller is started again."""
        controller, aborted = self.controller(), False
        for _ in range(_TICKS):
            state = None
            try:
                state = controller.tick()
            except Killed:
                controller = self.controller()
            except GearshiftError as error:
                # It is shown to those who read the state, unless that cannot be written either.
                if "state" not in self.faults.kind:
                    seen = read_state(self.folder)
                    assert seen is not None
                    assert seen.failure == str(error) or self.faults.failing
            self.cluster.kserve.step()
            done = str(history(self.folder)[-1]["action"])
            if state is None and done in ENDED:
                seen = read_state(self.folder) if "state" not in self.faults.kind else None
                # It ended, and its state was lost then, or the last write's error came after it.
                if "state" in self.faults.kind or (seen is not None and seen.ended):
                    return done
            if state is None:
                continue
            if state.ended:
                assert read_state(self.folder) == state
                assert state.failure == state.waiting == ""
                assert state.weight == state.goal == (100 if state.phase == "promoted" else 0)
                assert done == state.phase
                return state.phase
            if abort and self.faults.met and not aborted:
                give_order(self.folder, "abort", "ben", "boxes drift")
                aborted = True
            elif state.phase == "step" and not state.waiting and state.target is None:
                give_order(self.folder, "promote", "ben", "")
        raise AssertionError(f"it never ends: {read_state(self.folder)}")

    def tick_until(self, controller: Controller, folder: Path, phase: str) -> RolloutState:
        for _ in range(_TICKS):
            controller.tick()
            self.cluster.kserve.step()
            state = read_state(folder)
            if state and state.phase == phase and state.target is None and not state.waiting:
                return state
        raise AssertionError(f"it never gets there: {read_state(folder)}")

    def check(self, phase: str) -> None:
        """The cluster, the gateway and the files agree with the phase."""
        service = self.cluster.objects["inferenceservices", self.service]
        specs = self.specs()
        if phase == "promoted":
            new = Promoted(self.source, self.digests["policy-2"])
            assert (storage(service), digest(service)) == (new.source, new.sha256)
            assert read_promoted(self.manifests) == {self.service: new}
            specs["inferenceservices", self.service] = self.before[
                "inferenceservices", self.service
            ]
        else:
            assert read_promoted(self.manifests) == {}
        assert specs == self.before  # no canary, and no Splitter
        used = "policy-2" if phase == "promoted" and self.model == "policy" else "policy"
        assert self.gateways.models["policy"]["stable"] == self.digests[used][:12]
        for one in self.gateways.models.values():
            assert (one["revision"], one["weight"]) == ("", 0)
        if self.promoted.exists() or used == "policy-2":
            assert sha256_file(self.promoted) == self.digests[used]
        self.cluster.kserve.settle()
        assert self.cluster.kserve.lost == []
