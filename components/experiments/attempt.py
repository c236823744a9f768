"""One launch of an experiment, from its seal to its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["queued", "running", "interrupted", "cancelled", "failed", "succeeded"]
ENDED: tuple[State, ...] = ("cancelled", "failed", "succeeded")


@dataclass(frozen=True)
class Attempt:
    """What is known of a launch.

    Attributes:
        attempt: its name: ``baseline.3`` is the third of baseline.
        experiment: what was launched.
        state: queued, running, interrupted (its process is gone), cancelled, failed or succeeded.
        place: "here" or "cluster".
        run_id: its MLflow run.
        sha256: of its seal.
        sealed_at: ISO 8601, UTC; it was queued then.
        started_at: ISO 8601, UTC; empty before.
        ended_at: ISO 8601, UTC; empty before.
        author: of the contract.
        objective: of the contract.
        expected: the outcome that the contract promises.
        contract_owner: the experiment whose contract it is.
        verdict: met, missed or void; empty before it was scored.
        reason: the figures that decided, or why it is void or failed.
        figures: metrics of the report by name.
        exit_code: of its process; None while it runs, and where its end was not seen.
        failing_step: the step that failed; empty where none did.
        out: folder of its results here.
        kubeflow_run: id of its run on Kubeflow; empty for one that ran here.
        kubeflow_url: address of that Kubeflow.
        overrides: what differed from the experiment's own configuration.
    """

    attempt: str
    experiment: str
    state: State
    place: str
    run_id: str
    sha256: str
    sealed_at: str
    started_at: str = ""
    ended_at: str = ""
    author: str = ""
    objective: str = ""
    expected: str = ""
    contract_owner: str = ""
    verdict: str = ""
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    exit_code: int | None = None
    failing_step: str = ""
    out: str = ""
    kubeflow_run: str = ""
    kubeflow_url: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Which launch of its experiment it is, from 1 on."""
        return int(self.attempt.rpartition(".")[2])

    def trial(self, number: int) -> str:
        """Experiment of a trial of this sweep: ``rates-2-007`` of the second launch of rates."""
        return f"{self._trials}{number:03d}"

    def has_trial(self, experiment: str) -> bool:
        """Whether an experiment is a trial of this sweep."""
        number = experiment.removeprefix(self._trials)
        return number != experiment and number.isdigit()

    @property
    def _trials(self) -> str:
        return f"{self.experiment}-{self.number}-"
