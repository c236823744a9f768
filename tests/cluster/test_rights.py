"""What our service accounts may do, as the real authorizer answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import Cluster
from installed import NAMESPACE, kustomized

ACCOUNT_KINDS = ("Namespace", "ServiceAccount", "Role", "RoleBinding")
OVERLAYS = ("gke", "kind", "onprem")
"""Those that bind rights to accounts."""
NEVER = [
    ("get", "", "secrets", ""),
    ("list", "", "secrets", ""),
    ("create", "", "pods", ""),
    ("create", "", "pods/exec", ""),
    ("update", "serving.kserve.io", "servingruntimes", "gearshift-detector"),
    ("delete", "serving.kserve.io", "inferenceservices", "small"),
    ("delete", "serving.kserve.io", "inferencegraphs", "gearshift"),
    ("update", "serving.kserve.io", "inferenceservices", "somebody-elses"),
    ("create", "rbac.authorization.k8s.io", "rolebindings", ""),
    ("create", "", "serviceaccounts/token", "rollout"),
]
"""What no account of ours may, whatever it is for."""
PIPELINES = "pipelines.kubeflow.org"
RUNS = [
    (verb, kind)
    for kind, verbs in {
        "runs": ("create", "get", "terminate"),
        "experiments": ("create", "get", "list"),
        "pipelines": ("get",),
    }.items()
    for verb in verbs
]
"""What Kubeflow Pipelines asks about who starts a run, looks at it and ends it."""


@pytest.fixture(scope="module", params=OVERLAYS)
def accounts(bare_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[set[str]]:
    rendered = kustomized(bare_cluster, request.param)
    kept = [one for one in rendered if one["kind"] in ACCOUNT_KINDS]
    bare_cluster.apply(kept, "--force-conflicts")
    yield {one["metadata"]["name"] for one in kept if one["kind"] == "ServiceAccount"}
    bare_cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")


def may(
    cluster: Cluster,
    account: str,
    verb: str,
    group: str,
    kind: str,
    name: str,
    space: str = NAMESPACE,
) -> bool:
    resource, _, sub = kind.partition("/")
    attributes = {
        "namespace": space,
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": sub,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:{account}",
            "groups": [
                "system:serviceaccounts",
                f"system:serviceaccounts:{NAMESPACE}",
                "system:authenticated",
            ],
            "resourceAttributes": attributes,
        },
    }
    reported = cluster.ask("/apis/authorization.k8s.io/v1/subjectaccessreviews", review, "POST")
    return bool(reported["status"]["allowed"])


def test_no_account_may_what_none_needs(bare_cluster: Cluster, accounts: set[str]) -> None:
    assert {"detector", "gateway", "router", "rollout"} <= accounts
    allowed = [
        (account, *what)
        for account in sorted(accounts)
        for what in NEVER
        if may(bare_cluster, account, *what)
    ]
    assert allowed == []


def test_only_who_has_to_ask_the_api_has_rights(bare_cluster: Cluster, accounts: set[str]) -> None:
    bound: set[str] = set()
    api = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
    for binding in bare_cluster.ask(f"{api}/rolebindings")["items"]:
        bound |= {one["name"] for one in binding["subjects"] if one["kind"] == "ServiceAccount"}
    reported: Any = {
        account: may(
            bare_cluster, account, "get", "serving.kserve.io", "inferencegraphs", "gearshift"
        )
        for account in sorted(accounts)
    }
    assert {account for account, allowed in reported.items() if allowed} == {"rollout"}
    assert "rollout" in bound and bound <= accounts


def test_who_starts_a_retraining_may(bare_cluster: Cluster, accounts: set[str]) -> None:
    def allowed(account: str) -> list[tuple[str, str]]:
        return [
            (verb, kind)
            for verb, kind in RUNS
            if may(bare_cluster, account, verb, PIPELINES, kind, "", "kubeflow")
        ]

    retraining = {"triggers"} & accounts
    assert [allowed(account) for account in retraining] == [RUNS] * len(retraining)
    assert not may(bare_cluster, "triggers", "delete", PIPELINES, "runs", "", "kubeflow")
    assert allowed("detector") == allowed("rollout") == []
