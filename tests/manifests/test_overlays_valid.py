"""Every document of every overlay, against the schema of whoever will read it.

Kubernetes' own kinds: its published JSON schemas, in the strict form, as `kubernetes-validate`
carries them for every version. KServe's: its CRDs. Istio's, KEDA's and the Prometheus operator's:
models generated from their CRDs; a field that they do not know is lost on the way through them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from crd_schemas import problems
from jsonschema import Draft202012Validator
from overlays import MANIFESTS, OVERLAYS, Documents, kustomized, rendered
from seldon_kinds import fields

OLDEST, NEWEST = "1.30", "1.37"
_BUILT_IN = {
    "v1",
    "apps/v1",
    "batch/v1",
    "autoscaling/v2",
    "policy/v1",
    "networking.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
}
_MODELS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "security.istio.io/v1": "cloudcoil.models.istio.security.v1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}


# As far as they are used here; written down from GKE's reference of its ingress features.
_GOOGLE = {
    "FrontendConfig": fields(
        ("redirectToHttps",), redirectToHttps=fields(("enabled",), enabled=_FLAG)
    ),
    "BackendConfig": fields(
        timeoutSec={"type": "integer", "minimum": 1, "maximum": 86_400},
        connectionDraining=fields(
            drainingTimeoutSec={"type": "integer", "minimum": 0, "maximum": 3600}
        ),
        healthCheck=fields(
            type={"enum": ["HTTP", "HTTPS", "HTTP2"]},
            requestPath=_TEXT,
            port={"type": "integer"},
            checkIntervalSec={"type": "integer"},
        ),
        iap=fields(
            ("enabled", "oauthclientCredentials"),
            enabled=_FLAG,
            oauthclientCredentials=fields(("secretName",), secretName=_TEXT),
        ),
    ),
}

_NAMES = {"type": "array", "items": _TEXT, "minItems": 1}
_NUMBER = {"type": "integer", "minimum": 1, "maximum": 65_535}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1, "maxItems": 16}


# Likewise, from the reference of the Gateway API's version 1.
_GATEWAY_API = {
    "Gateway": fields(
        ("gatewayClassName", "listeners"),
        gatewayClassName=_TEXT,
        listeners=_list(
            fields(
                ("name", "port", "protocol"),
                name=_TEXT,
                port=_NUMBER,
                protocol={"enum": ["HTTP", "HTTPS"]},
                hostname=_TEXT,
                tls=fields(
                    mode={"enum": ["Terminate", "Passthrough"]},
                    certificateRefs=_list(fields(("name",), name=_TEXT)),
                ),
            )
        ),
    ),
    "HTTPRoute": fields(
        parentRefs=_list(fields(("name",), name=_TEXT, sectionName=_TEXT)),
        hostnames=_NAMES,
        rules=_list(
            fields(
                matches=_list(
                    fields(
                        path=fields(
                            type={"enum": ["Exact", "PathPrefix", "RegularExpression"]},
                            value={"type": "string", "pattern": "^/"},
                        )
                    )
                ),
                backendRefs=_list(fields(("name",), name=_TEXT, port=_NUMBER, namespace=_TEXT)),
                filters=_list(
                    fields(
                        ("type",),
                        type={"enum": ["RequestRedirect"]},
                        requestRedirect=fields(
                            scheme={"enum": ["http", "https"]}, statusCode={"enum": [301, 302]}
                        ),
                    )
                ),
                timeouts=fields(
                    request={"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
                ),
            )
        ),
    ),
}


_MEMORY, _CPU = {"type": "string", "pattern": "^[0-9]+(m|g|mb|gb)$"}, {"type": "number"}
_MANAGER = fields(("resource",), resource=fields(("cpu", "memory"), cpu=_CPU, memory=_MEMORY))
# As far as they are used here; from the references of Strimzi and of Flink's operator.
_STREAMS = {
    "KafkaTopic": fields(
        ("partitions", "replicas"),
        partitions={"type": "integer", "minimum": 1},
        replicas={"type": "integer", "minimum": 1, "maximum": 32_767},
        config=fields(
            **dict.fromkeys(
                ("retention.ms", "max.message.bytes", "min.insync.replicas"),
                {"type": "integer", "minimum": 1},
            ),
            **{"compression.type": {"enum": ["uncompressed", "producer"]}},
        ),
        topicName=_TEXT,
    ),
    "FlinkDeployment": fields(
        ("image", "flinkVersion", "serviceAccount", "jobManager", "taskManager", "job"),
        image=_TEXT,
        imagePullPolicy={"enum": ["IfNotPresent", "Always", "Never"]},
        flinkVersion={"enum": ["v1_19", "v1_20", "v2_0", "v2_1", "v2_2"]},
        serviceAccount=_TEXT,
        flinkConfiguration={"type": "object", "additionalProperties": _TEXT},
        podTemplate={"type": "object"},  # a pod; judged with the others
        jobManager=_MANAGER,
        taskManager=_MANAGER,
        job=fields(
            ("jarURI", "state"),
            jarURI={"type": "string", "pattern": "^local:///"},
            entryClass=_TEXT,
            args=_NAMES,
            parallelism={"type": "integer", "minimum": 1},
            upgradeMode={"enum": ["savepoint", "last-state", "stateless"]},
            state={"enum": ["running", "suspended"]},
        ),
    ),
}


def complaints(document: dict[str, Any], version: str = NEWEST) -> list[str]:
    """What a cluster would refuse of a document that is not KServe's, or drop silently."""
    return list(_complaints(json.dumps(document), version))


