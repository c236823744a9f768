"""``gearshift experiment run`` and its kin: launch here or on Kubeflow, queue, end, resume."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from foundation.path_roles import KEPT_FOLDER, READ
from pipelines.cli.console import (
    Json,
    announcing,
    argument,
    configured_by,
    notes,
    option,
    progress_bar,
    show,
)
from pipelines.cli.experiment import (
    CONFIG,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    Name,
    experiment,
    opened,
)

__all__ = ["experiment"]

if TYPE_CHECKING:
    from components.experiments.attempt import Attempt
    from components.experiments.ledger import Ledger
    from pipelines.experiments.kubeflow import ClusterConfig

Launched = Annotated[
    str, argument(help="A launch, as baseline.3; an experiment's name means its last one.")
]
On = Annotated[str, option("--on", help="here (this machine) or cluster (Kubeflow).")]
Url = Annotated[
    str, option(envvar=URL_VARIABLE, help="With --on cluster: URL of Kubeflow Pipelines.")
]
PodsUri = Annotated[
    str,
    option(
        "--pods-tracking-uri",
        envvar="GEARSHIFT_PODS_TRACKING_URI",
        help="On a cluster: MLflow's server as pods reach it.",
    ),
]
TokenFile = Annotated[
    Path | None,
    option(envvar=TOKEN_VARIABLE, help="On a cluster: file with a bearer token for Kubeflow."),
    READ,
]
Image = Annotated[str, option(help="With --on cluster: container image of the steps.")]
Poll = Annotated[float, option(min=0.01, help="Seconds between two looks at Kubeflow.")]


@experiment.command()
@configured_by(CONFIG)
def run(
    config: Any,
    name: Name,
    on: On = "here",
    wait: Annotated[
        bool, option("--wait/--no-wait", help="--no-wait: submit, or queue, and return.")
    ] = True,
    fresh: Annotated[bool, option("--fresh", help="Reuse no earlier result.")] = False,
    url: Url = "",
    pods_tracking_uri: PodsUri = "",
    token_file: TokenFile = None,
    image: Image = "",
    poll_seconds: Poll = 10.0,
    require_met: Annotated[
        bool, option("--require-met", help="Exit with 1 unless the expectation is met.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Seal an experiment's contract and configuration, run it, and score what was expected.

    Without a contract nothing is launched. On this machine steps whose inputs are unchanged are
    taken from earlier launches. Exit code 0 means that the run ended, whatever the outcome.

    Example: `gearshift experiment run longer-refinement` and `gearshift experiment run baseline
    --on cluster --url http://localhost:8888 --pods-tracking-uri http://mlflow.kubeflow:5000`
    """
    from foundation.errors import GateRefused
    from pipelines.experiments.launch import seal_launch
    from pipelines.experiments.worker import start_worker

    ledger = opened(config)
    if _where(on):
        cluster = _cluster(url, pods_tracking_uri, token_file, image, poll_seconds)
        ended = _on_cluster(ledger, name, cluster, wait)
    else:
        attempt = seal_launch(ledger, name)
        notes.print(f"{attempt.attempt}: sealed as {attempt.sha256[:12]}")
        if wait:
            ended = _here(ledger, attempt, fresh)
        else:
            start_worker(ledger)
            ended = attempt
    _print_attempt(ledger, ended, as_json)
    if require_met and wait and ended.verdict != "met":
        raise GateRefused(f"{ended.attempt}: {ended.verdict or ended.state}: {ended.reason}")


@experiment.command()
@configured_by(CONFIG)
def seal(config: Any, name: Name, pods_tracking_uri: PodsUri = "", as_json: Json = False) -> None:
    """Seal a launch for the Kubeflow UI and print the pipeline's parameter `contract`, JSON.

    Start a run of gearshift-training there and paste it; every other parameter may stay as it is.
    A run without a contract is a launch of the shipped baseline under its user's name.

    Example: `gearshift experiment seal longer-refinement
    --pods-tracking-uri http://mlflow.kubeflow:5000`
    """
    from pipelines.experiments.cluster import sealed_parameter

    attempt, parameter = sealed_parameter(opened(config), name, pods_tracking_uri)
    notes.print(f"{attempt.attempt}: sealed as {attempt.sha256[:12]}")
    show(parameter, as_json=True)


