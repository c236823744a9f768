"""``gearshift pipeline`` and ``gearshift demo``: the training pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ, PathRole
from pipelines.cli.console import (
    Json,
    Ladder,
    Protect,
    RunFolder,
    Settings,
    argument,
    checked_source,
    configured_by,
    group,
    notes,
    option,
    progress_bar,
    read_settings,
    show,
)

pipeline = group("The training pipeline: for a cluster, or on this machine.")


@pipeline.command("compile")
@configured_by("pipelines.placement:PlacementConfig")
def compile_(
    config: Any,
    out: Annotated[
        Path,
        option("--out", help="Folder of the pipelines; other files in it stay."),
        PathRole("workplace", sign=("gearshift-training.yaml", "# PIPELINE DEFINITION\n")),
    ],
    shards: Annotated[
        int, option(min=1, help="Pods that the data pipeline divides a data set over.")
    ] = 4,
    as_json: Json = False,
) -> None:
    """Write the pipelines, training, drift, batch and data, as YAML for the Kubeflow UI.

    Below `components`, each step stands as a component of its own, with a README and metadata.

    Example: `gearshift pipeline compile --image registry.example/gearshift:1 --gpus 1 --out build`
    """
    from pipelines.batch import steps as batch_steps
    from pipelines.batch.pipeline import batch_pipeline
    from pipelines.component_pages import write_components
    from pipelines.data import steps as shard_steps
    from pipelines.data.pipeline import data_pipeline
    from pipelines.definition import write_pipeline
    from pipelines.drift import steps as drift_steps
    from pipelines.drift.pipeline import monitoring_pipeline
    from pipelines.training import contract_steps, data_steps, policy_steps
    from pipelines.training.pipeline import training_pipeline

    files = [
        write_pipeline(one, out)
        for one in (
            training_pipeline(config),
            monitoring_pipeline(config),
            batch_pipeline(config),
            data_pipeline(config, shards),
        )
    ]
    training = (contract_steps, data_steps, policy_steps)
    components = [
        *write_components(training, "training", out),
        *write_components((drift_steps,), "drift", out),
        *write_components((batch_steps,), "batch", out),
        *write_components((shard_steps,), "data", out),
    ]
    if as_json:
        show({"pipelines": files, "components": components}, as_json)
        return
    for file in files:
        print(file)


@pipeline.command()
def run(
    data: Annotated[
        str,
        option(
            help="COCO-format folder, zip or URL; STORE@VERSION, as `gearshift data log` lists it; "
            "`coco2017`: COCO's val2017, fetched once; sample scenes without it.",
            callback=checked_source,
        ),
        READ,
    ] = "",
    out: RunFolder = Path("runs/pipeline"),
    ladder: Ladder = "",
    settings: Settings = None,
    protect: Protect = None,
    fresh: Annotated[bool, option("--fresh", help="Reuse no earlier result.")] = False,
    require_gate: Annotated[
        bool, option("--require-gate", help="Exit with 1 when the gate refuses.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the training pipeline on this machine, up to a registered policy or a refusal.

    Steps whose code, data and options are unchanged are not run again. Exit code 0 means that
    the run ended, registered or refused; see `--require-gate`.

    The run is a launch of the shipped experiment `baseline`: its contract is sealed with these
    settings first, and scored last. A change that you believe in deserves a hypothesis of its own:
    `gearshift experiment --help`.

    With internet, real photographs and detectors that know them: `--data coco2017 --weights coco`
    (downloads 1.2 GB once; `--set ingest.limit=500` takes the first 500 photographs, a trial that
    two cores can do). Mirrors: `--set ingest.coco_address=URL` or $GEARSHIFT_COCO_ADDRESS, and
    $GEARSHIFT_WEIGHTS_ADDRESS, which has to use https, for opening a checkpoint runs its code.

    Example: `gearshift pipeline run --data coco128.zip --out runs/coco128
    --set split.test=0.3 --set split.train=0.55 --set clone.seeds=3`
    """
    from foundation.errors import GateRefused
    from pipelines.cli.step_display import step_display
    from pipelines.notices import notify_at_the_end
    from pipelines.training.run import run_training

    with notify_at_the_end("gearshift pipeline run", out) as notify:
        with step_display() as on_event:
            result = run_training(
                data, ladder, out, read_settings(settings, protect), on_event, reuse=not fresh
            )
        notify(result)
    notes.print(result.outcome, markup=False, soft_wrap=True)
    show(result, as_json)
    if require_gate and not result.passed:
        raise GateRefused(result.outcome)


@configured_by("pipelines.training.demo:DemoConfig")
def demo(
    config: Any,
    out: RunFolder = Path("runs/demo"),
    ladder: Ladder = "",
    settings: Settings = None,
    protect: Protect = None,
    as_json: Json = False,
) -> None:
    """Run everything on the sample: scenes, pipeline, gate, and a routed video.

    With `--task ocr` it draws receipts, signs and labels instead, and trains a policy for three
    engines that read them (`pip install 'gearshift[ocr]'`). With `--task speech` espeak-ng speaks
    commands and talk, and the engines listen (`pip install 'gearshift[speech]'`).

    Example: `gearshift demo --out runs/demo`
    """
    from pipelines.cli.step_display import show_demo, step_display
    from pipelines.notices import notify_at_the_end
    from pipelines.training.demo import run_demo
    from pipelines.training.demo_tasks import SAMPLES, run_task_demo

    chosen = read_settings(settings, protect)
    with notify_at_the_end("gearshift demo", out) as notify:
        if config.task in SAMPLES:
            result = run_task_demo(config, out, chosen, progress_bar, step_display)
        else:
            result = run_demo(config, out, ladder, chosen, progress_bar, step_display)
        notify(result.run)
    if as_json:
        show(result, as_json)
    else:
        show_demo(result)


@pipeline.command()
def options(
    stage: Annotated[str, argument(help="One stage; all of them without it.")] = "",
    as_json: Json = False,
) -> None:
    """List what `--set STAGE.OPTION=VALUE` can set, with its default.

    Example: `gearshift pipeline options refine`
    """
    from foundation.errors import ConfigurationError
    from foundation.nearest import unknown
    from pipelines.training.stages import STAGES, as_setting, described_options

    if stage and stage not in STAGES:
        raise ConfigurationError(f"the stage {unknown(stage, STAGES)}")
    shown = {one: described_options(one) for one in ([stage] if stage else STAGES)}
    if as_json:
        show(
            {
                name: {one.name: {"default": one.default, "help": one.help} for one in fields}
                for name, fields in shown.items()
            },
            as_json,
        )
        return
    for name, fields in shown.items():
        for one in fields:
            print(f"{name}.{one.name}={as_setting(one.default)}\n    {one.help}")


@pipeline.command()
def upload(
    folder: Annotated[Path, argument(help="Where `gearshift pipeline compile` wrote."), READ],
    to: Annotated[str, option(help="URL of Kubeflow Pipelines.")],
    name: Annotated[str, option(help="Name of the new versions, for example a commit.")],
    access_token: Annotated[
        str, option("--token", envvar="GEARSHIFT_KFP_TOKEN", help="Bearer token.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Upload compiled pipelines to Kubeflow Pipelines, as new versions.

    Example: `gearshift pipeline upload build --to http://localhost:8888 --name 1.4`
    """
    from pipelines.upload import upload_pipelines

    uploaded = upload_pipelines(folder, to, name, access_token or None)
    show({one.pipeline: one.version for one in uploaded}, as_json)
