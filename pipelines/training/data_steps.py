"""The data stages' faces in Kubeflow Pipelines: each only turns artifacts into paths and back.

They stand apart from the stages so that importing a stage, in a server or for the command line,
does not import KFP. KFP copies the source of each function into the pipeline's YAML: a body
therefore imports what it needs and refers to nothing else in this file, and the annotations are
objects, not text, which is why ``from __future__ import annotations`` is missing here.

``code_version``, ``data_version`` and ``ladder_version`` reach a step only to enter KFP's cache
key, which does not see the installed package, a folder's content or the weights.
"""

from kfp import dsl

step = dsl.component(
    base_image="gearshift-python:0.1.0", install_kfp_package=False, packages_to_install=[]
)


@step
def ingest(
    source: str,
    scenes: dict,
    options: dict,
    code_version: str,
    data_version: str,
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Read a COCO-format source, or render the sample scenes, into a canonical data set.

    Args:
        source: COCO-format folder, zip or URL; empty for the sample scenes.
        scenes: what to render when there is no source.
        options: how the source is read.
        code_version: version of the code that runs.
        data_version: version of what the source holds.
        dataset: canonical data set folder.
        metrics: counts of images, boxes and what was dropped.
    """
    import tempfile
    from pathlib import Path

    from components.data.ingest import IngestConfig, ingest
    from components.scenes.writer import ScenesConfig, write_scenes
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    with tempfile.TemporaryDirectory(dir=Path(dataset.path).parent) as folder:
        if not source:
            source = str(Path(folder) / "scenes")
            write_scenes(build(ScenesConfig, scenes, "scenes"), Path(source), progress_lines())
        config = build(IngestConfig, options, "ingest")
        summary = ingest(source, Path(dataset.path), config, progress_lines())
    dataset.metadata["source_sha256"] = summary.source_sha256
    record_summary(summary, metrics)


@step
def validate(
    dataset: dsl.Input[dsl.Dataset],
    ladder: str,
    options: dict,
    code_version: str,
    ladder_version: str,
    validation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Refuse data that no policy can be learned from, and report what is odd about them.

    Args:
        dataset: canonical data set folder.
        ladder: folder of the rungs' weights; empty for the sample ladder.
        options: what is demanded and what counts as odd.
        code_version: version of the code that runs.
        ladder_version: version of the weights.
        validation: folder with validation.json and both reports.
        report: the data report, as a page.
        summary: the data report, as text.
        metrics: its main numbers.
    """
    from pathlib import Path

    from components.data.classes import Classes
    from components.data.validate import HTML_FILE, MARKDOWN_FILE, ValidateConfig, validate
    from components.profiling.rungs import InferenceConfig, open_rung
    from inference_graph.contract import LADDER
    from pipelines.ladder_files import ladder_files
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary, show_file

    rung = open_rung(LADDER[0], ladder_files(ladder)[LADDER[0]], InferenceConfig())
    config = build(ValidateConfig, options, "validate")
    out = Path(validation.path)
    found = validate(Path(dataset.path), out, config, Classes.of(rung), progress_lines())
    show_file(out / HTML_FILE, report.path)
    show_file(out / MARKDOWN_FILE, summary.path)
    record_summary(found, metrics)


@step
def spot_check(
    dataset: dsl.Input[dsl.Dataset],
    ladder: str,
    options: dict,
    code_version: str,
    ladder_version: str,
    found: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Refuse data in which the heaviest rung finds next to nothing, before anything is profiled.

    Args:
        dataset: canonical data set folder.
        ladder: folder of the rungs' weights; empty for the sample ladder.
        options: how many images are looked at, and what is enough.
        code_version: version of the code that runs.
        ladder_version: version of the weights.
        found: accuracy on those images, and the share of boxes of known classes, JSON.
        metrics: the same numbers.
    """
    from pathlib import Path

    from components.profiling.spot_check import SpotCheckConfig, spot_check
    from inference_graph.contract import REFERENCE
    from pipelines.ladder_files import ladder_files
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(SpotCheckConfig, options, "spot_check")
    weights = ladder_files(ladder)[REFERENCE]
    summary = spot_check(Path(dataset.path), weights, Path(found.path), config, progress_lines())
    record_summary(summary, metrics)


@step
def compare_rungs(
    dataset: dsl.Input[dsl.Dataset],
    ladder: str,
    options: dict,
    code_version: str,
    ladder_version: str,
    comparison: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Check that every rung of the ladder pays, at equal input and against other input sizes.

    Args:
        dataset: canonical data set folder.
        ladder: folder of the rungs' weights; empty for the sample ladder.
        options: how the networks run, and on how many frames.
        code_version: version of the code that runs.
        ladder_version: version of the weights.
        comparison: folder with comparison.json and comparison.md.
        summary: the comparison, as text.
        metrics: pairs that were compared, and faults that were found.
    """
    from pathlib import Path

    from components.ladder.compare import COMPARISON_PAGE, CompareConfig, compare_ladder
    from pipelines.ladder_files import ladder_files
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary, show_file

    out = Path(comparison.path)
    config = build(CompareConfig, options, "compare_rungs")
    found = compare_ladder(Path(dataset.path), ladder_files(ladder), out, config, progress_lines())
    show_file(out / COMPARISON_PAGE, summary.path)
    record_summary({"pairs": len(found.pairs), "faults": len(found.faults)}, metrics)
    for fault in found.faults:
        print(f"warning: {fault}")


@step
def split(
    dataset: dsl.Input[dsl.Dataset],
    options: dict,
    code_version: str,
    parts: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Divide the data set by clips into what to learn from, to choose by and to judge by.

    Args:
        dataset: canonical data set folder.
        options: the shares.
        code_version: version of the code that runs.
        parts: ids of the images of each part, JSON.
        metrics: counts of each part.
    """
    from pathlib import Path

    from components.data.split import SplitConfig, split
    from pipelines.options import build
    from pipelines.reporting import record_summary

    config = build(SplitConfig, options, "split")
    record_summary(split(Path(dataset.path), Path(parts.path), config), metrics)


@step
def observe(
    dataset: dsl.Input[dsl.Dataset],
    options: dict,
    code_version: str,
    observations: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Compute what the policy sees of every image.

    Args:
        dataset: canonical data set folder.
        options: how to work.
        code_version: version of the code that runs.
        observations: frame features of every image.
        metrics: counts.
    """
    from pathlib import Path

    from components.data.observe import ObserveConfig, observe
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(ObserveConfig, options, "observe")
    out = Path(observations.path)
    summary = observe(Path(dataset.path), out, config, progress_lines())
    observations.metadata["schema_hash"] = summary.schema_hash
    record_summary(summary, metrics)


@step
def profile(
    dataset: dsl.Input[dsl.Dataset],
    ladder: str,
    rung: str,
    options: dict,
    code_version: str,
    ladder_version: str,
    detections: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Let one rung look at every image, through the detector code that serves.

    Args:
        dataset: canonical data set folder.
        ladder: folder of the rungs' weights; empty for the sample ladder.
        rung: which rung.
        options: how the detector runs.
        code_version: version of the code that runs.
        ladder_version: version of the weights.
        detections: raw detections of every image.
        metrics: counts, and the time of each stage.
    """
    from pathlib import Path

    from components.profiling.profile import ProfileConfig, profile_rung
    from pipelines.ladder_files import ladder_files
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    files = ladder_files(ladder)
    config = build(ProfileConfig, options, "profile")
    out = Path(detections.path)
    summary = profile_rung(
        Path(dataset.path), files[rung], rung, out, config, progress_lines(), siblings=files
    )
    detections.metadata.update(rung=rung, sha256=summary.sha256)
    record_summary(summary, metrics)


@step
def time(
    dataset: dsl.Input[dsl.Dataset],
    ladder: str,
    options: dict,
    code_version: str,
    ladder_version: str,
    timings: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Measure the latency of all rungs, interleaved.

    Args:
        dataset: canonical data set folder.
        ladder: folder of the rungs' weights; empty for the sample ladder.
        options: how to measure, and the price of an hour.
        code_version: version of the code that runs.
        ladder_version: version of the weights.
        timings: every measurement, JSON.
        metrics: latency and cost of each rung.
    """
    from pathlib import Path

    from components.profiling.timing import TimingConfig, time_ladder
    from pipelines.ladder_files import ladder_files
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(TimingConfig, options, "time")
    summary = time_ladder(
        Path(dataset.path), ladder_files(ladder), Path(timings.path), config, progress_lines()
    )
    record_summary(summary, metrics)
