from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from chain_samples import Artifacts
from mlflow.tracking import MlflowClient
from policy_samples import LENIENT, STRICT

from components.data.dataset import PARTS, load_dataset
from components.data.split import load_split
from components.evaluation.gate import gate
from components.policy.learned import frames_of
from components.policy.register import RegisterConfig, RegisterSummary, log_run, register
from feature_transformer.observation import OBSERVATION_SIZE
from foundation.errors import ConfigurationError, GateRefused, InvalidInput, NotFound
from foundation.storage import sha256_file
from inference_graph.router import Policy


@pytest.fixture(scope="module")
def registered(
    chain: Artifacts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RegisterSummary, MlflowClient, Path]:
    """Registered twice under the default tracking database."""
    folder = tmp_path_factory.mktemp("registered") / "demo"
    assert gate(chain.report / "report.json", folder / "gate", LENIENT).passed
    for _ in range(2):
        summary = register(
            chain.policies, chain.report, folder / "gate", folder / "registration", RegisterConfig()
        )
    return summary, MlflowClient(summary.tracking_uri, registry_uri=summary.tracking_uri), folder


def test_a_version_stands_in_the_registry_with_its_card(
    registered: tuple[RegisterSummary, MlflowClient, Path], chain: Artifacts
) -> None:
    summary, client, folder = registered
    assert (summary.name, summary.version) == ("gearshift-policy", "2")
    assert summary.tracking_uri == f"sqlite:///{folder.parent / 'mlflow.db'}"
    stored = json.loads((folder / "registration" / "registration.json").read_text())
    assert stored == summary.__dict__
    version = client.get_model_version("gearshift-policy", "2")
    report = json.loads((chain.report / "report.json").read_text())
    assert version.run_id == summary.run_id
    assert version.description.startswith("# Gearshift policy\n")
    assert f"keeps {report['retained']:.1%} of large's" in version.description
    for key in ("retained", "latency_ratio", "gap_share", "latency_weight"):
        assert version.tags[key] == repr(report[key])
    model = client.get_registered_model("gearshift-policy")
    assert {name: str(one) for name, one in model.aliases.items()} == {
        "released": "1"
    }  # the first one; a comparison moves it
    assert "alias `released`" in model.description and model.tags["task"] == "detector routing"
    assert version.tags["sha256"] == sha256_file(chain.policies / "policy.onnx")


def test_what_was_registered_decides_as_the_file_does(
    registered: tuple[RegisterSummary, MlflowClient, Path], chain: Artifacts
) -> None:
    summary, client, folder = registered
    found = mlflow.artifacts.download_artifacts(
        client.get_model_version_download_uri("gearshift-policy", "2"),
        dst_path=str(folder / "fetched"),
        tracking_uri=summary.tracking_uri,
    )
    policy = Policy(next(Path(found).rglob("*.onnx")))
    seen = np.random.default_rng(0).random((100, OBSERVATION_SIZE), np.float32)
    original = Policy(chain.policies / "policy.onnx")
    np.testing.assert_array_equal(policy.decide(seen)[0], original.decide(seen)[0])
    assert policy.latency_weight == original.latency_weight
    needed = next(Path(found).rglob("requirements.txt")).read_text().split()
    assert any(line.startswith("onnxruntime") and "==" in line for line in needed)
    assert not any("torch" in line for line in needed)


def test_the_stores_of_the_process_stay_as_they_were(
    registered: tuple[RegisterSummary, MlflowClient, Path],
) -> None:
    """Another client in this process, a server's or a test's, must not inherit ours."""
    ours = registered[0].tracking_uri
    assert mlflow.get_tracking_uri() != ours and mlflow.get_registry_uri() != ours


