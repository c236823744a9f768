"""The training pipeline's definition: what the Kubeflow UI gets to see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.errors import ConfigurationError
from pipelines.definition import write_pipeline
from pipelines.options import defaults_of
from pipelines.placement import STEPS, PlacementConfig
from pipelines.training.parameters import arguments_of, flat_parameters, options_from
from pipelines.training.pipeline import NAME, training_pipeline
from pipelines.training.stages import STAGES, stage_config, stage_options

PROFILES = {"profile", "profile-2", "profile-3"}
ENDINGS = {"register", "refuse"}
CONTRACT = {"admit", "score"}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    placement = PlacementConfig(
        image="shop/gearshift-python:7", gpu_image="shop/gpu-python:7", gpus=2
    )
    folder = tmp_path_factory.mktemp("compiled") / "build"
    file = write_pipeline(training_pipeline(placement), folder)
    assert file.name == f"{NAME}.yaml"
    found: dict[str, Any] = next(iter(yaml.safe_load_all(file.read_text("utf-8"))))
    return found


def _tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every task that runs a container, by name, also inside the gate's branches."""
    graphs = [spec["root"], *spec["components"].values()]
    found = {}
    for graph in graphs:
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            if "dag" not in spec["components"][task["componentRef"]["name"]]:
                found[name] = task
    return found


def _container(spec: dict[str, Any], task: str) -> dict[str, Any]:
    found: dict[str, Any] = spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"]
    return found


def test_every_stage_is_a_task_and_each_rung_is_profiled(spec: dict[str, Any]) -> None:
    tasks = _tasks(spec)
    stages = {stage.replace("_", "-") for stage in STAGES} - {
        "scenes",
        "profile",
    }  # the scenes are rendered by ingest
    assert set(tasks) == stages | PROFILES | {"refuse"} | CONTRACT
    shown = {tasks[name]["taskInfo"]["name"] for name in PROFILES}
    assert shown == {"profile nano", "profile small", "profile large"}
    rungs = {
        tasks[name]["inputs"]["parameters"]["rung"]["runtimeValue"]["constant"] for name in PROFILES
    }
    assert rungs == {"nano", "small", "large"}


