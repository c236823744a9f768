"""The committed files are the writer's, valid for KServe, and start what they name."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from crd_schemas import problems
from jsonschema import Draft202012Validator

from foundation.errors import ConfigurationError, GearshiftError
from foundation.signing.keys import new_key
from foundation.signing.trust import trust_key
from inference_graph.contract import LADDER, REFERENCE
from inference_graph.control.manifests import (
    ManifestOptions,
    render,
    service_containers,
    write_manifests,
)

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
FOLDERS = ("base", "overlays/cpu", "overlays/gpu", "overlays/shadow", "overlays/cpu-shadow")
Documents = list[dict[str, Any]]
Known = Mapping[tuple[str, str], Any]


def of_kind(documents: Documents, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def containers(documents: Documents) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(value.get("containers", []))
            for one in value.values():
                look(one)
        elif isinstance(value, list):
            for one in value:
                look(one)

    look(documents)
    return found


def test_the_committed_site_is_that_of_the_defaults(tmp_path: Path) -> None:
    write_manifests(tmp_path)
    for path in (*tmp_path.glob("site/**/*.yaml"), *tmp_path.glob("components/promoted/*")):
        committed = MANIFESTS / path.relative_to(tmp_path)
        assert committed.read_text() == path.read_text(), "run gearshift manifests --out manifests"
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        path.relative_to(MANIFESTS) for path in MANIFESTS.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("folder", FOLDERS)
class TestRendered:
    def test_kserve_takes_it(self, folder: str, known: Known) -> None:
        documents = render(MANIFESTS / folder)
        custom = [one for one in documents if "kserve.io" in one["apiVersion"]]
        assert {one["metadata"]["name"]: problems(one, known) for one in custom} == {
            name: []
            for name in (*LADDER, "router", "gearshift", "gearshift-detector", "gearshift-router")
        }

    def test_our_runner_takes_the_graph(self, folder: str) -> None:
        from inference_graph.graph.spec import load_graph

        documents = render(MANIFESTS / folder)
        spec = load_graph(of_kind(documents, "InferenceGraph")["gearshift"])
        assert spec.service_names == {*LADDER, "router"}

    def test_names_fit_together(self, folder: str) -> None:
        documents = render(MANIFESTS / folder)
        services = of_kind(documents, "InferenceService")
        runtimes = of_kind(documents, "ServingRuntime")
        assert set(services) == {*LADDER, "router"}
        for service in services.values():
            model = service["spec"]["predictor"]["model"]
            formats = runtimes[model["runtime"]]["spec"]["supportedModelFormats"]
            assert model["modelFormat"]["name"] in {one["name"] for one in formats}
            assert (
                model["protocolVersion"] in runtimes[model["runtime"]]["spec"]["protocolVersions"]
            )
        gateway = of_kind(documents, "StatefulSet")["gateway"]["spec"]
        labels = gateway["template"]["metadata"]["labels"]
        service = of_kind(documents, "Service")["gateway"]["spec"]
        assert gateway["selector"]["matchLabels"] == service["selector"] == labels
        (container,) = gateway["template"]["spec"]["containers"]
        assert service["ports"][0]["targetPort"] == container["ports"][0]["containerPort"]
        mounts = {one["name"] for one in container["volumeMounts"]}
        claims = {one["metadata"]["name"] for one in gateway["volumeClaimTemplates"]}
        volumes = {one["name"] for one in gateway["template"]["spec"]["volumes"]}
        assert mounts == volumes | claims
        assert {one["metadata"].get("namespace") for one in documents} == {"gearshift", None}

    def test_every_container_is_confined(self, folder: str) -> None:
        found = containers(render(MANIFESTS / folder))
        assert len(found) == 4  # two runtimes, the transformer, the gateway
        for container in found:
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "/tmp" in {one["mountPath"] for one in container["volumeMounts"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                port = container[probe]["httpGet"]["port"]
                assert port in {one["containerPort"] for one in container["ports"]}
            tag = "0.1.0" if "cpu" in folder else "0.1.0-gpu"
            assert container["image"] == f"gearshift:{tag}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_gpus(folder: str) -> None:
    services = of_kind(render(MANIFESTS / folder), "InferenceService")
    for rung in LADDER:
        predictor = services[rung]["spec"]["predictor"]
        limits, arguments = predictor["model"]["resources"]["limits"], predictor["model"]["args"]
        assert f"--rung={rung}" in arguments
        assert limits["memory"] == predictor["model"]["resources"]["requests"]["memory"]
        if "cpu" in folder:
            assert "nvidia.com/gpu" not in limits and "--provider=cpu" in arguments
        else:
            assert limits["nvidia.com/gpu"] == "1" and "--provider=cuda" in arguments
        assert ("tolerations" in predictor) == (folder == "overlays/gpu")
        assert "logger" not in predictor  # its agent would lose requests of every ending pod
    assert "nvidia" not in str(services["router"])


def nodes(folder: str) -> dict[str, Any]:
    graph = of_kind(render(MANIFESTS / folder), "InferenceGraph")["gearshift"]
    found: dict[str, Any] = graph["spec"]["nodes"]
    return found


class TestGraphs:
    def test_models_are_the_ladder(self) -> None:
        steps = nodes("base")["models"]["steps"]
        assert [step["serviceName"] for step in steps] == list(LADDER)
        assert [step["condition"] for step in steps] == [
            '[@this].#(route.model=="nano")',
            '[@this].#(route.model=="small")',
            "@this",
        ]

    def test_without_shadow(self) -> None:
        found = nodes("base")
        assert list(found) == ["root", "plain", "models"]
        assert found["root"]["steps"] == [
            {"name": "route", "serviceName": "router", "dependency": "Hard"},
            {"name": "detect", "nodeName": "plain", "data": "$response", "dependency": "Hard"},
        ]
        assert nodes("overlays/cpu") == nodes("overlays/gpu") == found

    @pytest.mark.parametrize("folder", ["overlays/shadow", "overlays/cpu-shadow"])
    def test_with_shadow(self, folder: str) -> None:
        found = nodes(folder)
        assert found["root"]["steps"][1]["nodeName"] == "detect"
        assert [(step["nodeName"], step["condition"]) for step in found["detect"]["steps"]] == [
            ("sampled", "[@this].#(route.shadow==true)"),
            ("plain", "@this"),
        ]
        assert found["sampled"]["steps"] == [
            {"name": "primary", "nodeName": "models", "dependency": "Hard"},
            {"name": "reference", "serviceName": REFERENCE, "dependency": "Soft"},
        ]
        assert {name: found[name] for name in ("plain", "models")} == {
            name: nodes("base")[name] for name in ("plain", "models")
        }
        (transformer,) = (
            one
            for one in service_containers(render(MANIFESTS / folder))
            if one.component == "transformer"
        )
        assert "--shadow_share=0.05" in transformer.command


def changed(change: Callable[[dict[str, Any]], object], folder: str, kind: str, name: str) -> Any:
    document = copy.deepcopy(of_kind(render(MANIFESTS / folder), kind)[name])
    change(document["spec"])
    return document


@pytest.mark.parametrize(
    ("kind", "name", "change", "message"),
    [
        (
            "InferenceService",
            "nano",
            lambda spec: spec["predictor"].update(minReplica=1),
            "minReplica",
        ),
        ("InferenceService", "nano", lambda spec: spec.pop("predictor"), "predictor"),
        (
            "InferenceService",
            "nano",
            lambda spec: spec["predictor"].update(logger={"mode": "some"}),
            "some",
        ),
        (
            "InferenceService",
            "nano",
            lambda spec: spec["predictor"]["model"]["resources"]["limits"].update(cpu="1 x"),
            "1 x",
        ),
        (
            "InferenceService",
            "nano",
            lambda spec: spec["predictor"]["model"]["modelFormat"].pop("name"),
            "name",
        ),
        (
            "InferenceService",
            "router",
            lambda spec: spec["transformer"]["containers"][0]["ports"][0].update(port=1),
            "port",
        ),
        (
            "ServingRuntime",
            "gearshift-detector",
            lambda spec: spec["containers"][0]["livenessProbe"]["httpGet"].update(port=[1]),
            "port",
        ),
        ("ServingRuntime", "gearshift-detector", lambda spec: spec.pop("containers"), "containers"),
        ("InferenceGraph", "gearshift", lambda spec: spec["nodes"].pop("root"), "no node 'root'"),
        (
            "InferenceGraph",
            "gearshift",
            lambda spec: spec["nodes"]["plain"].update(routerType="Chain"),
            "Chain",
        ),
        (
            "InferenceGraph",
            "gearshift",
            lambda spec: spec["nodes"]["plain"]["steps"][0].update(serviceName="nano"),
            "targets",
        ),
        (
            "InferenceGraph",
            "gearshift",
            lambda spec: spec["nodes"]["plain"]["steps"][0].pop("nodeName"),
            "targets",
        ),
        (
            "InferenceGraph",
            "gearshift",
            lambda spec: spec["nodes"]["plain"]["steps"][0].update(nodeName="modles"),
            "no node",
        ),
        (
            "InferenceGraph",
            "gearshift",
            lambda spec: spec["nodes"]["models"]["steps"][1].update(name="nano"),
            "two steps",
        ),
        (
            "InferenceGraph",
            "gearshift",
            lambda spec: spec["nodes"]["models"]["steps"][1].update(conditon="@this"),
            "conditon",
        ),
        (
            "InferenceGraph",
            "gearshift",
            lambda spec: spec["nodes"].update(
                canary={
                    "routerType": "Splitter",
                    "steps": [
                        {"serviceName": "nano", "weight": 60},
                        {"serviceName": "small", "weight": 30},
                    ],
                }
            ),
            "100",
        ),
    ],
)
def test_wrong_manifests_are_refused(
    kind: str, name: str, change: Callable[[dict[str, Any]], object], message: str, known: Known
) -> None:
    found = problems(changed(change, "base", kind, name), known)
    assert any(message in one for one in found), found


def test_the_strict_schemas_are_schemas(known: Known) -> None:
    assert {kind for _, kind in known} >= {"InferenceService", "InferenceGraph", "ServingRuntime"}
    for validator in known.values():
        Draft202012Validator.check_schema(validator.schema)


def test_a_wrong_kind_is_refused(known: Known) -> None:
    document = copy.deepcopy(of_kind(render(MANIFESTS / "base"), "InferenceGraph")["gearshift"])
    assert problems(document | {"kind": "InferenceGraf"}, known)
    document["metadata"]["lables"] = {}
    assert any("lables" in one for one in problems(document, known))


class TestContainers:
    def test_commands_as_on_a_cluster(self) -> None:
        found = service_containers(render(MANIFESTS / "overlays/cpu"))
        assert [(one.service, one.component) for one in found] == [
            *((rung, "predictor") for rung in LADDER),
            ("router", "predictor"),
            ("router", "transformer"),
        ]
        assert found[0].command == (
            "python",
            "-m",
            "inference_graph.detector",
            "--model_name=nano",
            "--http_port=8080",
            "--grpc_port=8081",
            "--drain_seconds=10",
            "--rung=nano",
            "--weights=/mnt/models/nano.onnx",
            "--provider=cpu",
        )
        assert found[0].storage_uri == "pvc://gearshift-models/ladder"
        assert found[3].storage_uri == "pvc://gearshift-models/policy"
        assert found[4].storage_uri is None
        # A rung's request carries the decision: logged at the router too, it would count twice.
        assert [one.logs for one in found] == [True] * 3 + [False] * 2

    def test_commands_as_on_this_machine(self) -> None:
        *detectors, router, transformer = service_containers(render(MANIFESTS / "overlays/cpu"))
        command = detectors[1].local_command(Path("ladder"))
        assert command[1:] == [
            "-m",
            "inference_graph.detector",
            "--model_name=small",
            "--rung=small",
            "--weights=ladder/small.onnx",
            "--provider=cpu",
            "--host=127.0.0.1",
            "--http_port=0",
            "--grpc_port=0",
        ]
        assert "--policy=/p/policy.onnx" in router.local_command(Path("/p"))
        started = transformer.local_command(predictor_host="127.0.0.1:5", http_port=7)
        assert started[3:] == [
            "--model_name=router",
            "--host=127.0.0.1",
            "--http_port=7",
            "--grpc_port=0",
            "--predictor_host=127.0.0.1:5",
        ]
        with pytest.raises(ConfigurationError, match="needs a predictor"):
            transformer.local_command()
        with pytest.raises(ConfigurationError, match="reads /mnt/models"):
            router.local_command()

    def test_variables_and_names(self) -> None:
        documents = [
            {
                "kind": "ServingRuntime",
                "metadata": {"name": "r"},
                "spec": {
                    "containers": [
                        {
                            "command": ["python"],
                            "args": ["{{.Name}}", "$(A)", "$(B)", "$(C)"],
                            "env": [
                                {"name": "A", "value": "runtime"},
                                {"name": "B", "value": "kept"},
                            ],
                        }
                    ]
                },
            },
            {
                "kind": "InferenceService",
                "metadata": {"name": "s"},
                "spec": {
                    "predictor": {
                        "model": {
                            "runtime": "r",
                            "args": ["-x"],
                            "env": [
                                {"name": "A", "value": "service"},
                                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s"}}},
                            ],
                        }
                    }
                },
            },
        ]
        (one,) = service_containers(documents)
        assert one.command == ("python", "s", "service", "kept", "$(C)", "-x")
        assert one.environment == {"A": "service", "B": "kept"}

    @pytest.mark.parametrize(
        ("kind", "name", "change", "message"),
        [
            (
                "InferenceService",
                "nano",
                lambda spec: spec["predictor"]["model"].update(runtime="x"),
                "names no Serving",
            ),
            (
                "ServingRuntime",
                "gearshift-router",
                lambda spec: spec["containers"][0].pop("command"),
                "no command",
            ),
            (
                "ServingRuntime",
                "gearshift-router",
                lambda spec: spec["containers"][0]["args"].append("{{.Labels.x}}"),
                "placeholder",
            ),
        ],
    )
    def test_what_cannot_be_started(
        self, kind: str, name: str, change: Callable[[dict[str, Any]], object], message: str
    ) -> None:
        documents = render(MANIFESTS / "base")
        change(of_kind(documents, kind)[name]["spec"])
        with pytest.raises(ConfigurationError, match=message):
            service_containers(documents)

    @pytest.mark.parametrize(
        "module",
        [
            "inference_graph.detector",
            "inference_graph.router",
            "feature_transformer",
            "inference_graph.gateway",
        ],
    )
    def test_the_programs_know_their_arguments(
        self, module: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from importlib import import_module

        documents = render(MANIFESTS / "overlays/shadow")
        commands = [list(one.command) for one in service_containers(documents)]
        commands += [
            [*one["command"], *one["args"]] for one in containers(documents) if "command" in one
        ]
        given = {
            word.partition("=")[0]
            for command in commands
            for word in command[3:]
            if command[2] == module
        }
        with pytest.raises(SystemExit):
            import_module(f"{module}.__main__").main(["--help"])
        known = capsys.readouterr().out
        assert len(given) >= 4
        assert {name for name in given if f"{name} " not in known.replace(",", " ")} == set()


class TestOptions:
    def test_another_cluster(self, tmp_path: Path, known: Known) -> None:
        options = ManifestOptions(
            namespace="fleet",
            image="host:5000/team/gearshift",
            version="2.0",
            storage="s3://models/v2",
            log_url="s3://logs/fleet",
            shadow_share=0.5,
        )
        write_manifests(tmp_path, options)
        documents = render(tmp_path / "overlays/cpu-shadow")
        custom = [one for one in documents if "kserve.io" in one["apiVersion"]]
        assert [problem for one in custom for problem in problems(one, known)] == []
        assert {one["image"] for one in containers(documents)} == {"host:5000/team/gearshift:2.0"}
        services = of_kind(documents, "InferenceService")
        assert (
            services["nano"]["spec"]["predictor"]["model"]["storageUri"] == "s3://models/v2/ladder"
        )
        assert "--shadow_share=0.5" in str(services["router"])
        assert of_kind(documents, "Namespace").keys() == {"fleet"}

    def test_trust_audit_and_issuer(self, tmp_path: Path, known: Known) -> None:
        _, public = new_key("release-2026", tmp_path)
        trust = tmp_path / "trust.json"
        trust_key(trust, public)
        options = ManifestOptions(
            trust=trust,
            oidc_issuer="https://login.example:8443/realms/vision",
            oidc_audience="gearshift",
            oidc_role_prefix="gearshift-",
        )
        write_manifests(tmp_path / "out", options)
        for overlay in ("kind", "gke", "onprem", "edge"):
            documents = render(tmp_path / "out" / "overlays" / overlay)
            custom = [one for one in documents if "kserve.io" in one["apiVersion"]]
            assert [problem for one in custom for problem in problems(one, known)] == []
            mounted = of_kind(documents, "ConfigMap")["gearshift-trust"]["data"]["trust.json"]
            assert [one["name"] for one in json.loads(mounted)["keys"]] == ["release-2026"]
            assert "PRIVATE" not in mounted
            loading = [of_kind(documents, "StatefulSet")["gateway"]["spec"]["template"]["spec"]]
            loading += [one["spec"] for one in of_kind(documents, "ServingRuntime").values()]
            assert len(loading) == (1 if overlay == "edge" else 3)
            for spec in loading:
                (container,) = spec["containers"]
                reported = {one["name"]: one.get("value") for one in container["env"]}
                (mount,) = (one for one in container["volumeMounts"] if one["name"] == "trust")
                assert reported["GEARSHIFT_TRUST"] == f"{mount['mountPath']}/trust.json"
                assert "subPath" not in mount  # such a mount would keep what was revoked
                (volume,) = (one for one in spec["volumes"] if one["name"] == "trust")
                assert volume["configMap"] == {"name": "gearshift-trust"}
            arguments = loading[0]["containers"][0]["args"]
            given = [one for one in arguments if one.startswith("--oidc")]
            assert given == [
                "--oidc_issuer=https://login.example:8443/realms/vision",
                "--oidc_audience=gearshift",
                "--oidc_role_prefix=gearshift-",
            ]
            (outward,) = of_kind(documents, "NetworkPolicy")["issuer-gateway"]["spec"]["egress"]
            assert {one["port"] for one in outward["ports"]} == {8443}

    def test_the_audit_log_is_one_on_the_first_gateways_claim(self) -> None:
        documents = render(MANIFESTS / "overlays" / "onprem")
        workloads = (
            of_kind(documents, "StatefulSet")["gateway"],
            of_kind(documents, "Deployment")["triggers"],
            of_kind(documents, "Deployment")["rollout"],
        )
        places = set()
        for one in workloads:
            (container,) = one["spec"]["template"]["spec"]["containers"]
            (path,) = (e["value"] for e in container["env"] if e["name"] == "GEARSHIFT_AUDIT")
            (mount,) = (m for m in container["volumeMounts"] if m["name"] == "log")
            assert path.startswith(f"{mount['mountPath']}/") and not mount.get("readOnly")
            places.add(path)
        assert places == {"/var/lib/gearshift/audit.jsonl"}

    @pytest.mark.parametrize(
        "options",
        [
            {"oidc_issuer": "http://127.0.0.1:9", "oidc_audience": "gearshift"},
            {"namespace": "Fleet"},
            {"version": "1 0"},
            {"image": "-x"},
            {"claim": ""},
            {"storage": "/mnt"},
            {"shadow_share": 2},
            {"hostname": "https://x"},
            {"bucket": "Up"},
            {"kubeflow_url": "ml-pipeline:8888"},
            {"pipeline_id": "a b"},
            {"pipeline_reference": 'gs://a"b'},
            {"log_url": ""},
            {"prometheus_namespace": "x.y"},
        ],
    )
    def test_out_of_range(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            ManifestOptions(**options)


REPLACED = """
resources: [r]
replacements:
- source: {{kind: {kind}, name: n, fieldPath: data.a}}
  targets: [{{select: {{kind: K}}, fieldPaths: [{to}]}}]
