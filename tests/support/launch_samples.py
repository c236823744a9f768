"""Launches whose pipeline takes no time: its report is computed from what the experiment set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment_samples import contract, schema, write

from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.scoring import SCORE_FILE, score_run
from components.experiments.seal import admit
from foundation.errors import StepFailed
from pipelines.experiments.schema import InputsConfig
from pipelines.local import StepEvent
from pipelines.training.sealed_run import Inputs, TrainingRun

VERSIONS = {"code_version": "c", "data_version": "d", "ladder_version": "l"}


def ledger_in(folder: Path, mlflow: Path) -> Ledger:
    """``base``, its child ``longer``, and ``idea`` without a contract; on a copy of a database."""
    expected = "retained >= 0.95 and latency_ratio <= 0.4"
    write(folder, "base", contract=contract(expected=expected))
    write(
        folder,
        "longer",
        extends="base",
        contract=contract(expected="retained >= 0.5"),
        set={"refine": {"timesteps": 200}},
    )
    write(folder, "idea", extends="base")
    made = Ledger(
        LedgerConfig(folder / "experiments", folder / "ledger"),
        lambda: schema(inputs=InputsConfig),
    )
    made.refresh()
    shutil.copy(mlflow, made.folder)
    return made


@dataclass
class Pipeline:
    """Stands in for the pipeline; admits and scores as it does.

    ``retained`` is 1 less than a quarter of how far the learning rate is from 1e-3 in decades.
    """

    ends: Callable[[Mapping[str, Any]], None] = lambda options: None
    runs: list[Mapping[str, Any]] = field(default_factory=list)

    def inputs(self, source: str, ladder: str, annotations: str = "") -> Inputs:
        return Inputs(source, ladder, VERSIONS)

    def run(
        self,
        parameter: Mapping[str, Any],
        inputs: Inputs,
        options: Mapping[str, Any],
        out: Path,
        on_event: Callable[[StepEvent], None],
        reuse: bool = True,
        work: Path | None = None,
    ) -> TrainingRun:
        from math import log10

        admit(parameter, options, inputs.source, inputs.versions)
        self.runs.append(options)
        on_event(StepEvent("refine", "running"))
        try:
            self.ends(options)
        except StepFailed:
            (out / "logs").mkdir(parents=True, exist_ok=True)
            (out / "logs" / "refine.log").write_text("no clips\n")
            on_event(StepEvent("refine", "failed", 0.1))
            raise
        on_event(StepEvent("refine", "done", 0.1))
        out.mkdir(parents=True, exist_ok=True)
        rate = options["refine"]["learning_rate"]
        report = {"retained": 1 - abs(log10(rate) + 3) / 4, "latency_ratio": 0.3}
        (out / "report.json").write_text(json.dumps(report))
        score_run(parameter, out, out / SCORE_FILE)
        return TrainingRun(out, "registered", True, out, {}, {})


def curves(out: Path) -> Iterator[Path]:
    """Learning curves as the refine stage leaves them, of two seeds."""
    for seed in (0, 1):
        file = out / "policies" / f"seed-{seed}" / "training.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = "\n".join(f"{100 * step},{0.5 + seed + step / 10},0.1,0.2,0.9" for step in range(5))
        file.write_text(f"timesteps,reward,kl_to_clone,entropy,explained_variance\n{rows}\n")
        yield file
