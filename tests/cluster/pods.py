"""What a kubelet, its volumes and a Gateway would do, as far as the API server shows it.

No container runs. For each pod that the scheduler has put on a node this sets the status that a
kubelet would: running, and ready after a while. A pod that is being deleted goes on until its time
to stop is over, then it is taken away, as after a real SIGTERM. A claim that is pending gets a
volume, and an HTTPRoute is accepted, as by a Gateway. Everything else, from Deployments to
EndpointSlices, is done by the real controllers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
from control_plane import Cluster, Document

GPUS = 8
_LOOK = 0.15
_ROUTES = "/apis/gateway.networking.k8s.io/v1"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_ENDED = ("Succeeded", "Failed")


class Pods:
    """Gives pods their status.

    Attributes:
        start_seconds: from a pod's place on a node until it is ready.
        stop_seconds: from its deletion until it is gone; shorter where its grace period is.
        holds: pods that it answers True for start, but do not become ready.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.start_seconds, self.stop_seconds = 0.3, 0.3
        self.holds: Callable[[Document], bool] = lambda pod: False
        self._cluster = cluster
        self._seen: dict[tuple[str, str], float] = {}
        self._addresses = count(2)
        self._end = threading.Event()

    def add_nodes(self) -> None:
        """A node with GPUs, and one without."""
        room = {"cpu": "64", "memory": "256Gi", "pods": "250", "ephemeral-storage": "500Gi"}
        gpus = {"nvidia.com/gpu": str(GPUS)}
        taint = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
        for name, more, taints in (("plain", {}, []), ("gpu", gpus, taint)):
            labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64"}
            labels |= {"cloud.google.com/gke-accelerator": "nvidia-l4"} if more else {}
            metadata = {"name": name, "labels": labels}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
            self._cluster.ask("/api/v1/nodes", node, "POST")
            status = {
                "capacity": room | more,
                "allocatable": room | more,
                "conditions": [_condition("Ready", True)],
            }
            self._cluster.change(f"/api/v1/nodes/{name}/status", {"status": status})
            # Admission marks a new node as not ready, which a controller that is not here would
            # take away.
            self._cluster.change(f"/api/v1/nodes/{name}", {"spec": {"taints": taints}})

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._end.wait(_LOOK):
            try:
                for pod in self._cluster.ask("/api/v1/pods")["items"]:
                    self._tend(pod)
                for claim in self._cluster.ask(_CLAIMS)["items"]:
                    if claim["status"].get("phase") == "Pending":
                        self._give_volume(claim)
                for route in self._cluster.ask(f"{_ROUTES}/httproutes")["items"]:
                    if not route.get("status", {}).get("parents"):
                        self._accept(route)
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in (404, 409):  # it changed meanwhile
                    raise

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._end.set()

    def _tend(self, pod: Document) -> None:
        metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if not spec.get("nodeName") or status.get("phase") in _ENDED:
            return
        now = time.monotonic()
        if "deletionTimestamp" in metadata:
            begun = self._seen.setdefault((metadata["uid"], "end"), now)
            grace = metadata.get("deletionGracePeriodSeconds") or 0
            if now - begun >= min(self.stop_seconds, grace):
                self._cluster.ask(path, {"gracePeriodSeconds": 0}, "DELETE")
            return
        begun = self._seen.setdefault((metadata["uid"], "start"), now)
        shown = {one["type"]: one["status"] for one in status.get("conditions", ())}
        ready = now - begun >= self.start_seconds and not self.holds(pod)
        if shown.get("Ready") == "True" or (status.get("phase") == "Running" and not ready):
            return
        address = status.get("podIP") or self._address()
        self._cluster.change(f"{path}/status", {"status": _status(spec, ready, address)})

    def _accept(self, route: Document) -> None:
        metadata = route["metadata"]
        conditions = [
            {**_condition(kind, True), "observedGeneration": metadata["generation"]}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parents = [
            {"parentRef": one, "controllerName": "test/gateway", "conditions": conditions}
            for one in route["spec"]["parentRefs"]
        ]
        path = f"{_ROUTES}/namespaces/{metadata['namespace']}/httproutes/{metadata['name']}"
        self._cluster.change(f"{path}/status", {"status": {"parents": parents}})

    def _address(self) -> str:
        number = next(self._addresses)
        return f"10.88.{number // 256}.{number % 256}"

    def _path_of(self, claim: Document) -> str:
        """Where a claim's volume lies; nothing mounts it here."""
        return "/nowhere"

    def _give_volume(self, claim: Document) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"of-{metadata['uid']}"},
            "spec": {
                "accessModes": spec["accessModes"],
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "claimRef": {
                    "kind": "PersistentVolumeClaim",
                    "apiVersion": "v1",
                    "uid": metadata["uid"],
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                },
                "hostPath": {"path": self._path_of(claim)},
                "storageClassName": spec.get("storageClassName") or "",
            },
        }
        self._cluster.ask(_VOLUMES, volume, "POST")


@contextmanager
def tended_pods(cluster: Cluster) -> Iterator[Pods]:
    """Nodes whose pods get a status while the block runs."""
    pods = Pods(cluster)
    pods.add_nodes()
    with run_beside(pods):
        yield pods


@contextmanager
def run_beside(pods: Pods) -> Iterator[None]:
    """Run them on a thread of their own; what fails there fails at the end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            pods.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        pods.stop()
        thread.join(30)
        if failed:
            raise failed[0]


def _condition(kind: str, true: bool) -> Document:
    return {
        "type": kind,
        "status": str(true),
        "lastTransitionTime": _now(),
        "reason": "Test",
        "message": "",
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(spec: Mapping[str, Any], ready: bool, address: str) -> Document:
    now = _now()
    running = [
        {
            "name": one["name"],
            "image": one["image"],
            "imageID": "",
            "restartCount": 0,
            "ready": ready,
            "started": True,
            "state": {"running": {"startedAt": now}},
        }
        for one in spec["containers"]
    ]
    ended = [
        {
            "name": one["name"],
            "image": one["image"],
            "imageID": "",
            "restartCount": 0,
            "ready": True,
            "state": {"terminated": {"exitCode": 0, "finishedAt": now}},
        }
        for one in spec.get("initContainers", ())
    ]
    kinds = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return {
        "phase": "Running",
        "startTime": now,
        "hostIP": "10.88.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "containerStatuses": running,
        "initContainerStatuses": ended,
        "conditions": [_condition(kind, true) for kind, true in kinds.items()],
    }
