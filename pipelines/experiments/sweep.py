"""Sweeps: Optuna chooses values, each trial is a child experiment, one contract holds for them all.

The sweep is sealed before its first trial: what varies, how many trials, what is sought. The trials
are experiments ``under`` it, with files of their own, so that any of them can be shown, compared
and run again. The contract is held against the best trial. Optuna keeps the study beside the index;
a sweep that was killed goes on with the trial it was at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import yaml
from pydantic import Field

from components.experiments.attempt import Attempt
from components.experiments.launches import now
from components.experiments.ledger import Ledger
from components.experiments.locks import attempt_lock, held
from components.experiments.outcome import compute, read_formula
from components.experiments.resolve import contract_of
from components.experiments.schema import Schema, read_yaml
from components.experiments.scoring import score, scored
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, GearshiftError, StorageError
from pipelines.experiments.kubeflow import ClusterConfig, follow
from pipelines.experiments.launch import launch_here, seal_launch
from pipelines.local import StepEvent

STUDIES_FILE = "optuna.db"
_RANGE = re.compile(r"(.+?)\.\.(.+?)(:log)?")


@dataclass(frozen=True)
class Launcher:
    """Where trials run.

    Attributes:
        seal: seals a launch of an experiment, with the plan of a sweep or none.
        run: runs a sealed launch to its end, and writes that down.
    """

    seal: Callable[[Ledger, str, Mapping[str, Any] | None], Attempt]
    run: Callable[[Ledger, Attempt], object]


def here(on_step: Callable[[StepEvent], None] = lambda event: None) -> Launcher:
    """Trials run on this machine."""
    return Launcher(
        lambda ledger, name, plan: seal_launch(ledger, name, plan=plan),
        lambda ledger, attempt: launch_here(ledger, attempt, on_step),
    )


def on_cluster(cluster: ClusterConfig) -> Launcher:
    """Trials run on Kubeflow."""
    from pipelines.experiments.cluster import seal_for, submit  # KFP's client takes a second

    def run(ledger: Ledger, attempt: Attempt) -> Attempt:
        there = attempt.state == "running" and attempt.kubeflow_run
        return follow(ledger, attempt if there else submit(ledger, attempt, cluster), cluster)

    return Launcher(lambda ledger, name, plan: seal_for(cluster, ledger, name, plan), run)


@configuration
class SweepConfig:
    """What a sweep tries.

    Attributes:
        trials: how many experiments.
        maximize: what is sought, a number made of the report's metrics; see the contract's
            expression.
        minimize: likewise; give one of the two.
        seed: entropy of the choices.
    """

    trials: Annotated[int, Field(ge=1, le=100_000)] = 10
    maximize: str = ""
    minimize: str = ""
    seed: int = 0

    @property
    def goal(self) -> str:
        """What is sought.

        Raises:
            ConfigurationError: nothing is, or two things are, or it is no number.
        """
        if bool(self.maximize) == bool(self.minimize):
            raise ConfigurationError("what is sought is not clear; give --maximize or --minimize")
        goal = self.maximize or self.minimize
        read_formula(goal)
        return goal


@dataclass(frozen=True)
class Span:
    """What one option is varied over: from low to high, or a few values.

    Attributes:
        path: the option.
        low: the least value; None where ``choices`` are given.
        high: the greatest.
        log: whether evenly in the logarithm.
        whole: whether only whole numbers.
        choices: the values.
    """

    path: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def read(cls, text: str, schema: Schema) -> Span:
        """Read ``refine.learning_rate=1e-4..1e-2:log`` or ``refine.fleets=6,12,24``.

        Raises:
            ConfigurationError: another form, an unknown option, or a value of another type.
        """
        path, equals, values = text.partition("=")
        if not equals:
            raise ConfigurationError(f"{text!r} is not understood; write stage.option=LOW..HIGH")
        key = schema.key(path.strip())
        ends = _RANGE.fullmatch(values.strip())
        if ends is None:
            choices = tuple(key.parsed(part.strip()) for part in _parts(values))
            if len(choices) < 2:
                raise ConfigurationError(f"{text!r} varies nothing; write LOW..HIGH or A,B,C")
            return cls(key.path, choices=choices)
        low, high = (key.parsed(end.strip()) for end in ends.groups()[:2])
        if not all(isinstance(end, int | float) for end in (low, high)) or not low < high:
            raise ConfigurationError(f"{text!r} is no range; write a lower and a higher number")
        if ends[3] and low <= 0:
            raise ConfigurationError(f"{text!r}: a logarithm needs numbers above 0")
        return cls(key.path, low, high, bool(ends[3]), isinstance(low, int))

    def suggest(self, trial: Any) -> None:
        """Have Optuna choose; it keeps numbers, and for a list of values the place in it."""
        if self.choices:
            trial.suggest_categorical(self.path, list(range(len(self.choices))))
        elif self.whole:
            trial.suggest_int(self.path, self.low, self.high, log=self.log)
        else:
            trial.suggest_float(self.path, self.low, self.high, log=self.log)

    def value(self, chosen: Mapping[str, Any]) -> Any:
        """The value of what Optuna kept of a trial."""
        kept = chosen[self.path]
        return self.choices[kept] if self.choices else kept


def plan_sweep(
    ledger: Ledger,
    name: str,
    vary: Sequence[str],
    config: SweepConfig,
    launcher: Launcher | None = None,
) -> Attempt:
    """Seal a sweep; nothing runs yet.

    Args:
        ledger: where it is written down.
        name: the experiment whose children the trials are.
        vary: ``stage.option=LOW..HIGH``, with ``:log`` behind it, or ``stage.option=A,B,C``.
        config: how many, and what is sought.
        launcher: where the trials will run; on this machine without it.

    Raises:
        NotKnown: there is no such experiment.
        ConfigurationError: it has no contract of its own, or the plan is wrong.
        StorageError: the seal cannot be written.
    """
    ledger.experiment(name)
    _, owner = contract_of(name, ledger.known)
    if owner != name:
        raise ConfigurationError(f"{name} is under {owner}; sweep an experiment with a contract")
    spans = [Span.read(text, ledger.schema) for text in vary]
    if not spans:
        raise ConfigurationError("nothing varies; give --vary refine.learning_rate=1e-4..1e-2:log")
    twice = {one.path for one in spans if sum(one.path == two.path for two in spans) > 1}
    if twice:
        raise ConfigurationError(f"{sorted(twice)[0]} varies twice; give each option once")
    plan = {
        "trials": config.trials,
        "goal": config.goal,
        "direction": "maximize" if config.maximize else "minimize",
        "seed": config.seed,
        "spans": [asdict(one) for one in spans],
    }
    return (launcher or here()).seal(ledger, name, plan)


def is_sweep(ledger: Ledger, attempt: Attempt) -> bool:
    """Whether a launch is a sweep; raises ``SealBroken`` and ``StorageError``."""
    return bool(ledger.records.seal_of(attempt.run_id).content["plan"])


def go_on(
    ledger: Ledger,
    attempt: Attempt,
    launcher: Launcher | None = None,
    on_trial: Callable[[int, int], None] = lambda done, total: None,
) -> Attempt:
    """Run the trials of a sweep that are not done yet, then score it by the best of them.

    Args:
        ledger: where it is written down.
        attempt: the sweep, sealed by ``plan_sweep``.
        launcher: where trials run; on this machine without it.
        on_trial: called with trials done and in all.

    Raises:
        ConfigurationError: it runs already, or has succeeded.
        SealBroken: its seal was changed.
        StorageError: MLflow, or Optuna's study, cannot be written to.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    run = launcher or here()
    with held(attempt_lock(ledger.folder, attempt.attempt)) as mine:
        if not mine:
            raise ConfigurationError(f"{attempt.attempt} runs already")
        if ledger.index.attempt(attempt.attempt).state == "succeeded":  # perhaps a moment ago
            raise ConfigurationError(f"{attempt.attempt} has succeeded; sweep the experiment again")
        sealed = ledger.records.seal_of(attempt.run_id)
        plan = sealed.content["plan"]
        spans = [Span(**{**one, "choices": tuple(one["choices"])}) for one in plan["spans"]]
        attempt = replace(attempt, state="running", started_at=attempt.started_at or now())
        ledger.store(attempt)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{(ledger.folder / STUDIES_FILE).resolve()}",
                study_name=attempt.attempt,
                direction=plan["direction"],
                load_if_exists=True,
            )
            running = optuna.trial.TrialState.RUNNING
            for left in study.get_trials(states=(running,)):
                if any(one.path not in left.params for one in spans):
                    study.tell(left.number, state=_fail())  # killed while it was being chosen
                    continue
                _trial(ledger, attempt, study, left.number, spans, left.params, plan, run)
            while len(study.trials) < plan["trials"]:
                # Seeded for each trial, so that a sweep that was killed goes on as it would have.
                seed = plan["seed"] + len(study.trials)
                study.sampler = optuna.samplers.TPESampler(seed=seed)
                trial = study.ask()
                for one in spans:
                    one.suggest(trial)  # Optuna keeps what it chose
                _trial(ledger, attempt, study, trial.number, spans, trial.params, plan, run)
                on_trial(len(study.trials), plan["trials"])
        except SQLAlchemyError as error:
            raise StorageError(f"Optuna's study cannot be written: {error}") from error
        except (SystemExit, KeyboardInterrupt):
            ledger.store(replace(attempt, state="interrupted", reason="resume it to go on"))
            raise
        ended = _judged(ledger, attempt, plan)
        ledger.store(ended)
    return ended


