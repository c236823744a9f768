"""Whether the rollout of a Deployment or StatefulSet is complete, as `kubectl rollout status` does.

KServe's own ``Ready`` stays true all through a rolling update, so it does not show this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def wanted_replicas(workload: Mapping[str, Any]) -> int:
    """How many pods a workload shall have."""
    replicas: int = workload["spec"].get("replicas", 1)
    return replicas


def available_replicas(workload: Mapping[str, Any]) -> int:
    """How many of its pods take requests."""
    key = "readyReplicas" if workload.get("kind") == "StatefulSet" else "availableReplicas"
    available: int = workload.get("status", {}).get(key, 0)
    return available


def incomplete(workload: Mapping[str, Any]) -> str:
    """Why a workload's rollout is not complete, without its name; empty when it is complete."""
    status, wanted = workload.get("status", {}), wanted_replicas(workload)
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return "its change is not seen yet"
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    progress = conditions.get("Progressing", {})
    if progress.get("reason") == "ProgressDeadlineExceeded":
        why = f" ({progress['message']})" if progress.get("message") else ""
        return f"its pods do not become ready{why}; see `kubectl describe pod`"
    updated, available = status.get("updatedReplicas", 0), available_replicas(workload)
    if updated < wanted:
        return f"{updated} of {wanted} pods are updated"
    stateful = workload.get("kind") == "StatefulSet"
    if not stateful and (surplus := status.get("replicas", 0) - wanted) > 0:
        return f"{surplus} pods of before have not ended"
    if available < wanted:
        return f"{available} of {wanted} pods are ready"
    if stateful and status.get("updateRevision") != status.get("currentRevision"):
        return "pods of before have not been replaced"
    return ""
