"""Seldon Core 2's kinds as far as they are used here, and what its webhooks and scheduler refuse.

Written down from the types of ``operator/apis/mlops/v1alpha1`` in SeldonIO/seldon-core: fields by
their JSON names, required where the type has no ``omitempty``.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

_TEXT = {"type": "string", "minLength": 1}
_NAMES = {"type": "array", "items": _TEXT, "minItems": 1}
_COUNT = {"type": "integer", "minimum": 0}
_JOIN = {"enum": ["inner", "outer", "any"]}
_TENSORS = {"type": "object", "additionalProperties": _TEXT}


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """JSON Schema of an object of these fields and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


_SCALING = dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), _COUNT)
SPECS = {
    "Server": fields(
        ("serverConfig",),
        serverConfig=_TEXT,
        capabilities=_NAMES,
        extraCapabilities=_NAMES,
        podSpec={"type": "object"},  # a pod's; judged with Kubernetes' own schema
        **_SCALING,
    ),
    "Model": fields(
        ("storageUri",),
        storageUri=_TEXT,
        secretName=_TEXT,
        artifactVersion=_COUNT,
        requirements=_NAMES,
        memory={"type": "string", "pattern": "^[0-9]+[KMG]i?$"},
        server=_TEXT,
        logger=fields(percent=_COUNT),
        parameters={
            "type": "array",
            "items": fields(("name", "value"), name=_TEXT, value=_TEXT),
        },
        **_SCALING,
    ),
    "Pipeline": fields(
        ("steps",),
        steps={
            "type": "array",
            "minItems": 1,
            "items": fields(
                ("name",),
                name=_TEXT,
                inputs=_NAMES,
                tensorMap=_TENSORS,
                triggers=_NAMES,
                inputsJoinType=_JOIN,
                triggersJoinType=_JOIN,
                joinWindowMs=_COUNT,
            ),
        },
        output=fields(steps=_NAMES, stepsJoin=_JOIN, tensorMap=_TENSORS, joinWindowMs=_COUNT),
    ),
    "Experiment": fields(
        ("candidates",),
        default=_TEXT,
        candidates={
            "type": "array",
            "minItems": 1,
            "items": fields(("name", "weight"), name=_TEXT, weight=_COUNT),
        },
        mirror=fields(("name", "percent"), name=_TEXT, percent=_COUNT),
        resourceType={"enum": ["model", "pipeline"]},
    ),
}


def seldon_problems(document: dict[str, Any]) -> list[str]:
    """What Seldon would refuse of a document, or drop."""
    kind = document["kind"]
    if document["apiVersion"] != "mlops.seldon.io/v1alpha1" or kind not in SPECS:
        return [f"nothing here knows {document['apiVersion']} {kind}"]
    errors = Draft202012Validator(SPECS[kind]).iter_errors(document["spec"])
    return [f"{kind}: {'/'.join(map(str, one.path))}: {one.message}" for one in errors]