@experiment.command()
@configured_by(CONFIG)
def queue(
    config: Any,
    names: Annotated[
        list[str] | None, argument(help="Experiments to launch one after the other.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Seal experiments and let a process beside this terminal run them; or show what waits.

    They run one at a time, so that none disturbs the times that another measures.

    Example: `gearshift experiment queue longer-refinement shorter-leash`
    """
    from components.experiments.parents import parent_record
    from components.experiments.resolve import contract_of
    from pipelines.experiments.launch import seal_launch
    from pipelines.experiments.worker import start_worker

    ledger = opened(config)
    for name in names or ():  # all of them are in order, or none is queued
        ledger.experiment(name)
        parent_record(ledger, *contract_of(name, ledger.known), None)
    for name in names or ():
        seal_launch(ledger, name)
    waiting = ledger.index.attempts("state IN ('queued', 'running')")
    if any(one.state == "queued" and one.place == "here" for one in waiting):
        start_worker(ledger)
    if as_json:
        show({"queue": waiting}, as_json)
    for one in waiting if not as_json else ():
        print(f"{one.attempt}: {one.state} on {one.place} since {one.started_at or one.sealed_at}")
    if not waiting and not as_json:
        print("nothing waits and nothing runs")


@experiment.command()
@configured_by(CONFIG)
def cancel(
    config: Any,
    launched: Launched,
    url: Url = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """End a launch that waits or runs, here or on Kubeflow; `resume` goes on from there.

    Example: `gearshift experiment cancel shorter-leash`
    """
    from pipelines.experiments.kubeflow import ClusterConfig, end

    ledger = opened(config)
    attempt = find(ledger, launched)
    ended = end(ledger, attempt, ClusterConfig(url or attempt.kubeflow_url, token_file))
    if as_json:
        show({"launch": ended.attempt, "state": ended.state}, as_json)
    else:
        print(f"{ended.attempt}: {ended.state}")


@experiment.command()
@configured_by(CONFIG)
def resume(
    config: Any,
    launched: Launched,
    wait: Annotated[
        bool, option("--wait/--no-wait", help="--no-wait: put it back into the queue, and return.")
    ] = True,
    url: Url = "",
    token_file: TokenFile = None,
    poll_seconds: Poll = 10.0,
    as_json: Json = False,
) -> None:
    """Go on with a launch that was killed, cancelled or failed, under the seal that it has.

    What its steps finished is taken over. Of a launch on Kubeflow, the run there is followed to
    its end. A sweep goes on with the trial it was at.

    Example: `gearshift experiment resume baseline.2`
    """
    from pipelines.experiments.kubeflow import ClusterConfig, follow
    from pipelines.experiments.worker import requeue

    ledger = opened(config)
    attempt = find(ledger, launched)
    if attempt.kubeflow_run and wait:
        cluster = ClusterConfig(url or attempt.kubeflow_url, token_file, poll_seconds=poll_seconds)
        ended = follow(ledger, attempt, cluster, lambda words: notes.print(words))
    elif not wait:
        ended = requeue(ledger, attempt)
        _beside(ledger, ended)
    else:
        ended = _on_here(ledger, attempt)
    _print_attempt(ledger, ended, as_json)


@experiment.command()
@configured_by(CONFIG)
def log(
    config: Any,
    launched: Launched,
    step: Annotated[str, option(help="A step; the one that failed, or runs, without it.")] = "",
    as_json: Json = False,
) -> None:
    """Print the log of a launch's step.

    Example: `gearshift experiment log shorter-leash --step refine`
    """
    from components.experiments.launches import log_of, steps_of
    from foundation.errors import NotFound

    ledger = opened(config)
    attempt = find(ledger, launched)
    steps = [str(one["step"]) for one in steps_of(ledger, attempt)]
    chosen = step or attempt.failing_step or (steps[-1] if steps else "")
    file = log_of(attempt, chosen) if chosen else None
    if file is None or not file.is_file():
        raise NotFound(
            f"{attempt.attempt} has no log of {chosen or 'any step'}; there are "
            f"{', '.join(steps) or 'none'}"
        )
    text = file.read_text(encoding="utf-8", errors="replace")
    if as_json:
        show({"launch": attempt.attempt, "step": chosen, "log": text}, as_json)
    else:
        print(text, end="")


@experiment.command()
@configured_by(CONFIG)
def tensorboard(
    config: Any,
    launched: Launched,
    alone: Annotated[bool, option("--alone", help="Without the parent's curves.")] = False,
    port: Annotated[int, option(min=0, max=65535, help="0 takes a free one.")] = 6006,
    write_only: Annotated[
        bool, option("--write-only", help="Write the event files and start nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a launch's learning curves beside its parent's in TensorBoard, until Ctrl-C.

    Each seed is a run, and so is the mean of the seeds.

    Example: `gearshift experiment tensorboard longer-refinement`
    """
    from pipelines.experiments.tensorboard import serve_tensorboard, with_parent, write_events

    ledger = opened(config)
    attempt = find(ledger, launched)
    folder = write_events(ledger, (attempt,) if alone else with_parent(ledger, attempt))
    if as_json:
        show({"events": folder}, as_json)
    else:
        print(folder)
    sys.stdout.flush()
    if not write_only:
        serve_tensorboard(folder, port)


@experiment.command()
@configured_by("pipelines.experiments.sweep:SweepConfig")
def sweep(
    config: Any,
    name: Name,
    vary: Annotated[
        list[str] | None,
        option(metavar="STAGE.OPTION=LOW..HIGH[:log] | A,B,C", help="What varies; repeatable."),
    ] = None,
    experiments: Annotated[Path, option(help="Folder of the YAML files."), KEPT_FOLDER] = Path(
        "experiments"
    ),
    ledger: Annotated[Path, option(help="Folder of the ledger."), KEPT_FOLDER] = Path(
        "runs/experiments"
    ),
    tracking_uri: Annotated[str, option(help="MLflow's tracking URI.")] = "",
    on: On = "here",
    wait: Annotated[bool, option("--wait/--no-wait", help="--no-wait: queue it.")] = True,
    url: Url = "",
    pods_tracking_uri: PodsUri = "",
    token_file: TokenFile = None,
    image: Image = "",
    poll_seconds: Poll = 10.0,
    as_json: Json = False,
) -> None:
    """Let Optuna choose values: each trial is a child experiment under the sweep's one contract.

    The plan is sealed before the first trial; the contract is held against the best one. Trials
    share what they have in common, so one that varies `refine` alone starts there.

    Example: `gearshift experiment sweep longer-refinement --trials 12 --maximize retained
    --vary refine.learning_rate=1e-4..1e-2:log --vary refine.fleets=12,24,48`
    """
    from components.experiments.ledger import LedgerConfig
    from pipelines.experiments.sweep import go_on, here, on_cluster, plan_sweep
    from pipelines.experiments.worker import keep_cluster

    book = opened(LedgerConfig(experiments, ledger, tracking_uri))
    there = _where(on)
    cluster = _cluster(url, pods_tracking_uri, token_file, image, poll_seconds)
    launcher = on_cluster(cluster) if there else here()
    attempt = plan_sweep(book, name, vary or (), config, launcher)
    if there:
        keep_cluster(book, attempt, cluster)
    notes.print(f"{attempt.attempt}: sealed as {attempt.sha256[:12]}")
    if not wait:
        _beside(book, attempt)
        ended = attempt
    else:
        with progress_bar("trials") as progress:
            ended = go_on(book, attempt, launcher, progress)
    _print_attempt(book, ended, as_json)


@experiment.command()
@configured_by("pipelines.experiments.api:ExperimentsApiConfig")
def serve(config: Any, as_json: Json = False) -> None:
    """Serve the ledger's API, with the gateway's tokens and the role `experiment`, until Ctrl-C.

    `/docs` describes it, `/openapi.json` is its OpenAPI document. Launches go into the queue.

    Example: `gearshift experiment serve --tokens tokens.jsonl --port 8603`
    """
    from pipelines.experiments.api import serve_api

    serve_api(config, announcing("experiments", as_json))


def find(ledger: Ledger, launched: str) -> Attempt:
    """A launch by its name, or the last one of an experiment."""
    from foundation.errors import NotFound

    if "." in launched:
        return ledger.index.attempt(launched)
    attempts = ledger.attempts(launched)
    if not attempts:
        ledger.experiment(launched)
        raise NotFound(f"{launched} was not launched yet; `gearshift experiment run {launched}`")
    return attempts[-1]


def _where(on: str) -> bool:
    """Whether a launch goes to the cluster."""
    from foundation.errors import ConfigurationError

    if on not in ("here", "cluster"):
        raise ConfigurationError(f"--on is {on!r}; choose from here, cluster")
    return on == "cluster"


def _beside(ledger: Ledger, attempt: Attempt) -> None:
    """Have a process beside this terminal run what was queued."""
    from pipelines.experiments.worker import start_sweep, start_worker

    if attempt.place == "cluster":
        start_sweep(ledger, attempt)
    else:
        start_worker(ledger)


def _on_here(ledger: Ledger, attempt: Attempt) -> Attempt:
    """Go on with what this machine runs, a single launch or the trials of a sweep."""
    from pipelines.experiments.sweep import go_on, is_sweep, on_cluster
    from pipelines.experiments.worker import kept_cluster

    if not is_sweep(ledger, attempt):
        return _here(ledger, attempt, False)
    there = on_cluster(kept_cluster(ledger, attempt)) if attempt.place == "cluster" else None
    with progress_bar("trials") as progress:
        return go_on(ledger, attempt, there, progress)


def _here(ledger: Ledger, attempt: Attempt, fresh: bool) -> Attempt:
    from components.experiments.launches import busy
    from pipelines.cli.step_display import step_display
    from pipelines.experiments.launch import launch_here

    if busy(ledger):
        notes.print("another launch runs here; this one waits for its end")
    with step_display() as on_event:
        result = launch_here(ledger, attempt, on_event, reuse=not fresh)
    notes.print(result.outcome, markup=False, soft_wrap=True)
    return ledger.index.attempt(attempt.attempt)


def _cluster(
    url: str, pods_tracking_uri: str, token_file: Path | None, image: str, poll_seconds: float
) -> ClusterConfig:
    from pipelines.experiments.kubeflow import ClusterConfig

    usual = ClusterConfig()
    return ClusterConfig(
        url,
        token_file,
        pods_tracking_uri,
        image or usual.image,
        image or usual.gpu_image,
        poll_seconds=poll_seconds,
    )


def _on_cluster(ledger: Ledger, name: str, cluster: ClusterConfig, wait: bool) -> Attempt:
    from pipelines.experiments.cluster import seal_for, submit
    from pipelines.experiments.kubeflow import follow

    attempt = submit(ledger, seal_for(cluster, ledger, name), cluster)
    notes.print(f"{attempt.attempt}: run {attempt.kubeflow_run} at {attempt.kubeflow_url}")
    if not wait:
        return attempt
    return follow(ledger, attempt, cluster, lambda words: notes.print(words))


def _print_attempt(ledger: Ledger, attempt: Attempt, as_json: bool) -> None:
    from pipelines.experiments.display import print_launch
    from pipelines.experiments.views import attempt_view

    view = attempt_view(ledger, attempt)
    if as_json:
        show(view, as_json)
    else:
        print_launch(view)
