"""The overlay for Seldon Core 2, and a canary as an Experiment's weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import kubernetes_validate
import pytest
import yaml
from cluster_server import Cluster, kubeconfig, served_cluster
from overlays import MANIFESTS, kustomized, named
from rollout_samples import NEW_SHA, OLD, state
from seldon_kinds import seldon_problems

from feature_transformer.image_forms import IMAGE
from foundation.errors import ConfigurationError, InvalidInput
from inference_graph.contract import LADDER
from inference_graph.control.manifests import ManifestOptions, render, write_manifests
from inference_graph.control.rollout.cluster import ClusterRolloutConfig, connected
from inference_graph.control.rollout.seldon import SeldonTraffic
from inference_graph.control.rollout.traffic import AlreadyPromoted, Pending
from inference_graph.repository.__main__ import main
from inference_graph.repository.models import ModelSettings

OVERLAY = MANIFESTS / "overlays" / "seldon"
DOCUMENTS = render(OVERLAY)
PLURALS = {"Model": "models", "Experiment": "experiments"}
_Answer = TypeVar("_Answer")


def test_seldon_takes_every_document() -> None:
    kinds = {"Server", "Model", "Pipeline", "Experiment"}
    ours = [one for one in DOCUMENTS if one["kind"] in kinds]
    assert [text for one in ours for text in seldon_problems(one)] == []
    assert {one["kind"] for one in DOCUMENTS} == kinds | {"NetworkPolicy"}
    assert {one["metadata"]["namespace"] for one in DOCUMENTS} == {"gearshift"}
    (server,) = named(DOCUMENTS, "Server").values()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": server["spec"]["podSpec"],
    }
    kubernetes_validate.validate(pod, "1.37", strict=True)
    broken = copy.deepcopy(named(DOCUMENTS, "Model")["nano"])
    broken["spec"]["storagUri"] = broken["spec"].pop("storageUri")
    assert len(seldon_problems(broken)) == 2


def test_only_the_agent_reaches_the_ports_that_load_models() -> None:
    (policy,) = named(DOCUMENTS, "NetworkPolicy").values()
    kubernetes_validate.validate(policy, "1.37", strict=True)
    # The label of `ServerLabelNameKey` in the operator's constants.
    assert policy["spec"]["podSelector"] == {"matchLabels": {"seldon-server-name": "gearshift"}}
    (rule,) = policy["spec"]["ingress"]
    (server,) = named(DOCUMENTS, "Server").values()
    (container,) = server["spec"]["podSpec"]["containers"]
    own = {int(text.partition("=")[2]) for text in container["args"] if "-port=" in text}
    opened = {port for one in rule["ports"] for port in range(one["port"], one["endPort"] + 1)}
    assert own == {9000, 9500} and opened == set(range(1, 65536)) - own


def test_kubectl_renders_the_same() -> None:
    text = kustomized(OVERLAY)

    def order(one: Any) -> tuple[str, str]:
        return one["kind"], one["metadata"]["name"]

    assert sorted(yaml.safe_load_all(text), key=order) == sorted(DOCUMENTS, key=order)


def test_the_server_is_started_as_its_program_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    (container,) = named(DOCUMENTS, "Server")["gearshift"]["spec"]["podSpec"]["containers"]
    assert container["command"] == ["python", "-m", "inference_graph.repository"]
    with pytest.raises(SystemExit):
        main(["--help"])
    known = capsys.readouterr().out
    for word in container["args"]:
        assert word.partition("=")[0] in known, word
    # Where the agent of Seldon's ServerConfig mlserver looks for its server and puts models.
    assert container["name"] == "mlserver"
    assert [word.partition("=")[2] for word in container["args"]] == [
        "/mnt/agent/models",
        "9000",
        "9500",
    ]


def test_every_model_has_its_settings_and_a_server_that_takes_it() -> None:
    capabilities = named(DOCUMENTS, "Server")["gearshift"]["spec"]["capabilities"]
    models = named(DOCUMENTS, "Model")
    assert set(models) == {*LADDER, "router"}
    for name, model in models.items():
        assert set(model["spec"]["requirements"]) <= set(capabilities)
        assert model["spec"]["storageUri"] == f"s3://gearshift/seldon/{name}"
        settings = ModelSettings.model_validate(
            json.loads((OVERLAY / "models" / name / "model-settings.json").read_text())
        )
        rung = settings.parameters.extra.init_parameters.rung
        file = "policy.onnx" if name == "router" else f"{name}.onnx"
        assert (rung, settings.parameters.uri) == (None if name == "router" else name, f"./{file}")


def test_the_pipeline_gives_each_rung_the_tensor_of_its_name() -> None:
    spec = named(DOCUMENTS, "Pipeline")["gearshift"]["spec"]
    router, *rungs = spec["steps"]
    assert router == {"name": "router"}
    assert [one["name"] for one in rungs] == list(LADDER)
    for one in rungs:
        tensor = f"router.outputs.{one['name']}"
        assert (one["inputs"], one["tensorMap"]) == ([tensor], {tensor: IMAGE})
    assert spec["output"] == {"steps": list(LADDER), "stepsJoin": "any"}


def test_another_cluster_gets_its_own_names(tmp_path: Path) -> None:
    options = ManifestOptions(namespace="fleet", bucket="frames", image="host/team/g", version="2")
    write_manifests(tmp_path, options)
    documents = render(tmp_path / "overlays" / "seldon")
    assert {one["metadata"]["namespace"] for one in documents} == {"fleet"}
    assert named(documents, "Model")["small"]["spec"]["storageUri"] == "s3://frames/seldon/small"
    (container,) = named(documents, "Server")["gearshift"]["spec"]["podSpec"]["containers"]
    assert container["image"] == "host/team/g:2"
    assert (tmp_path / "overlays/seldon/models/nano/model-settings.json").is_file()


class Gateway:
    """The canaries of a gateway, as it was asked for them."""

    def __init__(self) -> None:
        self.weight: int | None = None
        self.target = ""

    def add(self, model: str, target: str) -> dict[str, Any]:
        assert model == "small"
        self.target, self.weight = target, 0
        return {"stable": OLD, "revision": NEW_SHA[:12]}

    def shift(self, model: str, weight: int, looks: Any, salt: str, frames: int) -> None:
        self.weight = weight

    def remove(self, model: str) -> None:
        self.weight = None

    def revisions(self) -> list[dict[str, Any]]:
        return [{} if self.weight is None else {"small": {"weight": self.weight}}]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    made = Gateway()
    monkeypatch.setattr(
        "inference_graph.control.rollout.seldon.CanaryClients", lambda url, token: made
    )
    return made


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(seldon_problems)
    for document in DOCUMENTS:
        if document["kind"] in PLURALS:
            made.put(PLURALS[document["kind"]], document)
    settle(made)
    return made


def settle(cluster: Cluster) -> None:
    """Seldon's operator: what was written is seen and ready."""
    for one in cluster.objects.values():
        one["status"] = {
            "observedGeneration": one["metadata"]["generation"],
            "conditions": [{"type": "Ready", "status": "True"}],
        }