def _trial(
    ledger: Ledger,
    sweep: Attempt,
    study: Any,
    number: int,
    spans: Sequence[Span],
    chosen: Mapping[str, Any],
    plan: Mapping[str, Any],
    launcher: Launcher,
) -> None:
    name = sweep.trial(number)
    if name not in ledger.known:
        settings = [f"{one.path}={_written(one.value(chosen))}" for one in spans]
        ledger.new(
            name,
            sweep.experiment,
            settings,
            under=sweep.experiment,
            tags=["trial"],
            notes=f"Trial {number} of {sweep.attempt}.",
            folder=ledger.config.experiments / f"{sweep.experiment}-trials",
        )
    launched = ledger.attempts(name)
    attempt = launched[-1] if launched else launcher.seal(ledger, name, None)
    if attempt.state != "succeeded":
        try:
            launcher.run(ledger, attempt)
        except (StorageError, SystemExit, KeyboardInterrupt):
            raise
        except GearshiftError:
            study.tell(number, state=_fail())  # the ledger records why
            return
    figures = ledger.index.attempt(attempt.attempt).figures
    value = compute(plan["goal"], figures)
    if value is None:
        study.tell(number, state=_fail())
    else:
        study.tell(number, value)


def _fail() -> Any:
    import optuna

    return optuna.trial.TrialState.FAIL


