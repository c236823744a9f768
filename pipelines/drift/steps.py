"""The drift pipeline's faces in Kubeflow Pipelines; what holds for ``data_steps`` holds here."""

from kfp import dsl

from pipelines.training.data_steps import step


@step
def window(
    log: str,
    options: dict,
    drift: dict,
    code_version: str,
    rows: dsl.Output[dsl.Dataset],
) -> int:
    """Read a window of the prediction log; returns how many answers it holds.

    Args:
        log: folder or bucket of the log.
        options: which answers.
        drift: how they will be compared; states how many are read at most.
        code_version: version of the code that runs.
        rows: folder of Parquet files, the observations as embeddings.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from components.drift.config import DriftConfig
    from components.drift.window import WindowConfig, read_rows, save_rows
    from pipelines.options import build

    config = build(WindowConfig, options, "window")
    most_rows = build(DriftConfig, drift, "drift").most_rows
    since, until = config.bounds(datetime.now(UTC))
    found = read_rows(log, since, until, most_rows, config.only)
    save_rows(found, Path(rows.path))
    return len(found)


@step
def compare(
    log: str,
    reference: str,
    rows: dsl.Input[dsl.Dataset],
    window: dict,
    options: dict,
    results_folder: str,
    code_version: str,
    findings: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    tabular: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> bool:
    """Compare the window with the reference; returns whether drift hurts.

    Args:
        log: folder or bucket of the log, for the report.
        reference: the policy's reference.parquet, or a log.
        rows: the window's answers.
        window: which answers they are, for the report.
        options: how to compare.
        results_folder: where state and report are left for the dashboard; nowhere without it.
        code_version: version of the code that runs.
        findings: folder with state.json, report.json and report.html.
        report: the report, as a page.
        tabular: Evidently's tables, as a page.
        metrics: accuracy retained, and the p-values.
    """
    from dataclasses import asdict
    from datetime import UTC, datetime
    from pathlib import Path

    from components.drift.check import (
        REPORT_PAGE,
        Compared,
        figures_of,
        leave_results,
        report_drift,
    )
    from components.drift.config import DriftConfig
    from components.drift.tabular import TABULAR_PAGE
    from components.drift.window import load_rows
    from pipelines.options import build
    from pipelines.reporting import record_summary, show_file

    config = build(DriftConfig, options, "drift")
    compared, out = Compared(reference), Path(findings.path)
    asked = {"log": log, **asdict(compared), **window}
    known = compared.load(config.most_rows)
    found = load_rows(Path(rows.path))
    state = report_drift(known, found, out, config, datetime.now(UTC), asked)
    show_file(out / REPORT_PAGE, report.path)
    if (out / TABULAR_PAGE).is_file():
        show_file(out / TABULAR_PAGE, tabular.path)
    else:
        Path(tabular.path).write_text("<p>Too little data for tables.</p>\n", encoding="utf-8")
    record_summary(figures_of(out), metrics)
    leave_results(out, results_folder)
    print(state.sentence)
    return state.decision == "retrain"


@step
def retrain(
    log: str,
    window: dict,
    champion: str,
    data: str,
    ladder: str,
    options: dict,
    training: dict,
    findings: dsl.Input[dsl.Artifact],
    results_folder: str,
    retraining: dsl.Output[dsl.Artifact],
) -> str:
    """Train a challenger on old data and the window's frames; it is released if it is better.

    Args:
        log: folder or bucket of the log.
        window: which answers were examined.
        champion: the policy in use, an ONNX file.
        data: what it was trained on; empty where it lies in its run's folder.
        ladder: folder of the rungs' weights.
        options: of the retraining.
        training: options of the training pipeline's stages.
        findings: the compare step's folder.
        results_folder: where results are left for people; beside the artifact without it.
        retraining: what it came to, JSON.
    """
    import json
    from pathlib import Path

    from inference_graph.control.drift_state import read_state
    from pipelines.drift.retraining import retrain_apart

    state = read_state(Path(findings.path))
    since = state.since.isoformat() if state is not None and state.since is not None else ""
    known = {"log": log, "champion": champion, "data": data}
    examined = {"since": since, "until": window.get("until", "")}
    out = Path(results_folder or Path(retraining.path).parent) / "retrain"
    result = retrain_apart({**options, **known, **examined}, ladder, training, out)
    Path(retraining.path).write_text(json.dumps(result) + "\n", encoding="utf-8")
    return str(result["outcome"])


@step
def note(findings: dsl.Input[dsl.Artifact]) -> str:
    """Report what was found where nothing has to be done.

    Args:
        findings: the compare step's folder.
    """
    from pathlib import Path

    from inference_graph.control.drift_state import read_state

    state = read_state(Path(findings.path))
    return state.sentence if state is not None else "no state was left"
