"""The batch pipeline's faces in Kubeflow Pipelines; what holds for ``data_steps`` holds here."""

from typing import List  # noqa: UP035  # KFP reads the annotation

from kfp import dsl

from pipelines.training.data_steps import step


@step
def shards(source: str, count: int, options: dict) -> List[str]:  # noqa: UP006
    """Name the shares of a batch run; fewer than asked for where there are fewer parts.

    Args:
        source: folder, zip, video, image, or s3:// or gs:// prefix.
        count: shares at most.
        options: of the batch run.
    """
    from components.batch.results import units_of
    from components.batch.run import BatchConfig
    from components.batch.sources import open_source
    from pipelines.options import build

    units = units_of(open_source(source).entries, build(BatchConfig, options, "batch").part_frames)
    most = max(min(count, len(units)), 1)
    return [f"{number}/{most}" for number in range(1, most + 1)]


@step
def detect(
    source: str,
    policy: str,
    ladder: str,
    shard: str,
    options: dict,
    code_version: str,
    detections: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Route and detect the frames of one share.

    Args:
        source: folder, zip, video, image, or s3:// or gs:// prefix.
        policy: the policy's ONNX file; empty where the options fix the rung.
        ladder: folder of the rungs' weights; empty for the sample ladder.
        shard: which share, as I/N.
        options: of the batch run.
        code_version: version of the code that runs.
        detections: folder with plan.json and the JSON lines.
        metrics: frames, errors and speed.
    """
    from pathlib import Path

    from components.batch.run import BatchConfig, run_batch
    from pipelines.ladder_files import ladder_files
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(BatchConfig, {**options, "shard": shard}, "batch")
    asked = Path(policy) if policy else None
    moved = progress_lines()
    summary = run_batch(
        source,
        asked,
        ladder_files(ladder),
        Path(detections.path),
        config,
        lambda done, total: moved(done, total or done),
    )
    record_summary(summary, metrics)


@step
def collect(
    parts: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    detections: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Put the results of all shares into one folder; returns how many frames were answered.

    Args:
        parts: the shares' results.
        detections: folder with plan.json and the JSON lines.
        metrics: frames by rung, errors and objects.
    """
    from pathlib import Path

    from components.batch.results import merge_results
    from inference_graph.contract import LADDER
    from pipelines.reporting import record_summary

    results = merge_results([Path(one.path) for one in parts], Path(detections.path))
    counts = results.counts()
    record_summary(dict(counts), metrics)
    return sum(counts[rung] for rung in LADDER)
