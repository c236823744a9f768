"""The policy stages' faces in Kubeflow Pipelines, from labels to the registry.

What holds for ``pipelines.training.data_steps`` holds here.
"""

from kfp import dsl

from pipelines.training.data_steps import step


@step
def label(
    dataset: dsl.Input[dsl.Dataset],
    nano: dsl.Input[dsl.Dataset],
    small: dsl.Input[dsl.Dataset],
    large: dsl.Input[dsl.Dataset],
    timings: dsl.Input[dsl.Artifact],
    observations: dsl.Input[dsl.Dataset],
    parts: dsl.Input[dsl.Artifact],
    options: dict,
    code_version: str,
    replay: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Compute what each rung's answer to each frame is worth, and which rung is best.

    Args:
        dataset: canonical data set folder.
        nano: detections of the cheapest rung.
        small: detections of the middle rung.
        large: detections of the heaviest rung.
        timings: latencies.
        observations: frame features.
        parts: the split.
        options: the reward.
        code_version: version of the code that runs.
        replay: folder with replay.npz and profile.parquet.
        metrics: shares, qualities and latencies of the rungs.
    """
    from pathlib import Path

    from components.policy.label import LabelConfig, label
    from inference_graph.contract import LADDER
    from pipelines.options import build
    from pipelines.reporting import record_summary

    looks = (Path(nano.path), Path(small.path), Path(large.path))
    summary = label(
        Path(dataset.path),
        dict(zip(LADDER, looks, strict=True)),
        Path(timings.path),
        Path(observations.path),
        Path(parts.path),
        Path(replay.path),
        build(LabelConfig, options, "label"),
    )
    record_summary(summary, metrics)


@step
def clone(
    replay: dsl.Input[dsl.Dataset],
    options: dict,
    code_version: str,
    clones: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Clone policies from the optimal labels, errors weighted by regret.

    Args:
        replay: the label stage's folder.
        options: the recipe.
        code_version: version of the code that runs.
        clones: one folder per seed.
        metrics: validation rewards, beside those of the best fixed rung and of the labels.
    """
    from pathlib import Path

    from components.policy.clone import CloneConfig, clone
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    config = build(CloneConfig, options, "clone")
    summary = clone(Path(replay.path), Path(clones.path), config, progress_lines())
    record_summary(summary, metrics)


@step
def refine(
    dataset: dsl.Input[dsl.Dataset],
    nano: dsl.Input[dsl.Dataset],
    small: dsl.Input[dsl.Dataset],
    large: dsl.Input[dsl.Dataset],
    replay: dsl.Input[dsl.Dataset],
    clones: dsl.Input[dsl.Model],
    options: dict,
    floors: dict,
    code_version: str,
    policies: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Refine the clones by PPO where a decision costs others, and choose the policy.

    Args:
        dataset: canonical data set folder.
        nano: detections of the cheapest rung.
        small: detections of the middle rung.
        large: detections of the heaviest rung.
        replay: the label stage's folder.
        clones: the clone stage's folder.
        options: the recipe.
        floors: least share of large's AP50-95 by protected class, which the operating point keeps.
        code_version: version of the code that runs.
        policies: policies and training logs of every seed, and the chosen policy.onnx.
        metrics: rewards before and after, and the critic's explained variance.
    """
    from pathlib import Path

    from components.policy.refine import RefineConfig, refine
    from components.policy.seen_frames import SeenFrames
    from components.profiling.replay import load_replay
    from inference_graph.contract import LADDER
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    looks = (Path(nano.path), Path(small.path), Path(large.path))
    seen = SeenFrames.load(
        load_replay(Path(replay.path)).part("train", "validation"),
        Path(dataset.path),
        dict(zip(LADDER, looks, strict=True)),
        floors,
    )
    summary = refine(
        Path(replay.path),
        Path(clones.path),
        Path(policies.path),
        build(RefineConfig, options, "refine"),
        progress_lines(),
        seen,
    )
    record_summary(summary, metrics)


@step
def reference(
    dataset: dsl.Input[dsl.Dataset],
    nano: dsl.Input[dsl.Dataset],
    small: dsl.Input[dsl.Dataset],
    large: dsl.Input[dsl.Dataset],
    replay: dsl.Input[dsl.Dataset],
    policies: dsl.Input[dsl.Model],
    options: dict,
    code_version: str,
    reference: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Keep what the policy's log would hold of its own data; drift is measured against it.

    Args:
        dataset: canonical data set folder.
        nano: detections of the cheapest rung.
        small: detections of the middle rung.
        large: detections of the heaviest rung.
        replay: the label stage's folder.
        policies: the refine stage's folder.
        options: how to work.
        code_version: version of the code that runs.
        reference: Parquet, one row per frame.
        metrics: frames, and how far the policy agrees with large on them.
    """
    from pathlib import Path

    from components.drift.reference import ReferenceConfig, make_reference
    from inference_graph.contract import LADDER
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_summary

    looks = (Path(nano.path), Path(small.path), Path(large.path))
    summary = make_reference(
        Path(dataset.path),
        dict(zip(LADDER, looks, strict=True)),
        Path(replay.path),
        Path(policies.path),
        Path(reference.path),
        build(ReferenceConfig, options, "reference"),
        progress_lines(),
    )
    record_summary(summary, metrics)


@step
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    nano: dsl.Input[dsl.Dataset],
    small: dsl.Input[dsl.Dataset],
    large: dsl.Input[dsl.Dataset],
    timings: dsl.Input[dsl.Artifact],
    replay: dsl.Input[dsl.Dataset],
    policies: dsl.Input[dsl.Model],
    options: dict,
    code_version: str,
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Hold the policy against every alternative at equal mean latency, on held-out clips.

    Args:
        dataset: canonical data set folder.
        nano: detections of the cheapest rung.
        small: detections of the middle rung.
        large: detections of the heaviest rung.
        timings: latencies.
        replay: the label stage's folder.
        policies: the refine stage's folder.
        options: what is compared, and how.
        code_version: version of the code that runs.
        evaluation: folder with report.json and report.html.
        report: the report, as a page.
        confusion: the policy's choices against the oracle's.
        metrics: accuracy retained, latency, share of the gap.
    """
    from pathlib import Path

    from components.evaluation.evaluate import EvaluateConfig, evaluate
    from components.evaluation.report_schema import REPORT_FILE, REPORT_PAGE
    from inference_graph.contract import LADDER
    from pipelines.options import build
    from pipelines.reporting import progress_lines, record_confusion, record_summary, show_file

    looks = (Path(nano.path), Path(small.path), Path(large.path))
    out = Path(evaluation.path)
    summary = evaluate(
        Path(dataset.path),
        dict(zip(LADDER, looks, strict=True)),
        Path(timings.path),
        Path(replay.path),
        Path(policies.path),
        out,
        build(EvaluateConfig, options, "evaluate"),
        progress_lines(),
    )
    show_file(out / REPORT_PAGE, report.path)
    record_confusion(out / REPORT_FILE, LADDER, confusion)
    record_summary(summary, metrics)


@step
def gate(
    evaluation: dsl.Input[dsl.Artifact],
    comparison: dsl.Input[dsl.Artifact],
    options: dict,
    code_version: str,
    checklist: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> bool:
    """Check the policy against the release checklist; returns whether it passed.

    Args:
        evaluation: the evaluate stage's folder.
        comparison: the compare stage's folder; what it found wrong with the ladder is a warning.
        options: the thresholds.
        code_version: version of the code that runs.
        checklist: folder with gate.json and gate.md.
        summary: the checklist, as text.
    """
    from pathlib import Path

    from components.evaluation.gate import GATE_PAGE, GateConfig, gate
    from components.evaluation.report_schema import REPORT_FILE
    from components.ladder.compare import COMPARISON_FILE
    from pipelines.options import build
    from pipelines.reporting import show_file

    config = build(GateConfig, options, "gate")
    out = Path(checklist.path)
    verdict = gate(
        Path(evaluation.path) / REPORT_FILE,
        out,
        config,
        comparison=Path(comparison.path) / COMPARISON_FILE,
    )
    show_file(out / GATE_PAGE, summary.path)
    return verdict.passed


@step
def register(
    policies: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    checklist: dsl.Input[dsl.Artifact],
    reference: dsl.Input[dsl.Dataset],
    options: dict,
    registry_folder: str,
    code_version: str,
    registration: dsl.Output[dsl.Artifact],
) -> str:
    """Enter the policy, its report and its checklist in the model registry.

    Args:
        policies: the refine stage's folder.
        evaluation: the evaluate stage's folder.
        checklist: the gate stage's folder.
        reference: what drift is measured against.
        options: which registry, and under which name.
        registry_folder: folder of MLflow's database where no tracking URI is given.
        code_version: version of the code that runs.
        registration: run, name and version, JSON.
    """
    import shutil
    from pathlib import Path

    from components.policy.register import REGISTRATION_FILE, RegisterConfig, register
    from pipelines.options import build

    config = build(RegisterConfig, options, "register")
    place = Path(registry_folder or Path(registration.path).parent) / "registration"
    entry = register(
        Path(policies.path),
        Path(evaluation.path),
        Path(checklist.path),
        place,
        config,
        Path(reference.path),
    )
    shutil.copyfile(place / REGISTRATION_FILE, registration.path)
    return f"registered as {entry.name}, version {entry.version}"


@step
def refuse(
    policies: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    checklist: dsl.Input[dsl.Artifact],
    options: dict,
    registry_folder: str,
    code_version: str,
) -> str:
    """Log the run of a policy that the gate refused, and report why it is not registered.

    Args:
        policies: the refine stage's folder.
        evaluation: the evaluate stage's folder.
        checklist: the gate stage's folder.
        options: which registry.
        registry_folder: folder of MLflow's database where no tracking URI is given.
        code_version: version of the code that runs.
    """
    import json
    from pathlib import Path

    from components.evaluation.gate import GATE_FILE, Check, GateSummary
    from components.policy.register import RegisterConfig, log_run
    from pipelines.options import build

    config = build(RegisterConfig, options, "register")
    place = Path(registry_folder or Path(evaluation.path).parent) / "registration"
    log_run(Path(policies.path), Path(evaluation.path), Path(checklist.path), place, config)
    verdict = json.loads((Path(checklist.path) / GATE_FILE).read_text(encoding="utf-8"))
    checks = tuple(Check(**check) for check in verdict["checks"])
    outcome = f"not registered, the gate refused: {GateSummary(False, checks).refusal}"
    print(outcome)
    return outcome