def _judged(ledger: Ledger, sweep: Attempt, plan: Mapping[str, Any]) -> Attempt:
    """The sweep's own outcome: its contract held against the best trial."""
    sealed = ledger.records.seal_of(sweep.run_id)
    sign = 1 if plan["direction"] == "maximize" else -1
    found: list[tuple[float, Attempt]] = []
    for number in range(plan["trials"]):
        for one in ledger.attempts(sweep.trial(number))[-1:]:
            value = compute(plan["goal"], one.figures) if one.state == "succeeded" else None
            if value is not None:
                found.append((sign * value, one))
    ended = replace(sweep, state="succeeded", ended_at=now(), exit_code=0)
    if not found:
        return replace(
            ended, state="failed", verdict="void", exit_code=1, reason="no trial has a figure"
        )
    best = max(found, key=lambda pair: pair[0])[1]
    judged = scored(ended, score(sealed, best.figures), best.figures)
    return replace(judged, reason=f"best of {len(found)} is {best.experiment}: {judged.reason}")


def _parts(text: str) -> list[str]:
    """Values separated by commas, those of lists kept together."""
    try:
        found = read_yaml(f"[{text}]")
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{text!r} cannot be read; write A,B,C or LOW..HIGH") from error
    return [_written(one) for one in found]


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip())
