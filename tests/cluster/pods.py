"""What a kubelet, its volumes and its network would do, as far as the API server shows it.

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

from control_plane import Cluster
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

Document = dict[str, Any]
_LOOK = 0.15
_ROUTES = ("gateway.networking.k8s.io", "v1", "httproutes")
GPUS = 8


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
        made = config.new_client_from_config(str(cluster.kubeconfig))
        self._core, self._objects = client.CoreV1Api(made), client.CustomObjectsApi(made)
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
            node = {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}
            self._core.create_node(node)
            status = {"capacity": room | more, "allocatable": room | more,
                      "conditions": [_condition("Ready", True)]}  # fmt: skip
            self._core.patch_node_status(name, {"status": status})
            # The admission of nodes marks a new one as not ready, and a controller that is not
            # here would take that away.
            self._core.patch_node(name, {"spec": {"taints": taints}})

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._end.wait(_LOOK):
            try:
                for pod in self._listed(self._core.list_pod_for_all_namespaces):
                    self._tend(pod)
                claims = self._core.list_persistent_volume_claim_for_all_namespaces
                for claim in self._listed(claims):
                    if claim["status"].get("phase") == "Pending":
                        self._give_volume(claim)
                for route in self._objects.list_cluster_custom_object(*_ROUTES)["items"]:
                    if not route.get("status", {}).get("parents"):
                        self._accept(route)
            except ApiException as error:
                if error.status not in (404, 409):  # it changed meanwhile
                    raise

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._end.set()

    def _listed(self, method: Callable[..., Any]) -> list[Document]:
        import json

        answer = method(_preload_content=False, _request_timeout=30)
        return list(json.loads(answer.data)["items"])

    def _tend(self, pod: Document) -> None:
        metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
        name, namespace = metadata["name"], metadata["namespace"]
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return
        now = time.monotonic()
        if "deletionTimestamp" in metadata:
            begun = self._seen.setdefault((metadata["uid"], "end"), now)
            grace = metadata.get("deletionGracePeriodSeconds") or 0
            if now - begun >= min(self.stop_seconds, grace):
                self._core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            return
        begun = self._seen.setdefault((metadata["uid"], "start"), now)
        shown = {one["type"]: one["status"] for one in status.get("conditions", ())}
        ready = now - begun >= self.start_seconds and not self.holds(pod)
        if shown.get("Ready") == "True" or (status.get("phase") == "Running" and not ready):
            return
        address = status.get("podIP") or self._address()
        self._core.patch_namespaced_pod_status(
            name, namespace, {"status": _status(spec, ready, address)}
        )

    def _accept(self, route: Document) -> None:
        conditions = [
            {**_condition(kind, True), "observedGeneration": route["metadata"]["generation"]}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parents = [
            {"parentRef": one, "controllerName": "test/gateway", "conditions": conditions}
            for one in route["spec"]["parentRefs"]
        ]
        group, version, plural = _ROUTES
        name, namespace = route["metadata"]["name"], route["metadata"]["namespace"]
        self._objects.patch_namespaced_custom_object_status(
            group, version, namespace, plural, name, {"status": {"parents": parents}}
        )

    def _address(self) -> str:
        number = next(self._addresses)
        return f"10.88.{number // 256}.{number % 256}"

    def _give_volume(self, claim: Document) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        reference = {
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "uid": metadata["uid"],
            "name": metadata["name"], "namespace": metadata["namespace"],
        }  # fmt: skip
        volume = {
            "metadata": {"name": f"of-{metadata['uid']}"},
            "spec": {
                "accessModes": spec["accessModes"],
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "claimRef": reference,
                "hostPath": {"path": "/nowhere"},
                "storageClassName": spec.get("storageClassName") or "",
            },
        }
        self._core.create_persistent_volume(volume)


@contextmanager
def tended_pods(cluster: Cluster) -> Iterator[Pods]:
    """Nodes whose pods get a status while the block runs."""
    pods = Pods(cluster)
    pods.add_nodes()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            pods.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield pods
    finally:
        pods.stop()
        thread.join(30)
        if failed:
            raise failed[0]


def _condition(kind: str, true: bool) -> Document:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": str(true), "lastTransitionTime": now,
            "reason": "Test", "message": ""}  # fmt: skip


def _status(spec: Mapping[str, Any], ready: bool, address: str) -> Document:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    running = [
        {"name": one["name"], "image": one["image"], "imageID": "", "restartCount": 0,
         "ready": ready, "started": True, "state": {"running": {"startedAt": now}}}
        for one in spec["containers"]
    ]  # fmt: skip
    ended = [
        {"name": one["name"], "image": one["image"], "imageID": "", "restartCount": 0,
         "ready": True, "state": {"terminated": {"exitCode": 0, "finishedAt": now}}}
        for one in spec.get("initContainers", ())
    ]  # fmt: skip
    kinds = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return {
        "phase": "Running", "startTime": now, "hostIP": "10.88.0.1",
        "podIP": address, "podIPs": [{"ip": address}],
        "containerStatuses": running, "initContainerStatuses": ended,
        "conditions": [_condition(kind, true) for kind, true in kinds.items()],
    }  # fmt: skip
