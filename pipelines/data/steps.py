"""The data pipeline's steps, as components of Kubeflow Pipelines.

As in ``pipelines.training.data_steps``, each only turns artifacts into paths and back; the stages
are those of ``components.data.shards``, which ``gearshift data prepare`` runs on one machine.
"""

from typing import List  # noqa: UP035  # KFP reads typing's List

from kfp import dsl

from pipelines.training.data_steps import step


@step
def acquire(
    source: str,
    shard: int,
    shards: int,
    options: dict,
    code_version: str,
    data_version: str,
    acquired: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Cut a source into blocks, and take those of one shard.

    Args:
        source: folder, zip, URL, bucket prefix or `coco2017`.
        shard: which shard, counted from 0.
        shards: how many there are.
        options: how the source is read and cut.
        code_version: version of the code that runs.
        data_version: version of what the source holds.
        acquired: the shard's blocks, each a COCO-format folder.
        metrics: counts of blocks.
    """
    from pathlib import Path

    from components.data.shards.acquire import AcquireConfig, acquire
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(AcquireConfig, options, "acquire")
    summary = acquire(source, Path(acquired.path), config, shard, shards, progress_lines())
    record_summary({"blocks": len(summary.names)}, metrics)


@step
def validate(
    acquired: dsl.Input[dsl.Dataset],
    options: dict,
    code_version: str,
    validated: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Check every record of a shard and decode every picture.

    Args:
        acquired: blocks of the shard.
        options: how broken records are treated.
        code_version: version of the code that runs.
        validated: the shard's blocks, each a canonical data set.
        metrics: counts of images, boxes and broken records.
    """
    from pathlib import Path

    from components.data.shards.acquire import AcquireConfig
    from components.data.shards.blocks import totals_of
    from components.data.shards.stages import validate_blocks
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(AcquireConfig, options, "acquire")
    out = Path(validated.path)
    validate_blocks(Path(acquired.path), out, config, code_version, progress=progress_lines())
    record_summary(totals_of(out), metrics)


@step
def anomalies(
    validated: dsl.Input[dsl.Dataset],
    options: dict,
    code_version: str,
    found: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Find what is odd about single images and boxes of a shard.

    Args:
        validated: blocks of the shard.
        options: what counts as odd.
        code_version: version of the code that runs.
        found: oddities of each block, JSON.
        metrics: counts by kind.
    """
    from pathlib import Path

    from components.data.anomalies import AnomalyConfig
    from components.data.shards.blocks import totals_of
    from components.data.shards.stages import anomalies_in_blocks
    from components.data.validate import ValidateConfig
    from pipelines.options import build, defaults_of
    from pipelines.reporting import progress_lines, record_summary

    build(ValidateConfig, options, "validate")
    values = {name: options[name] for name in defaults_of(AnomalyConfig) if name in options}
    config = build(AnomalyConfig, values, "validate")
    out = Path(found.path)
    anomalies_in_blocks(Path(validated.path), out, config, code_version, progress=progress_lines())
    record_summary(totals_of(out), metrics)


@step
def convert(
    validated: dsl.Input[dsl.Dataset],
    code_version: str,
    labels: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Write the blocks of a shard in Ultralytics' format.

    Args:
        validated: blocks of the shard.
        code_version: version of the code that runs.
        labels: the shard's blocks, each a folder with data.yaml.
        metrics: counts of boxes and crowds.
    """
    from pathlib import Path

    from components.data.shards.blocks import totals_of
    from components.data.shards.stages import convert_blocks
    from pipelines.reporting import progress_lines, record_summary

    out = Path(labels.path)
    convert_blocks(Path(validated.path), out, code_version, progress=progress_lines())
    record_summary(totals_of(out), metrics)


@step
def observe(
    validated: dsl.Input[dsl.Dataset],
    options: dict,
    code_version: str,
    observed: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Compute what the policy sees of the images of a shard.

    Args:
        validated: blocks of the shard.
        options: how to work.
        code_version: version of the code that runs.
        observed: frame features of each block's images.
        metrics: counts.
    """
    from pathlib import Path

    from components.data.observe import ObserveConfig
    from components.data.shards.blocks import totals_of
    from components.data.shards.stages import observe_blocks
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(ObserveConfig, options, "observe")
    out = Path(observed.path)
    observe_blocks(Path(validated.path), out, config, code_version, progress=progress_lines())
    record_summary(totals_of(out), metrics)


@step
def split(
    validated: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    labels: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    observed: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    options: dict,
    code_version: str,
    dataset: dsl.Output[dsl.Dataset],
    parts: dsl.Output[dsl.Artifact],
    yolo: dsl.Output[dsl.Dataset],
    observations: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Join the blocks of all shards, and divide them into what to learn from and to judge by.

    Args:
        validated: blocks of every shard.
        labels: the same in Ultralytics' format.
        observed: frame features of every shard.
        options: the shares.
        code_version: version of the code that runs.
        dataset: canonical data set folder, the input of the training pipeline.
        parts: ids of the images of each part, JSON.
        yolo: the data set in Ultralytics' format, divided.
        observations: frame features of every image.
        metrics: counts of each part, and how evenly slices are shared out.
    """
    from pathlib import Path

    from components.data.dataset import load_dataset
    from components.data.shards.gather import join_datasets, join_observations, join_yolo
    from components.data.split import SplitConfig, split
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    out, divided = Path(dataset.path), Path(parts.path)
    join_datasets([Path(one.path) for one in validated], out, progress_lines())
    dataset.metadata["source_sha256"] = str(load_dataset(out).info["source_sha256"])
    summary = split(out, divided, build(SplitConfig, options, "split"))
    join_yolo(out, [Path(one.path) for one in labels], divided, Path(yolo.path))
    join_observations([Path(one.path) for one in observed], Path(observations.path))
    record_summary(summary, metrics)


@step
def report(
    dataset: dsl.Input[dsl.Dataset],
    parts: dsl.Input[dsl.Artifact],
    found: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    options: dict,
    code_version: str,
    validation: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Report what is in the data set and what is odd about it, for people.

    Args:
        dataset: canonical data set folder.
        parts: ids of the images of each part, JSON.
        found: what is odd about single images, of every shard.
        options: what is demanded and what counts as odd.
        code_version: version of the code that runs.
        validation: folder with validation.json and what was found, as page and text.
        page: the data report: pictures, anomalies, slices and how the split shares them out.
        summary: what was found, as text.
        metrics: its main numbers.
    """
    from pathlib import Path

    from components.data.report import write_report
    from components.data.shards.gather import found_in_blocks
    from components.data.validate import MARKDOWN_FILE, ValidateConfig, validate
    from pipelines.options import build
    from pipelines.reporting import record_summary, show_file

    config = build(ValidateConfig, options, "validate")
    out = Path(validation.path)
    odd = found_in_blocks([Path(one.path) for one in found], config)
    result = validate(Path(dataset.path), out, config, found=odd)
    write_report(Path(dataset.path), Path(page.path), validation=out, split=Path(parts.path))
    show_file(out / MARKDOWN_FILE, summary.path)
    record_summary(result, metrics)


@step
def version(
    dataset: dsl.Input[dsl.Dataset],
    store: str,
    message: str,
    code_version: str,
    pointer: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Store the data set's files under their content, and name the version.

    Args:
        dataset: canonical data set folder.
        store: folder or bucket of the versions; nothing is stored without one.
        message: why there is a new version.
        code_version: version of the code that runs.
        pointer: the .dvc file, with which DVC reads the version.
        metrics: counts of files and bytes, and of those that were new.
    """
    import shutil
    from pathlib import Path

    from components.data.versions import make_version
    from pipelines.reporting import progress_lines, record_summary

    if not store:
        Path(pointer.path).write_text("", encoding="utf-8")
        record_summary({}, metrics)
        return ""
    summary = make_version(Path(dataset.path), store, message, progress_lines())
    shutil.copyfile(summary.dvc_file, pointer.path)
    pointer.metadata["version"] = summary.version.id
    record_summary(summary, metrics)
    return summary.version.id