"""
PATCHED = "resources: [r]\npatches: [{path: p, target: {kind: K, name: n}}]"


class TestKustomize:
    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "cannot be read"),
            ({"kustomization.yaml": "a: [1"}, "no valid YAML"),
            ({"kustomization.yaml": "namePrefix: x"}, "uses namePrefix"),
            ({"kustomization.yaml": "labels: [{pairs: {}, fields: []}]"}, "give pairs alone"),
            ({"kustomization.yaml": "a: 1\n---\nb: 2"}, "holds 2 documents"),
            ({"kustomization.yaml": "resources: [.]"}, "does it name itself"),
            ({"kustomization.yaml": "resources: [missing.yaml]"}, "missing.yaml cannot be read"),
            ({"kustomization.yaml": "patches: [{patch: x}]"}, "a patch has patch"),
            ({"kustomization.yaml": "patches: [{patch: '[]', target: {group: g}}]"}, "by group"),
            (
                {"kustomization.yaml": REPLACED.format(kind="X", to="data.b"), "r": "{kind: K}"},
                "0 fields are data.a",
            ),
            (
                {
                    "kustomization.yaml": REPLACED.format(kind="K", to="data.c"),
                    "r": "{kind: K, metadata: {name: n}, data: {a: x}}",
                },
                "K n has no field data.c",
            ),
            (
                {
                    "kustomization.yaml": PATCHED,
                    "r": "{kind: K, metadata: {name: n}}",
                    "p": "[{op: replace, path: /a, value: 1}]",
                },
                "replace /a does not fit K n",
            ),
            (
                {
                    "kustomization.yaml": PATCHED,
                    "r": "{kind: K, metadata: {name: n}}",
                    "p": "[{op: move, path: /a}]",
                },
                "move /a does not fit",
            ),
        ],
    )
    def test_what_is_refused(self, files: dict[str, str], message: str, tmp_path: Path) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(GearshiftError, match=message):
            render(tmp_path)

    def test_replacements_are_kubectls(self, tmp_path: Path) -> None:
        """Whole fields, parts between delimiters, wildcards, numbers, escaped dots, a name;
        a target that is absent, and a source that is no part of the result."""
        (tmp_path / "kustomization.yaml").write_text("""
