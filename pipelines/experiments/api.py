"""The ledger over HTTP: everything of the command line, with the gateway's tokens.

A small application of its own, because the gateway's floor knows no pipeline. A launch is sealed
when it is asked for and goes into the queue; the answer names it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field

from components.experiments.export import rows_csv, rows_markdown
from components.experiments.launches import log_of, note_interrupted
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.query import Question
from components.experiments.scoreboard import scoreboard
from components.experiments.tree import tree_view
from components.experiments.verify import verify
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, NotFound
from foundation.path_roles import InputPath
from inference_graph.gateway.access import Access, Client, OpenAccess, Role, TokenAccess
from inference_graph.gateway.docs import operations_page
from inference_graph.gateway.problems import add_handlers, problems
from pipelines.experiments.api_launches import Desk, Experiment, launch_routes
from pipelines.experiments.kubeflow import ClusterConfig, look
from pipelines.experiments.schema import open_ledger
from pipelines.experiments.views import (
    attempt_view,
    difference_view,
    experiment_view,
    scoreboard_view,
)
from serving_kit.foreign_pages import is_loopback
from serving_kit.listening import listen, url_of

_ABOUT = """The experiment ledger: intent, inheritance, differences, launches and scores. Every
request carries a token of the role `experiment` (`gearshift token add NAME --role experiment`)."""
_LOG_BYTES = 1024 * 1024
_bearer = HTTPBearer(auto_error=False, description="A token of the role experiment.")


@configuration
class ExperimentsApiConfig(LedgerConfig):
    """Which ledger is served, where, and to whom.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        tokens: file of access tokens, as the gateway's.
        open_access: let everybody in without a token; only on a loopback address.
        kubeflow_url: of Kubeflow Pipelines, for launches on a cluster; none without it.
        kubeflow_token_file: file with a bearer token for it; no token without it.
        pods_tracking_uri: address at which pods reach the MLflow of the ledger.
        image: container image of the steps there.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8603
    tokens: InputPath | None = None
    open_access: bool = False
    kubeflow_url: str = ""
    kubeflow_token_file: InputPath | None = None
    pods_tracking_uri: str = ""
    image: str = ClusterConfig.image

    def __post_init__(self) -> None:
        """Raise ConfigurationError where it is open to everybody, or to no one."""
        if self.open_access == (self.tokens is not None):
            raise ConfigurationError(
                "who may ask is not settled; give either a tokens file or open_access"
            )
        if self.open_access and not is_loopback(self.host):
            raise ConfigurationError(
                f"open_access on {self.host} would let the network in; listen on 127.0.0.1 or "
                "give a tokens file"
            )

    @property
    def cluster(self) -> ClusterConfig:
        """Where launches on a cluster go."""
        return ClusterConfig(
            self.kubeflow_url,
            self.kubeflow_token_file,
            self.pods_tracking_uri,
            self.image,
            self.image,
        )

    @property
    def kept(self) -> LedgerConfig:
        """The ledger alone."""
        return LedgerConfig(self.experiments, self.ledger, self.tracking_uri)


Where = Annotated[list[str], Query(description="FIELD OP VALUE, as `outcome=missed`; repeatable.")]
Sort = Annotated[
    str, Query(max_length=200, description="A field, an option or a metric; `-` greatest first.")
]
Words = Annotated[str, Query(max_length=500, description="Full text, in any inflection.")]


