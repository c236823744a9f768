"""KServe's CRDs as strict JSON schemas, and its webhook's rules for graphs, restated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Two megabytes of YAML take the plain loader half a minute."""
_METADATA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_NODE_TARGETS = ("nodeName", "serviceName", "serviceUrl")


def validators(folder: Path) -> dict[tuple[str, str], Draft202012Validator]:
    """A strict validator for every (apiVersion, kind) of the CRDs in a folder."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for crd in yaml.load_all(path.read_text(), Loader=_LOADER):
            names, group = crd["spec"]["names"], crd["spec"]["group"]
            for version in crd["spec"]["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                api = f"{group}/{version['name']}"
                schema["properties"] |= {
                    "apiVersion": {"const": api},
                    "kind": {"const": names["kind"]},
                    "metadata": _METADATA,
                }
                schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
                found[api, names["kind"]] = Draft202012Validator(schema)
    return found


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A structural OpenAPI schema as JSON schema that refuses what the API server would prune."""
    kept = {
        key: value
        for key, value in schema.items()
        if not key.startswith("x-kubernetes-") and key not in ("format", "default", "nullable")
    }
    if schema.get("x-kubernetes-int-or-string"):
        kept.pop("anyOf", None)
        kept["type"] = ["integer", "string"]
    if "properties" in schema:
        kept["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
    if isinstance(schema.get("items"), Mapping):
        kept["items"] = strict(schema["items"])
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        kept["additionalProperties"] = strict(extra)
    elif schema.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = True
    elif kept.get("type") == "object" and extra is None:
        kept["additionalProperties"] = False
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    return kept


def problems(
    document: Mapping[str, Any], known: Mapping[tuple[str, str], Draft202012Validator]
) -> list[str]:
    """What the API server or KServe's webhook would refuse, one line each."""
    kind = (str(document.get("apiVersion")), str(document.get("kind")))
    if kind not in known:
        return [f"no CRD for {kind}"]
    found = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in known[kind].iter_errors(document)
    ]
    if not found and kind[1] == "InferenceGraph":
        found = graph_problems(document["spec"]["nodes"])
    return found


def graph_problems(nodes: Mapping[str, Any]) -> list[str]:
    """The webhook's rules: a root, unique step names, one target a step, weights of 100."""
    found = [] if "root" in nodes else ["there is no node 'root'"]
    for name, node in nodes.items():
        steps = node.get("steps", [])
        named = [step["name"] for step in steps if step.get("name")]
        for step in sorted({one for one in named if named.count(one) > 1}):
            found.append(f"{name}: two steps are called {step!r}")
        for index, step in enumerate(steps):
            targets = [key for key in _NODE_TARGETS if step.get(key)]
            if len(targets) != 1:
                found.append(f"{name}: step {index} has the targets {targets}")
            elif targets == ["nodeName"] and step["nodeName"] not in nodes:
                found.append(f"{name}: step {index} leads to no node {step['nodeName']!r}")
        if node["routerType"] == "Splitter":
            weights = [step.get("weight") for step in steps]
            if None in weights or sum(weights) != 100:
                found.append(f"{name}: the weights {weights} do not add up to 100")
    return found