resources: [r.yaml]
patches:
- {target: {kind: Absent}, patch: "- {op: remove, path: /a}"}
replacements:
- source: {kind: ConfigMap, name: s, fieldPath: data.port}
  targets:
  - select: {kind: NetworkPolicy}
    fieldPaths: [spec.egress.0.ports.0.port]
- source: {kind: ConfigMap, name: s, fieldPath: data.name}
  targets:
  - select: {kind: Absent, name: x}
    fieldPaths: [a]
  - select: {kind: Secret|NetworkPolicy}
    fieldPaths: [metadata.absent]
  - select: {kind: Secret}
    fieldPaths: ['metadata.labels.a\\.b/c']
  - select: {kind: NetworkPolicy, name: a-b}
    fieldPaths: ['metadata.labels.a\\.b/c']
  - select: {kind: NetworkPolicy}
    fieldPaths: [metadata.name]
    options: {delimiter: '-', index: 0}
  - select: {kind: Deployment, name: d}
    fieldPaths: ['spec.template.spec.containers.*.image']
    options: {delimiter: /, index: 1}
  - select: {kind: Deployment, name: d}
    fieldPaths: ['spec.template.spec.containers.[name=b].name']
""")
        (tmp_path / "r.yaml").write_text("""
{apiVersion: v1, kind: ConfigMap, metadata: {name: s, annotations: {
  config.kubernetes.io/local-config: "true"}}, data: {port: "8443", name: my-fleet}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a-b, labels: {a.b/c: x}},
 spec: {podSelector: {}, egress: [{ports: [{port: 443}]}]}}
---
{apiVersion: v1, kind: Secret, metadata: {name: s, labels: {a.b/c: x}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {template: {spec: {containers: [
  {name: a, image: x/y/z}, {name: b, image: x/y}]}}}}
""")
        policy, secret, deployment = render(tmp_path)
        assert policy["metadata"] == {"name": "my-fleet-b", "labels": {"a.b/c": "my-fleet"}}
        assert policy["spec"]["egress"] == [{"ports": [{"port": 8443}]}]
        assert secret["metadata"]["labels"] == {"a.b/c": "my-fleet"}
        assert deployment["spec"]["template"]["spec"]["containers"] == [
            {"name": "a", "image": "x/my-fleet/z"},
            {"name": "my-fleet", "image": "x/my-fleet"},
        ]
        if kubectl := shutil.which("kubectl"):
            text = subprocess.run(
                [kubectl, "kustomize", str(tmp_path)], capture_output=True, check=True, text=True
            ).stdout
            by_kind = {one["kind"]: one for one in yaml.safe_load_all(text)}
            assert by_kind == {one["kind"]: one for one in (policy, secret, deployment)}