@pytest.fixture
def traffic(cluster: Cluster, gateway: Gateway, tmp_path: Path) -> Iterator[SeldonTraffic]:
    with served_cluster(cluster) as url:
        config = ClusterRolloutConfig(
            kubeconfig=kubeconfig(tmp_path, url),
            gateway="http://gateway",
            mesh="seldon-mesh.gearshift:80",
        )
        yield SeldonTraffic(connected(config), config)


def done(cluster: Cluster, ask: Callable[[], _Answer]) -> tuple[_Answer, list[str]]:
    """Ask until it is done, Seldon's operator at work between two times."""
    waited: list[str] = []
    for _ in range(20):
        try:
            return ask(), waited
        except Pending as pending:
            waited.append(str(pending))
            settle(cluster)
    raise AssertionError(f"it never ends: {waited[-1]}")


def shares(cluster: Cluster) -> dict[str, int]:
    found = cluster.objects["experiments", "small"]["spec"]["candidates"]
    return {one["name"]: one["weight"] for one in found}


def uri(cluster: Cluster, name: str) -> str:
    return str(cluster.objects["models", name]["spec"]["storageUri"])


BEFORE, NEW = "s3://gearshift/seldon/small", "s3://gearshift/seldon/small-2"


@pytest.mark.parametrize("ends", ["promote", "withdraw"])
def test_a_canary_is_a_model_and_a_weight(
    ends: str, cluster: Cluster, traffic: SeldonTraffic, gateway: Gateway
) -> None:
    rollout = state(NEW, phase="step", step=0)
    ready, waited = done(cluster, lambda: traffic.prepare(rollout))
    assert (ready.stable, ready.canary, ready.service) == (OLD, NEW_SHA[:12], "small-canary")
    assert waited == ["the Model small-canary is not ready: no reason is given"]
    assert (uri(cluster, "small"), uri(cluster, "small-canary")) == (BEFORE, NEW)
    assert gateway.target == "seldon-mesh.gearshift:80/small-canary"
    assert shares(cluster) == {"small": 100}
    done(cluster, lambda: traffic.prepare(rollout))  # again: as after a crash
    for step, weight in enumerate((5, 25)):
        _, waited = done(cluster, lambda weight=weight: traffic.shift(rollout, weight))  # type: ignore[misc]
        assert waited == ["Seldon has not seen the Experiment small as it is now"]
        assert shares(cluster) == {"small": 100 - weight, "small-canary": weight}
        assert gateway.weight == weight
        assert traffic.flows(state(NEW, phase="step", step=step))
    assert not traffic.flows(rollout)
    done(cluster, lambda: getattr(traffic, ends)(rollout))
    assert shares(cluster) == {"small": 100}
    assert gateway.weight is None
    assert ("models", "small-canary") not in cluster.objects
    assert uri(cluster, "small") == (NEW if ends == "promote" else BEFORE)
    done(cluster, lambda: getattr(traffic, ends)(rollout))  # again: as after a crash
    assert uri(cluster, "small") == (NEW if ends == "promote" else BEFORE)