def test_the_run_holds_figures_curves_and_pages(
    registered: tuple[RegisterSummary, MlflowClient, Path], chain: Artifacts
) -> None:
    summary, client, folder = registered
    run = client.get_run(summary.run_id)
    report = json.loads((chain.report / "report.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.data.tags["gate"] == "passed"
    assert run.info.run_name == "demo policy"
    assert run.data.tags["gearshift.results"] == str(folder)
    assert run.data.tags["mlflow.note.content"].startswith("# Gearshift policy")
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "refused by the gate" in experiment.tags["mlflow.note.content"]
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(
        folder.parent / "mlartifacts"
    )
    assert run.data.metrics["retained"] == pytest.approx(report["retained"])
    assert run.data.metrics["apgr_bc"] == pytest.approx(report["apgr"]["bc"])
    assert run.data.params["policy_sha256"] == report["policy"]["sha256"]
    curve = client.get_metric_history(summary.run_id, "seed_0_explained_variance")
    lines = (chain.policies / "seed-0" / "training.csv").read_text().splitlines()
    assert [point.step for point in curve] == [int(float(row.split(",")[0])) for row in lines[1:]]
    for name in ("kl_to_clone", "entropy", "reward"):
        assert client.get_metric_history(summary.run_id, f"seed_1_{name}")
    names = {artifact.path for artifact in client.list_artifacts(summary.run_id)}
    assert {"report.json", "report.html", "gate.json", "gate.md", "policy.onnx"} <= names


def test_a_policy_states_which_frames_it_was_learned_from(
    registered: tuple[RegisterSummary, MlflowClient, Path], chain: Artifacts, tmp_path: Path
) -> None:
    summary, client, _ = registered
    data, parts = load_dataset(chain.dataset), load_split(chain.split)
    digest = data.info["source_sha256"]
    expected = {
        part: tuple(data.images[i].file_name for i in data.index_of(sorted(parts.part(part))))
        for part in PARTS
    }
    for name in ("released", "2", str(chain.report)):
        found = frames_of(name, summary.tracking_uri, summary.name)
        assert found.dataset_sha256 == digest
        assert {part: tuple(sorted(getattr(found, part))) for part in PARTS} == {
            part: tuple(sorted(names)) for part, names in expected.items()
        }
    version = client.get_model_version(summary.name, "2")
    assert version.tags["data_sha256"] == digest and digest in version.description
    (logged,) = client.get_run(summary.run_id).inputs.dataset_inputs
    assert digest.startswith(logged.dataset.digest) and digest in logged.dataset.source
    assert [tag.value for tag in logged.tags] == ["training"]
    with pytest.raises(NotFound, match="'champion' is no folder, and no version or alias"):
        frames_of("champion", summary.tracking_uri, summary.name)
    with pytest.raises(NotFound, match=r"there is no .*nothing\.db; give --runs"):
        frames_of("released", f"sqlite:///{tmp_path}/nothing.db", summary.name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match=r"frames\.json is missing"):
        frames_of(str(tmp_path), summary.tracking_uri, summary.name)


def test_a_refused_policy_is_not_registered(chain: Artifacts, tmp_path: Path) -> None:
    assert not gate(chain.report / "report.json", tmp_path / "gate", STRICT).passed
    with pytest.raises(GateRefused, match=r"the gate refused this policy \(.*latency_ratio"):
        register(
            chain.policies, chain.report, tmp_path / "gate", tmp_path / "out", RegisterConfig()
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate"]


def test_a_refused_run_can_be_logged(chain: Artifacts, tmp_path: Path) -> None:
    gate(chain.report / "report.json", tmp_path / "gate", STRICT)
    config = RegisterConfig(f"sqlite:///{tmp_path / 'own.db'}", "trial", "mine")
    # A server decides itself where artifacts go; here the folder does.
    client = MlflowClient(config.tracking_uri, registry_uri=config.tracking_uri)
    client.create_experiment("trial", artifact_location=(tmp_path / "files").as_uri())
    # Where large finds nothing, there is no accuracy to retain.
    report = shutil.copytree(chain.report, tmp_path / "report")
    figures = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps(figures | {"retained": None}))
    logged = log_run(chain.policies, report, tmp_path / "gate", tmp_path / "out", config)
    assert logged.version == ""
    tags = client.get_run(logged.run_id).data.tags
    assert tags["gate"] == "refused" and "keeps – of large's" in tags["mlflow.note.content"]
    assert client.search_registered_models() == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verdict", ["{}", '{"passed": "yes"}', '{"passed": 1, "checks": []}'])
def test_only_a_plain_pass_is_a_pass(verdict: str, chain: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "gate.json").write_text(verdict)
    with pytest.raises(GateRefused, match="no checklist"):
        register(
            chain.policies, chain.report, tmp_path / "gate", tmp_path / "out", RegisterConfig()
        )


def test_missing_artifacts_are_named(chain: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gate.json is missing or broken; run the stage"):
        register(chain.policies, chain.report, tmp_path, tmp_path / "out", RegisterConfig())
    gate(chain.report / "report.json", tmp_path / "gate", LENIENT)
    with pytest.raises(InvalidInput, match=r"report.json is missing or broken"):
        register(chain.policies, tmp_path, tmp_path / "gate", tmp_path / "out", RegisterConfig())


def test_a_tracking_server_that_is_not_there_is_named(chain: Artifacts, tmp_path: Path) -> None:
    gate(chain.report / "report.json", tmp_path / "gate", LENIENT)
    config = RegisterConfig(tracking_uri="nowhere://at.all")
    with pytest.raises(ConfigurationError, match="'nowhere://at.all' is no address of MLflow's"):
        log_run(chain.policies, chain.report, tmp_path / "gate", tmp_path / "out", config)