def test_register_runs_only_behind_the_gates_own_verdict(spec: dict[str, Any]) -> None:
    """Fails when the gate is skipped, or when its verdict no longer decides."""
    assert not ENDINGS & set(spec["root"]["dag"]["tasks"])
    branches = [name for name in spec["root"]["dag"]["tasks"] if name.startswith("condition")]
    assert len(branches) == 1
    outer = spec["root"]["dag"]["tasks"][branches[0]]
    verdict = {"taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "gate"}}
    assert outer["inputs"]["parameters"]["pipelinechannel--gate-Output"] == verdict
    conditions = {}
    for graph in spec["components"].values():
        for task in graph.get("dag", {}).get("tasks", {}).values():
            inner = spec["components"][task["componentRef"]["name"]].get("dag", {}).get("tasks", {})
            if ENDINGS & set(inner):
                conditions[next(iter(inner))] = task["triggerPolicy"]["condition"]
    value = "inputs.parameter_values['pipelinechannel--gate-Output'] == true"
    assert conditions == {"register": value, "refuse": f"!({value})"}


def test_nothing_is_measured_before_the_data_are_validated(spec: dict[str, Any]) -> None:
    tasks = _tasks(spec)
    for name in PROFILES | {"split", "observe", "time", "compare-rungs"}:
        assert "spot-check" in tasks[name]["dependentTasks"]
    assert "validate" in tasks["spot-check"]["dependentTasks"]


def test_every_input_is_described_and_few_are_blobs(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    for component in [spec["root"], *spec["components"].values()]:
        if "dag" in component and component is not spec["root"]:
            continue  # KFP's own, around a condition
        for name, one in component.get("inputDefinitions", {}).get("parameters", {}).items():
            assert len(one["description"]) > 8 and "see above" not in one["description"], name
    blobs = {name for name, one in parameters.items() if one["parameterType"] == "STRUCT"}
    assert blobs == {"contract", "settings"}
    kinds = {name: one["parameterType"] for name, one in parameters.items()}
    assert kinds["clone_seeds"] == "NUMBER_INTEGER"
    assert kinds["gate_retained"] == "NUMBER_DOUBLE"
    assert "share of the large rung" in parameters["gate_retained"]["description"]


def test_the_defaults_are_those_of_the_stages(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    for name, one in flat_parameters().items():
        if one.stage != "scenes":
            own = defaults_of(stage_config(one.stage))[one.option.name]
            assert parameters[name]["defaultValue"] == own
    # Without a source there must be something to render.
    assert parameters["source"]["defaultValue"] == ""
    assert parameters["scenes_clips"]["defaultValue"] > 0
    given = {name: one.default for name, one in flat_parameters().items()}
    assert options_from(given, {}) == stage_options({})


def test_arguments_and_options_are_two_forms_of_the_same() -> None:
    options = stage_options(
        {"clone": {"seeds": 3, "hidden": 16}, "evaluate": {"fleet_sizes": [1, 2]}}
    )
    arguments = arguments_of(options)
    assert arguments["clone_seeds"] == 3
    assert arguments["settings"] == {"clone": {"hidden": 16}, "evaluate": {"fleet_sizes": [1, 2]}}
    assert (
        options_from({name: arguments[name] for name in flat_parameters()}, arguments["settings"])
        == options
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clone": {"seeds": 3}}, "set clone_seeds"),
        ({"cloning": {"seeds": 3}}, "the stage 'cloning' is not known"),
        ({"clone": {"hiden": 3}}, "the option 'hiden' is not known"),
        ({"clone": 3}, "by name"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        options_from({name: one.default for name, one in flat_parameters().items()}, settings)


def test_each_step_states_where_it_runs(spec: dict[str, Any]) -> None:
    for name in _tasks(spec):
        wishes = STEPS["profile" if name in PROFILES else name.replace("-", "_")]
        container = _container(spec, name)
        image = "shop/gpu-python:7" if wishes.gpu else "shop/gearshift-python:7"
        assert container["image"] == image
        resources = container["resources"]
        assert resources["resourceCpuRequest"] == wishes.cpu
        assert resources["resourceMemoryRequest"] == wishes.memory
        gpus = resources.get("accelerator", {}).get("resourceCount")
        assert gpus == ("2" if wishes.gpu else None)


def test_without_gpus_no_step_asks_for_one(tmp_path: Path) -> None:
    file = write_pipeline(training_pipeline(PlacementConfig()), tmp_path)
    assert "nvidia.com/gpu" not in file.read_text("utf-8")


def test_retries_and_reuse_follow_the_policy(spec: dict[str, Any]) -> None:
    tasks = _tasks(spec)
    retried = {name for name, task in tasks.items() if "retryPolicy" in task}
    assert tasks["ingest"]["retryPolicy"]["maxRetryCount"] == 2
    # A second measurement is another measurement; a second registration another version.
    assert set(tasks) - retried == {"time", "register", "refuse"}
    # A seal is of one launch, and so is its score.
    fresh = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")}
    assert fresh == CONTRACT


def test_nothing_is_read_before_the_contract_is_admitted(spec: dict[str, Any]) -> None:
    tasks = _tasks(spec)
    assert tasks["ingest"]["dependentTasks"] == ["admit"]
    first = {name for name, task in tasks.items() if not task.get("dependentTasks")}
    assert first - ENDINGS == {"admit"}  # those two wait for the gate, by their branches
    given = tasks["admit"]["inputs"]["parameters"]
    assert set(given) == set(spec["root"]["inputDefinitions"]["parameters"]) - {"registry_folder"}
    for stage in set(STAGES) - {"scenes"}:
        name = stage.replace("_", "-")
        inner = tasks[name]["inputs"]["parameters"]["options"]
        source = {"outputParameterKey": stage, "producerTask": "admit"}
        assert inner in (
            {"taskOutputParameter": source},
            {"componentInputParameter": f"pipelinechannel--admit-{stage}"},
        )


def test_every_step_knows_the_version_of_the_code(spec: dict[str, Any]) -> None:
    for name, task in _tasks(spec).items():
        assert name == "admit" or "code_version" in task["inputs"]["parameters"]


def test_artifacts_have_types_that_the_ui_draws(spec: dict[str, Any]) -> None:
    def kind(step: str, artifact: str) -> str:
        outputs = spec["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"]
        found: str = outputs[artifact]["artifactType"]["schemaTitle"]
        return found

    assert kind("validate", "report") == "system.HTML"
    assert kind("gate", "summary") == "system.Markdown"
    assert kind("evaluate", "confusion") == "system.ClassificationMetrics"
    assert kind("evaluate", "metrics") == "system.Metrics"
    assert kind("refine", "policies") == "system.Model"
    assert kind("profile", "detections") == "system.Dataset"


def test_no_step_reports_home(spec: dict[str, Any]) -> None:
    for name in _tasks(spec):
        assert {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"} in _container(spec, name)[
            "env"
        ]


def test_no_step_installs_anything(spec: dict[str, Any]) -> None:
    assert "pip install" not in json.dumps(spec["deploymentSpec"])


def test_another_image_is_that_of_every_step_and_brings_its_sibling_for_gpus(
    tmp_path: Path,
) -> None:
    placement = PlacementConfig(image="host:5000/shop/python:7", gpus=1, keys="gearshift-s3")
    text = write_pipeline(training_pipeline(placement), tmp_path).read_text("utf-8")
    spec, platform = yaml.safe_load_all(text)
    executors = spec["deploymentSpec"]["executors"]
    images = {one["container"]["image"] for one in executors.values()}
    assert images == {"host:5000/shop/python:7", "host:5000/shop/python-gpu:7"}
    given = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(given) == set(executors)
    for one in given.values():
        (secret,) = one["secretAsEnv"]
        assert secret["secretName"] == "gearshift-s3"
        assert [key["envVar"] for key in secret["keyToEnv"]] == [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        ]
    named = {
        image: PlacementConfig(image=image).gpu_image
        for image in ("python", "host:5000/python", "python@sha256:0")
    }
    assert named == {
        "python": "python-gpu",
        "host:5000/python": "host:5000/python-gpu",
        "python@sha256:0": "python@sha256:0",
    }


def test_a_placement_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        PlacementConfig(gpus=-1)
    with pytest.raises(ConfigurationError):
        PlacementConfig(image="")
