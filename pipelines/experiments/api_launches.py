"""The routes of the ledger's API that write: experiments, launches, sweeps, scores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import Body, Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from components.experiments.document import Contract
from components.experiments.ledger import Ledger
from foundation.errors import Forbidden
from inference_graph.gateway.access import Client
from inference_graph.gateway.limits import RateLimiter
from pipelines.experiments.cluster import seal_for, submit
from pipelines.experiments.kubeflow import ClusterConfig, end
from pipelines.experiments.launch import seal_launch
from pipelines.experiments.schema import PLACES
from pipelines.experiments.sweep import SweepConfig, on_cluster, plan_sweep
from pipelines.experiments.views import experiment_view, score_again
from pipelines.experiments.worker import keep_cluster, requeue, start_sweep, start_worker

_LAUNCHES_PER_SECOND = 1.0

Experiment = Annotated[str, Field(min_length=1, max_length=80)]


@dataclass(frozen=True)
class Desk:
    """What the routes work with.

    Attributes:
        ledger: the ledger.
        known: returns who asks; refuses who lacks the role.
        in_turn: runs a function beside the event loop, one at a time, and returns its answer.
        cluster: where launches on a cluster go.
    """

    ledger: Ledger
    known: Callable[..., Client]
    in_turn: Callable[[Callable[[], Any]], Awaitable[Any]]
    cluster: ClusterConfig


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ContractBody(_Strict):
    """What is promised."""

    objective: str = Field(min_length=1, max_length=2000)
    hypothesis: str = Field(min_length=1, max_length=2000)
    expected: str = Field(
        min_length=1, max_length=500, examples=["retained >= 0.985 and latency_ratio <= 0.4"]
    )


class NewBody(_Strict):
    """A new experiment; who asks is the author of its contract."""

    name: str = Field(min_length=1, max_length=80)
    extends: str = Field(default="", max_length=80)
    set: dict[str, Any] = Field(
        default_factory=dict, description="Values by path.", examples=[{"refine.fleets": 24}]
    )
    contract: ContractBody | None = None
    tags: list[str] = Field(default_factory=list, max_length=50)
    notes: str = Field(default="", max_length=10_000)


class SweepBody(_Strict):
    """A sweep."""

    vary: list[str] = Field(min_length=1, examples=[["refine.learning_rate=1e-4..1e-2:log"]])
    trials: int = Field(default=10, ge=1, le=1000)
    maximize: str = Field(default="", max_length=500)
    minimize: str = Field(default="", max_length=500)
    seed: int = 0


def launch_routes(app: FastAPI, desk: Desk) -> None:
    """Add the routes that write: experiments, launches, sweeps, scores."""
    ledger, in_turn = desk.ledger, desk.in_turn
    allowed = Depends(desk.known)
    launches = RateLimiter(_LAUNCHES_PER_SECOND, burst=30)

    @app.post("/v1/experiments", tags=["ledger"], summary="Write an experiment", status_code=201)
    async def new(body: Annotated[NewBody, Body()], client: Client = allowed) -> dict[str, Any]:
        def write() -> dict[str, Any]:
            contract = None
            if body.contract is not None:
                contract = Contract(**body.contract.model_dump(), author=client.name)
            values = ledger.schema.flat(body.set)
            _refuse_places(values)
            ledger.new(
                body.name,
                body.extends,
                contract=contract,
                tags=body.tags,
                notes=body.notes,
                values=values,
            )
            return experiment_view(ledger, body.name)

        return await in_turn(write)

    @app.post(
        "/v1/experiments/{name}/launches",
        tags=["launches"],
        summary="Seal and queue a launch",
        status_code=202,
    )
    async def launch(
        name: Experiment, on: Literal["here", "cluster"] = "here", client: Client = allowed
    ) -> dict[str, Any]:
        """Without a contract nothing is launched (400). `on=cluster` submits it to Kubeflow."""
        launches.take(client.name, "launches")

        def start() -> dict[str, Any]:
            if on == "cluster":
                sealed = seal_for(desk.cluster, ledger, name)
                return asdict(submit(ledger, sealed, desk.cluster))
            attempt = seal_launch(ledger, name)
            start_worker(ledger)
            return asdict(attempt)

        return await in_turn(start)

    @app.post(
        "/v1/experiments/{name}/sweeps",
        tags=["launches"],
        summary="Seal and queue a sweep",
        status_code=202,
    )
    async def sweep(
        name: Experiment,
        body: Annotated[SweepBody, Body()],
        on: Literal["here", "cluster"] = "here",
        client: Client = allowed,
    ) -> dict[str, Any]:
        """Its trials run in the queue, or with `on=cluster` one after the other on Kubeflow."""
        launches.take(client.name, "launches")

        def start() -> dict[str, Any]:
            _refuse_places(one.partition("=")[0].strip() for one in body.vary)
            config = SweepConfig(body.trials, body.maximize, body.minimize, body.seed)
            if on == "cluster":
                attempt = plan_sweep(ledger, name, body.vary, config, on_cluster(desk.cluster))
                keep_cluster(ledger, attempt, desk.cluster)
                start_sweep(ledger, attempt)
            else:
                attempt = plan_sweep(ledger, name, body.vary, config)
                start_worker(ledger)
            return asdict(attempt)

        return await in_turn(start)

    @app.post(
        "/v1/experiments/{name}/score", tags=["ledger"], summary="Score the last launch again"
    )
    async def score(name: Experiment, client: Client = allowed) -> dict[str, Any]:
        return await in_turn(lambda: score_again(ledger, name))

    @app.post("/v1/launches/{attempt}/cancel", tags=["launches"], summary="End a launch")
    async def cancel(attempt: str, client: Client = allowed) -> dict[str, Any]:
        def stop() -> dict[str, Any]:
            return asdict(end(ledger, ledger.index.attempt(attempt), desk.cluster))

        return await in_turn(stop)

    @app.post(
        "/v1/launches/{attempt}/resume",
        tags=["launches"],
        summary="Queue a launch that was killed, cancelled or failed, under its seal",
        status_code=202,
    )
    async def resume(attempt: str, client: Client = allowed) -> dict[str, Any]:
        launches.take(client.name, "launches")

        def start() -> dict[str, Any]:
            queued = requeue(ledger, ledger.index.attempt(attempt))
            if queued.place == "cluster":
                start_sweep(ledger, queued)
            else:
                start_worker(ledger)
            return asdict(queued)

        return await in_turn(start)


def _refuse_places(paths: Iterable[str]) -> None:
    """Leave the places that are read and written to who has an account on the server.

    Raises:
        Forbidden: a client chooses one.
    """
    for path in sorted(PLACES.intersection(paths)):
        raise Forbidden(
            f"{path} names a place that the server would read or write; write it into the "
            "experiment's file there, or extend an experiment that has it"
        )
