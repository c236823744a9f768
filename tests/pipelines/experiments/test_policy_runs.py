"""The policy's run in MLflow and its launch's: one database, linked both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from launch_samples import Pipeline, ledger_in

from components.experiments.ledger import Ledger
from components.experiments.schema import Schema
from components.experiments.verify import verify
from components.policy.register import RegisterConfig
from components.policy.registry_marks import mark_version
from components.tracking import NOTE_TAG, experiment_id, tracking_client
from pipelines.experiments.launch import launch_here, seal_launch


class Registering(Pipeline):
    """A pipeline that logs a policy's run as the register stage does."""

    def run(
        self, parameter: Mapping[str, Any], inputs: Any, options: Any, out: Path, *rest: Any
    ) -> Any:
        result = super().run(parameter, inputs, options, out, *rest)
        chosen = options["register"]
        client = tracking_client(chosen["tracking_uri"])
        experiment = experiment_id(client, chosen["experiment"], "about", out / "files")
        tags = {"gearshift.results": str(out), NOTE_TAG: "# Policy"}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        (out / "registration").mkdir(exist_ok=True)
        entry = {"run_id": run_id, "name": chosen["model_name"], "version": "3"}
        (out / "registration" / "registration.json").write_text(json.dumps(entry))
        return result


@pytest.fixture
def ledger(
    tmp_path: Path, pipeline: Pipeline, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> Ledger:
    monkeypatch.setattr("pipelines.experiments.launch.run_sealed", Registering().run)
    made = ledger_in(tmp_path, empty_mlflow)
    before = made.schema
    stages = {**before._stages, "register": RegisterConfig}
    made.schema = Schema(stages, {"clone": {"seeds": 7}})
    made.rebuild()
    made.index.note("defaults", json.dumps(made.schema.defaults))
    return made


def test_a_launch_and_its_policy_link_to_each_other(ledger: Ledger) -> None:
    launch_here(ledger, seal_launch(ledger, "longer"))
    attempt = ledger.index.attempt("longer.1")
    assert attempt.overrides == {"register.tracking_uri": ledger.records.tracking_uri}
    client = tracking_client(ledger.records.tracking_uri)
    launch = client.get_run(attempt.run_id)
    policy = client.get_run(launch.data.tags["gearshift.policy_run"])
    assert policy.info.run_name == "longer.1 policy"
    assert policy.data.tags["gearshift.launch_run"] == attempt.run_id
    assert policy.data.tags["gearshift.seal"] == attempt.sha256
    for run, other in ((policy, launch), (launch, policy)):
        assert f"/runs/{other.info.run_id})" in run.data.tags[NOTE_TAG]
        assert run.data.params["refine.timesteps"] == "200"
        assert run.data.params["data_version"] == "d"
        (given,) = run.inputs.dataset_inputs
        assert (given.dataset.name, given.dataset.digest) == ("sample scenes", "d")
    assert policy.data.tags[NOTE_TAG].startswith("# Policy")
    assert "registered as gearshift-policy version 3" in launch.data.tags[NOTE_TAG]
    kinds = {
        client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"]
        for run in (policy, launch)
    }
    assert kinds == {"custom_model_development"}
    # What MLflow shows of a launch for people changes nothing that is verified.
    assert [one.verdict for one in verify(ledger, ledger.index.attempts())] == ["intact"]
    assert ledger.records.get(attempt.run_id) == attempt


def test_the_alias_leaves_a_first_version_that_was_refused(ledger: Ledger) -> None:
    uri = ledger.records.tracking_uri
    client = tracking_client(uri)
    client.create_registered_model("policy")
    run = client.create_run(experiment_id(client, "one", "about")).info
    for version in ("1", "2"):
        client.create_model_version("policy", f"{run.artifact_uri}/policy", run.run_id)
        if version == "1":
            client.set_registered_model_alias("policy", "released", "1")

    def released() -> list[str]:
        return [str(one) for one in client.get_registered_model("policy").aliases.values()]

    mark_version(uri, "policy", "2", "refused")
    assert released() == ["1"]
    mark_version(uri, "policy", "1", "refused")
    assert released() == []
    mark_version(uri, "policy", "2", "released")
    assert released() == ["2"]
