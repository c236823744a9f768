"""The fields of an InferenceGraph and their types, as KServe 0.20's CRD has them.

``affinity``, ``resources`` and ``tolerations`` are Kubernetes' own and matter to a cluster alone;
here only their outer type is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.errors import ConfigurationError

TOP: Mapping[str, type] = {
    "apiVersion": str,
    "kind": str,
    "metadata": dict,
    "spec": dict,
    "status": dict,
}
SPEC: Mapping[str, type] = {
    "affinity": dict,
    "maxReplicas": int,
    "minReplicas": int,
    "nodeName": str,
    "nodeSelector": dict,
    "nodes": dict,
    "resources": dict,
    "routerTimeouts": dict,
    "scaleMetric": str,
    "scaleTarget": int,
    "serviceAccountName": str,
    "timeout": int,
    "tolerations": list,
}
SCALE_METRICS = ("cpu", "memory", "concurrency", "rps")
TIMEOUTS: Mapping[str, type] = {
    "serverRead": int,
    "serverWrite": int,
    "serverIdle": int,
    "serviceClient": int,
}
TIMEOUT_NAMES: Mapping[str, str] = {
    "serverRead": "server_read",
    "serverWrite": "server_write",
    "serverIdle": "server_idle",
    "serviceClient": "service_client",
}
NODE: Mapping[str, type] = {"routerType": str, "steps": list}
STEP: Mapping[str, type] = {
    "condition": str,
    "data": str,
    "dependency": str,
    "mapPredictionsToInstances": bool,
    "name": str,
    "nodeName": str,
    "serviceName": str,
    "serviceUrl": str,
    "weight": int,
}
_WORDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def checked_fields(document: Any, where: str, allowed: Mapping[str, type]) -> dict[str, Any]:
    """Every allowed field of one mapping, None where the document has none.

    Args:
        document: what stands there.
        where: its path in the manifest; empty for the whole document.
        allowed: the fields and their types.

    Raises:
        ConfigurationError: no mapping, an unknown field, or a value of another type; the message
            starts with the path.
    """
    prefix = f"{where}." if where else ""
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{where or 'the document'}: is no mapping")
    for key, value in document.items():
        if not isinstance(key, str) or key not in allowed:
            raise ConfigurationError(
                f"{prefix}{key}: unknown field; known are {', '.join(sorted(allowed))}"
            )
        kind = allowed[key]
        # In Python true is a number too; in JSON it is not.
        if value is not None and (
            not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        ):
            raise ConfigurationError(f"{prefix}{key}: {value!r} is not {_WORDS[kind]}")
        if isinstance(value, Mapping) and not all(isinstance(one, str) for one in value):
            raise ConfigurationError(f"{prefix}{key}: has a key that is no text; put it in quotes")
    return {key: document.get(key) for key in allowed}