def build_app(config: ExperimentsApiConfig) -> FastAPI:
    """The application.

    Raises:
        ConfigurationError: an unusable tokens file, or two experiments of one name.
        StorageError: the ledger's folder cannot be written.
    """
    access: Access = TokenAccess(config.tokens) if config.tokens is not None else OpenAccess()
    ledger = open_ledger(config.kept)
    lock = asyncio.Lock()

    def known(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Client:
        return access.check(request.headers, Role.EXPERIMENT)

    app = FastAPI(
        title="Gearshift experiments",
        description=_ABOUT,
        version="1",
        docs_url=None,
        redoc_url=None,
        responses=problems(400, 401, 403, 404, 409, 422, 429),
    )
    add_handlers(app)

    async def in_turn(answer: Callable[[], Any]) -> Any:
        """One at a time, beside the event loop: the ledger is one file, and MLflow takes its time.

        Files that changed are read first, so that an answer is never of yesterday.
        """

        def work() -> Any:
            ledger.refresh()
            note_interrupted(ledger)
            look(ledger, config.cluster)
            return answer()

        async with lock:
            return await asyncio.to_thread(work)

    _reading(app, ledger, known, in_turn)
    launch_routes(app, Desk(ledger, known, in_turn, config.cluster))
    page = operations_page(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/healthz", tags=["watching"], summary="Whether the process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def serve_api(
    config: ExperimentsApiConfig, on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve until interrupted or terminated; blocks.

    Raises:
        ConfigurationError: the address is in use, or as ``build_app``.
    """
    app = build_app(config)
    # What is imported by now stays; a long list shall not have the collector look at all of it.
    gc.freeze()
    with listen(config.host, config.port) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level=logging.WARNING,
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        on_ready(url_of(listening))
        server.run(sockets=[listening])


def _reading(app: FastAPI, ledger: Ledger, known: Any, in_turn: Any) -> None:
    allowed = Depends(known)

    @app.get("/v1/experiments", tags=["ledger"], summary="List or search experiments")
    async def found(
        words: Words = "",
        where: Where = [],  # noqa: B006  # FastAPI reads it, nothing changes it
        sort: Sort = "",
        limit: Annotated[int, Query(ge=1, le=100_000)] = 100,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        client: Client = allowed,
    ) -> dict[str, Any]:
        """`total` is how many there are; `limit` and `offset` choose the page.

        `left_out` states which files have names that are no experiment's, a line for each.
        """

        def ask() -> dict[str, Any]:
            answer = ledger.find(Question(words, tuple(where), limit, offset, sort))
            return {
                "all_words": answer.all_words,
                "total": answer.total,
                "left_out": ledger.left_out,
                "experiments": [row._asdict() for row in answer.rows],
            }

        return await in_turn(ask)

    @app.get("/v1/experiments/{name}", tags=["ledger"], summary="Show an experiment, resolved")
    async def shown(name: Experiment, client: Client = allowed) -> dict[str, Any]:
        return await in_turn(lambda: experiment_view(ledger, name))

    @app.get("/v1/diff", tags=["ledger"], summary="What two experiments do not share")
    async def diff(
        first: Experiment, second: Experiment, everything: bool = False, client: Client = allowed
    ) -> dict[str, Any]:
        return await in_turn(lambda: difference_view(ledger, first, second, everything))

    @app.get("/v1/tree", tags=["ledger"], summary="Who extends whom")
    async def tree(root: str = "", client: Client = allowed) -> list[dict[str, Any]]:
        return await in_turn(lambda: tree_view(ledger, root))

    @app.get("/v1/scores", tags=["ledger"], summary="How often hypotheses hold")
    async def scores(client: Client = allowed) -> dict[str, Any]:
        return await in_turn(lambda: scoreboard_view(scoreboard(ledger.index)))

    @app.get("/v1/seals", tags=["ledger"], summary="Verify the seals of launches")
    async def seals(name: str = "", client: Client = allowed) -> list[dict[str, Any]]:
        def check() -> list[dict[str, Any]]:
            chosen = ledger.attempts(name) if name else ledger.index.attempts()
            mine = {one.attempt for one in chosen}
            return [
                asdict(one) for one in verify(ledger, chosen) if not name or one.attempt in mine
            ]

        return await in_turn(check)

    @app.get(
        "/v1/export",
        tags=["ledger"],
        summary="The list as CSV or Markdown",
        response_class=PlainTextResponse,
    )
    async def export(
        form: Literal["csv", "markdown"] = "csv",
        words: Words = "",
        where: Where = [],  # noqa: B006
        client: Client = allowed,
    ) -> PlainTextResponse:
        rows = await in_turn(lambda: ledger.find(Question(words, tuple(where))).rows)
        if form == "csv":
            return PlainTextResponse(rows_csv(rows), media_type="text/csv")
        return PlainTextResponse(rows_markdown(rows), media_type="text/markdown")

    @app.get("/v1/launches", tags=["launches"], summary="List launches")
    async def launches(
        state: Literal[
            "", "queued", "running", "interrupted", "cancelled", "failed", "succeeded"
        ] = "",
        client: Client = allowed,
    ) -> list[dict[str, Any]]:
        where, values = ("state = ?", (state,)) if state else ("", ())
        return await in_turn(lambda: [asdict(one) for one in ledger.index.attempts(where, values)])

    @app.get("/v1/launches/{attempt}", tags=["launches"], summary="Show a launch and its steps")
    async def launch(attempt: str, client: Client = allowed) -> dict[str, Any]:
        return await in_turn(lambda: attempt_view(ledger, ledger.index.attempt(attempt)))

    @app.get(
        "/v1/launches/{attempt}/log",
        tags=["launches"],
        summary="The end of a step's log",
        response_class=PlainTextResponse,
    )
    async def log(attempt: str, step: str = "", client: Client = allowed) -> PlainTextResponse:
        def read() -> str:
            one = ledger.index.attempt(attempt)
            steps = [str(each["step"]) for each in attempt_view(ledger, one)["steps"]]
            chosen = step or one.failing_step or (steps[-1] if steps else "")
            # Only names of its own steps: no other path is one.
            if chosen not in (*steps, one.failing_step) or not log_of(one, chosen).is_file():
                raise NotFound(f"{attempt} has no log of {chosen[:80] or 'any step'}")
            return log_of(one, chosen).read_text("utf-8", "replace")[-_LOG_BYTES:]

        return PlainTextResponse(await in_turn(read))