def test_the_canary_answers_until_the_stable_one_is_loaded_again_or_is_put_back(
    cluster: Cluster, traffic: SeldonTraffic, gateway: Gateway
) -> None:
    rollout = state(NEW, phase="step", step=0)
    done(cluster, lambda: traffic.prepare(rollout))
    with pytest.raises(Pending):
        traffic.promote(rollout)
    settle(cluster)
    with pytest.raises(Pending, match="Model small"):
        traffic.promote(rollout)
    assert shares(cluster) == {"small-canary": 100}
    assert gateway.weight == 100
    done(cluster, lambda: traffic.withdraw(rollout))
    assert (uri(cluster, "small"), shares(cluster)) == (BEFORE, {"small": 100})


@pytest.mark.parametrize("abort", [False, True], ids=["goes on", "aborted"])
def test_a_canary_that_someone_removes_gets_no_share(
    abort: bool, cluster: Cluster, traffic: SeldonTraffic, gateway: Gateway
) -> None:
    rollout = state(NEW, phase="promoting", step=len(state().plan.steps) - 1)
    done(cluster, lambda: traffic.prepare(rollout))
    done(cluster, lambda: traffic.shift(rollout, 50))
    del cluster.objects["models", "small-canary"]
    with pytest.raises(InvalidInput, match="is gone"):
        done(cluster, lambda: traffic.promote(rollout))
    assert shares(cluster) == {"small": 100}
    # And once the stable Model has been changed, there is nothing else to go back to.
    done(cluster, lambda: traffic.prepare(rollout))
    while uri(cluster, "small") == BEFORE:
        with pytest.raises(Pending):
            traffic.promote(rollout)
        settle(cluster)
    del cluster.objects["models", "small-canary"]
    if abort:
        with pytest.raises(AlreadyPromoted):
            done(cluster, lambda: traffic.withdraw(rollout))
    else:
        done(cluster, lambda: traffic.promote(rollout))
    assert (uri(cluster, "small"), shares(cluster)) == (NEW, {"small": 100})
    assert gateway.weight is None


def test_what_another_person_deployed_meanwhile_stays(
    cluster: Cluster, traffic: SeldonTraffic
) -> None:
    rollout = state(NEW, phase="step", step=0)
    done(cluster, lambda: traffic.prepare(rollout))
    model = copy.deepcopy(cluster.objects["models", "small"])
    model["spec"]["storageUri"] = "s3://gearshift/seldon/fixed"
    cluster.put("models", model)
    done(cluster, lambda: traffic.withdraw(rollout))
    assert uri(cluster, "small") == "s3://gearshift/seldon/fixed"


def test_what_cannot_be_rolled_out_is_refused(cluster: Cluster, traffic: SeldonTraffic) -> None:
    for wrong, named_so in (
        (state(BEFORE), "serves"),
        (state(NEW, model="policy"), "policy swap"),
    ):
        with pytest.raises(InvalidInput, match=named_so):
            traffic.prepare(wrong)
    del cluster.objects["models", "small"]
    with pytest.raises(InvalidInput, match="overlays/seldon"):
        traffic.prepare(state(NEW))
    assert cluster.writes == []
    config = ClusterRolloutConfig(mesh="seldon-mesh:80")
    with pytest.raises(ConfigurationError, match="--gateway"):
        SeldonTraffic(None, config)  # type: ignore[arg-type]
