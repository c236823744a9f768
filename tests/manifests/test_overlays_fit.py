"""The parts of an overlay fit together: names, claims, arguments, queries."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from overlays import MANIFESTS, OVERLAYS, named, pods, rendered
from typer.testing import CliRunner

import gearshift
from inference_graph.contract import LADDER
from inference_graph.control.manifests import ManifestOptions, render, write_manifests
from inference_graph.control.triggers.read_config import read_triggers

FULL = ("kind", "gke", "onprem")


def container(overlay: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = (
        one["containers"][0] for where, one in pods(rendered(overlay)) if where == f"{kind} {name}"
    )
    return found


@pytest.mark.parametrize("overlay", FULL)
def test_all_read_the_log_where_the_gateway_writes_it(overlay: str) -> None:
    place = {
        "kind": "/var/lib/gearshift/log",
        "gke": "gs://gearshift/log",
        "onprem": "s3://gearshift/log?endpoint_override=objects:8333&scheme=http&region=us-east-1",
    }[overlay]
    readers = [
        ("StatefulSet", "gateway", "--log_url="),
        ("Deployment", "dashboard", "--log="),
        ("CronJob", "drift-check", "--log="),
    ]
    if overlay != "kind":
        readers.append(("Deployment", "triggers", "--log="))
    for kind, name, argument in readers:
        found = container(overlay, kind, name)
        assert f"{argument}{place}" in found["args"], name
        keys = [one["secretRef"]["name"] for one in found.get("envFrom", ())]
        assert keys == (["gearshift-s3"] if overlay == "onprem" else []), name
    gateways = named(rendered(overlay), "StatefulSet")["gateway"]["spec"].get("replicas")
    assert gateways == (1 if overlay == "kind" else None)  # with a bucket an autoscaler decides


def test_what_mounts_the_first_gateways_claim_runs_beside_it() -> None:
    for overlay in FULL:
        for where, spec in pods(rendered(overlay)):
            claims = [
                one["persistentVolumeClaim"]["claimName"]
                for one in spec.get("volumes", ())
                if "persistentVolumeClaim" in one
            ]
            if "log-gateway-0" not in claims:
                continue
            (term,) = spec["affinity"]["podAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]
            labels = term["labelSelector"]["matchLabels"]
            assert labels == {"statefulset.kubernetes.io/pod-name": "gateway-0"}, where


@pytest.mark.parametrize("overlay", ["gke", "onprem"])
def test_the_triggers_file_is_one_and_is_mounted(overlay: str, tmp_path: Path) -> None:
    config_map = named(rendered(overlay), "ConfigMap")["gearshift-triggers"]
    path = tmp_path / "triggers.yaml"
    path.write_text(config_map["data"]["triggers.yaml"])
    config = read_triggers(path)
    assert {rule.name for rule in config.rules} == {"accuracy", "drift", "alerted by Prometheus"}
    assert config.launch.kubeflow is not None and config.launch.kubeflow.token_file is not None
    assert (config.launch.kubeflow.namespace, config.launch.kubeflow.experiment) == (
        "kubeflow",
        "gearshift",
    )
    # The log as pods of another namespace reach it.
    assert config.launch.kubeflow.parameters == {
        "log": {
            "gke": "gs://gearshift/log",
            "onprem": "s3://gearshift/log?endpoint_override=objects.gearshift.svc:8333"
            "&scheme=http&region=us-east-1",
        }[overlay],
        "reference": "",
        "champion": "",
    }
    for kind, name in (("StatefulSet", "gateway"), ("Deployment", "triggers")):
        found = container(overlay, kind, name)
        assert any("/etc/gearshift-triggers/triggers.yaml" in one for one in found["args"])
        mounts = {one["mountPath"] for one in found["volumeMounts"]}
        assert {"/etc/gearshift-triggers", str(config.launch.kubeflow.token_file.parent)} <= mounts
        assert any(str(config.state).startswith(mount) for mount in mounts)


def test_the_gateway_finds_every_pod_of_a_rung() -> None:
    """Through a Service without an address: one with an address gives each client one pod only."""
    documents = rendered("gke")
    targets = [one for one in container("gke", "StatefulSet", "gateway")["args"] if "--rung" in one]
    assert targets == [f"--rung={rung}=dns:///{rung}-pods:8081" for rung in LADDER]
    for rung in LADDER:
        spec = named(documents, "Service")[f"{rung}-pods"]["spec"]
        assert spec["clusterIP"] == "None"
        assert spec["selector"] == {"serving.kserve.io/inferenceservice": rung}
        assert [one["port"] for one in spec["ports"]] == [8081]


PATHS = [("/v1/triggers", "gateway-first"), ("/v1", "gateway")]


@pytest.mark.parametrize("brought_by", ["overlays/gke", "components/ingress-nginx"])
def test_ingresses_lead_to_services_that_lead_to_pods(brought_by: str) -> None:
    own = rendered("gke")
    if brought_by != "overlays/gke":
        own = list(yaml.safe_load_all((MANIFESTS / brought_by / "ingress.yaml").read_text()))
    services = named(rendered("gke"), "Service")
    for ingress in named(own, "Ingress").values():
        hosts = {host for one in ingress["spec"]["tls"] for host in one["hosts"]}
        for rule in ingress["spec"]["rules"]:
            assert rule["host"] in hosts
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                ports = services[backend["name"]]["spec"]["ports"]
                assert backend["port"]["name"] in {one["name"] for one in ports}
    paths = named(own, "Ingress")["gearshift"]["spec"]["rules"][0]["http"]["paths"]
    assert [(one["path"], one["backend"]["service"]["name"]) for one in paths] == PATHS


def test_routes_lead_from_listeners_to_services() -> None:
    documents = rendered("onprem")
    assert not named(documents, "Ingress")
    services, routes = named(documents, "Service"), named(documents, "HTTPRoute")
    gateway = named(documents, "Gateway")["gearshift"]
    assert gateway["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt"}
    listeners = {one["name"]: one for one in gateway["spec"]["listeners"]}
    for route in routes.values():
        (parent,) = route["spec"]["parentRefs"]
        listener = listeners[parent["sectionName"]]
        assert route["spec"].get("hostnames", [None]) == [listener.get("hostname")]
        for rule in route["spec"]["rules"]:
            if listener["protocol"] == "HTTP":  # nothing is served without encryption
                assert "backendRefs" not in rule
                continue
            (backend,) = rule["backendRefs"]
            if "namespace" in backend:
                # Who comes to the dashboard has passed what asks for a login.
                assert (route["metadata"]["name"], backend["name"]) == ("dashboard", "oauth2-proxy")
                continue
            assert backend["port"] in {
                one["port"] for one in services[backend["name"]]["spec"]["ports"]
            }
            assert rule["timeouts"] == {"request": "0s"}
    found = [
        (rule["matches"][0]["path"]["value"], rule["backendRefs"][0]["name"])
        for rule in routes["gateway"]["spec"]["rules"]
    ]
    assert found == PATHS


def test_keda_asks_for_figures_that_there_are() -> None:
    from foundation.metrics import SERVICE_FIGURES
    from inference_graph import metric_names as vocabulary

    gateway = [one for one in vars(vocabulary).values() if hasattr(one, "kind")]
    kinds = {one.name: one.kind for one in (*SERVICE_FIGURES, *gateway)}
    documents = named(rendered("gke"), "ScaledObject")
    assert set(documents) == {*LADDER, "gateway"}
    for one in documents.values():
        for trigger in one["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            (name,) = re.findall(r"gearshift_\w+", query)
            if name.endswith("_sum"):
                assert kinds[name.removesuffix("_sum")] == "histogram" and "rate(" in query
            else:
                assert kinds[name] == "gauge" and "rate(" not in query
            assert float(trigger["metadata"]["threshold"]) > 0
    services = named(rendered("gke"), "InferenceService")
    for rung in LADDER:
        # KServe's own HPA would fight with ours over the same Deployment.
        annotations = services[rung]["metadata"]["annotations"]
        assert annotations["serving.kserve.io/autoscalerClass"] == "external"
        assert documents[rung]["spec"]["scaleTargetRef"]["name"] == f"{rung}-predictor"


def test_without_keda_kserve_and_an_hpa_scale_by_cpu() -> None:
    documents = rendered("onprem")
    for service in named(documents, "InferenceService").values():
        for part in service["spec"].values():
            assert part["minReplicas"] <= part["maxReplicas"] == 4
            assert (part["scaleMetric"], part["scaleTarget"]) == ("cpu", 70)
    spec = named(documents, "HorizontalPodAutoscaler")["gateway"]["spec"]
    assert spec["scaleTargetRef"]["kind"] == "StatefulSet"
    assert spec["minReplicas"] == 2


def test_a_laptop_is_asked_for_little() -> None:
    asked = [
        one["resources"]["requests"]["cpu"]
        for where, spec in pods(rendered("kind"))
        for one in spec["containers"]
        if "drift" not in where
    ]
    assert set(asked) == {"100m"}
    text = yaml.safe_dump(rendered("kind"))
    assert "nvidia" not in text and "--provider=cuda" not in text


def test_one_node_runs_the_rungs_in_the_gateway() -> None:
    documents = rendered("edge")
    assert {one["kind"] for one in documents} == {
        "Namespace",
        "ServiceAccount",
        "StatefulSet",
        "Service",
        "NetworkPolicy",
    }
    found = container("edge", "StatefulSet", "gateway")
    for rung in LADDER:
        assert f"--rung={rung}=/mnt/ladder/{rung}.onnx" in found["args"]
    assert found["image"] == "gearshift:0.1.0"
    mounts = {one["mountPath"]: one.get("subPath") for one in found["volumeMounts"]}
    assert mounts["/mnt/ladder"] == "ladder" and mounts["/mnt/models"] == "policy"


UNIT = MANIFESTS / "overlays" / "edge" / "gearshift.service"


def test_the_unit_starts_what_there_is() -> None:
    text = UNIT.read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *words = command.split()
    assert program.endswith("/bin/python") and words[:3] == ["-m", "gearshift", "up"]
    known = CliRunner().invoke(gearshift.app, ["up", "--help"]).stdout
    for word in words[3:]:
        assert word.partition("=")[0] in known, word


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    # It looks for the program and the page, which a checkout has elsewhere.
    text = UNIT.read_text().replace("/opt/gearshift/env/bin/python", sys.executable)
    text = re.sub(r"User=.*|Group=.*|Documentation=.*", "", text)
    (tmp_path / "gearshift.service").write_text(text)
    checked = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / "gearshift.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in checked.stderr.splitlines() if "gearshift" in line]
    assert (ours, checked.returncode) == ([], 0), checked.stderr


def test_another_cluster_gets_its_own_names(tmp_path: Path) -> None:
    options = ManifestOptions(
        namespace="fleet",
        image="host:5000/team/gearshift",
        version="2.0",
        bucket="fleet-data",
        hostname="vision.shop.test",
        kubeflow_url="https://kfp.shop.test/pipeline",
        pipeline_id="abc",
        kubeflow_namespace="fleet-runs",
        kubeflow_experiment="nightly",
        pipeline_reference="gs://fleet-data/reference.parquet",
        prometheus_url="http://prom.watch:9090",
        prometheus_namespace="watch",
    )
    write_manifests(tmp_path, options)
    documents = render(tmp_path / "overlays" / "gke")
    text = f"{yaml.safe_dump(documents)}{named(documents, 'ConfigMap')}"
    for left in ("gearshift.example.com", "ns/gearshift/", "gs://gearshift/", "monitoring:9090"):
        assert left not in text
    for wanted in (
        "dashboard.vision.shop.test",
        "ns/fleet/sa/gateway",
        "gs://fleet-data/log",
        "gs://fleet-data/mlflow",
        "host:5000/team/gearshift-mlflow:2.0",
        "http://prom.watch:9090",
        'namespace: "fleet-runs"',
        'experiment: "nightly"',
        'reference: "gs://fleet-data/reference.parquet"',
    ):
        assert wanted in text


@pytest.mark.parametrize(
    ("url", "namespace", "port"),
    [
        ("http://ml-pipeline.kubeflow:8888", "kubeflow", 8888),
        ("http://ml-pipeline.mlops.svc.cluster.local:8888", "mlops", 8888),
        ("https://kfp.shop.test/pipeline", None, 443),
    ],
)
def test_a_launch_reaches_kubeflow_wherever_it_is(
    url: str, namespace: str | None, port: int, tmp_path: Path
) -> None:
    write_manifests(tmp_path, ManifestOptions(kubeflow_url=url))
    policies = named(render(tmp_path / "overlays" / "onprem"), "NetworkPolicy")
    for party in ("gateway", "triggers"):
        policy = policies[f"kubeflow-{party}"]
        assert policy["spec"]["podSelector"] == {"matchLabels": {"app": party}}
        (rule,) = policy["spec"]["egress"]
        (to,) = rule["to"]
        assert [one["port"] for one in rule["ports"]] == [port]
        if namespace is None:
            assert to == {"ipBlock": {"cidr": "0.0.0.0/0"}}
        else:
            labels = {"kubernetes.io/metadata.name": namespace}
            assert to == {"namespaceSelector": {"matchLabels": labels}}


def test_one_option_names_the_registry_of_every_image(tmp_path: Path) -> None:
    write_manifests(tmp_path, ManifestOptions(registry="host:5000/team", version="2.0"))
    for overlay in ("kind", "onprem", "edge"):
        images = {
            container["image"]
            for _, spec in pods(render(tmp_path / "overlays" / overlay))
            for container in (*spec.get("initContainers", ()), *spec["containers"])
        }
        assert {one.startswith("host:5000/team/") for one in images} == {True}
        serving = "gearshift:2.0" if overlay != "onprem" else "gearshift:2.0-gpu"
        assert f"host:5000/team/{serving}" in images
        if overlay != "edge":
            assert any("/team/library/postgres:17" in one and "@sha256:" in one for one in images)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_apply_of_the_same_finds_nothing_to_change(overlay: str) -> None:
    """What a cluster drops, or fills in where lists are compared as a whole, differs each time."""
    for policy in named(rendered(overlay), "NetworkPolicy").values():
        assert [] not in (policy["spec"].get("ingress"), policy["spec"].get("egress"))
    assert named(rendered(overlay), "NetworkPolicy")["default-deny"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    for stateful in named(rendered(overlay), "StatefulSet").values():
        for claim in stateful["spec"]["volumeClaimTemplates"]:
            assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
            assert claim["spec"]["volumeMode"] == "Filesystem"
            assert claim["status"] == {"phase": "Pending"}


@pytest.mark.parametrize("overlay", [one for one in OVERLAYS if one != "edge"])
def test_kserve_opens_no_ingress_of_its_own(overlay: str) -> None:
    for service in named(rendered(overlay), "InferenceService").values():
        labels = service["metadata"]["labels"]
        assert labels["networking.kserve.io/visibility"] == "cluster-local"