@cache
def _complaints(text: str, version: str) -> tuple[str, ...]:
    """Overlays share most of their documents, so each is looked at once."""
    return tuple(_looked_at(json.loads(text), version))


def _looked_at(document: dict[str, Any], version: str) -> list[str]:
    api, kind = document["apiVersion"], document["kind"]
    if api in _BUILT_IN:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            return [f"{kind}: {'/'.join(map(str, error.path))}: {error.message}"]
        return []
    if api in _MODELS:
        model = getattr(importlib.import_module(_MODELS[api]), kind)
        try:
            kept = model.model_validate(document)
        except ValueError as error:
            return [f"{kind}: {error}"]
        text = kept.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return [f"{kind}: {lost} is dropped" for lost in _lost(document, text, "")]
    if kind in _STREAMS:
        validator = Draft202012Validator(_STREAMS[kind])
        return [one.message for one in validator.iter_errors(document["spec"])]
    if kind in (own := _GATEWAY_API if api.startswith("gateway.networking.k8s.io") else _GOOGLE):
        return [
            one.message for one in Draft202012Validator(own[kind]).iter_errors(document["spec"])
        ]
    return [f"nothing here knows {api} {kind}"]


def _lost(sent: Any, kept: Any, path: str) -> list[str]:
    """Paths of what is in one and not in the other."""
    if isinstance(sent, Mapping):
        if not isinstance(kept, Mapping):
            return [path]
        return [
            one
            for key, value in sent.items()
            for one in _lost(value, kept.get(key), f"{path}/{key}")
        ]
    if isinstance(sent, list):
        if not isinstance(kept, list) or len(sent) != len(kept):
            return [path]
        return [
            one
            for at, (left, right) in enumerate(zip(sent, kept, strict=True))
            for one in _lost(left, right, f"{path}/{at}")
        ]
    return [] if str(sent) == str(kept) else [path]


def ordered(documents: Documents) -> Documents:
    return sorted(documents, key=lambda one: (one["kind"], one["metadata"]["name"]))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_renders_as_kubectl_renders_it(overlay: str) -> None:
    text = kustomized(MANIFESTS / "overlays" / overlay)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    assert ordered(rendered(overlay)) == ordered(list(yaml.load_all(text, Loader=loader)))


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_document(overlay: str, version: str) -> None:
    foreign = [one for one in rendered(overlay) if "kserve.io" not in one["apiVersion"]]
    assert [text for one in foreign for text in complaints(one, version)] == []
    assert len(foreign) >= 7


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kserve_takes_its_own(overlay: str, known: Mapping[tuple[str, str], Any]) -> None:
    own = [one for one in rendered(overlay) if "kserve.io" in one["apiVersion"]]
    assert [text for one in own for text in problems(one, known)] == []
    assert bool(own) == (overlay != "edge")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_two_documents_are_the_samefields(overlay: str) -> None:
    names = [
        (one["apiVersion"], one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in rendered(overlay)
    ]
    assert len(set(names)) == len(names)
    spaces = {one[2] for one in names if one[1] != "Namespace"}
    # The right to start runs is given where they are.
    runs = {(one[1], one[2]) for one in names if one[2] == "kubeflow"}
    assert runs == (
        {("Role", "kubeflow"), ("RoleBinding", "kubeflow")} if "kubeflow" in spaces else set()
    )
    assert ("kubeflow" in spaces) == (overlay in ("gke", "onprem"))
    topics = {(one[1], one[2]) for one in names if one[1] == "KafkaTopic"}
    assert topics == ({("KafkaTopic", "kafka")} if overlay == "kafka" else set())
    assert spaces - {"kubeflow", "kafka"} == {"gearshift"}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("NetworkPolicy", lambda spec: spec.update(podSelektor={})),
        ("StatefulSet", lambda spec: spec.pop("serviceName")),
        ("ScaledObject", lambda spec: spec["triggers"][0].update(metadatta={})),
        ("ScaledObject", lambda spec: spec.pop("scaleTargetRef")),
        ("AuthorizationPolicy", lambda spec: spec.update(rule=[])),
        ("BackendConfig", lambda spec: spec.update(timeoutSec=10**6)),
        ("PrometheusRule", lambda spec: spec["groups"][0].update(interwal="1s")),
    ],
)
def test_a_mistake_is_seen(kind: str, change: Any) -> None:
    import copy

    document = copy.deepcopy(next(one for one in rendered("gke") if one["kind"] == kind))
    assert complaints(document, OLDEST) == []
    change(document["spec"])
    assert len(complaints(document, OLDEST)) == 1
