"""The gateway as an ASGI application, and its server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import APIRouter, Depends, FastAPI, Response, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from foundation.errors import GearshiftError
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.browsers import (
    Tickets,
    accepted_protocol,
    allow_pages,
    check_origin,
    stream_headers,
    ticket_routes,
)
from inference_graph.gateway.canaries import canary_routes
from inference_graph.gateway.detect import detect_routes
from inference_graph.gateway.docs import TAGS, docs_page
from inference_graph.gateway.drain_body import DrainBody
from inference_graph.gateway.feedback import feedback_routes
from inference_graph.gateway.log_intake import log_routes
from inference_graph.gateway.parameters import known_parameters, stream_parameters
from inference_graph.gateway.policy_swap import policy_routes
from inference_graph.gateway.problems import add_handlers, problem, problem_body, problems
from inference_graph.gateway.request_count import RequestCount
from inference_graph.gateway.rungs import AsyncRung
from inference_graph.gateway.runtime import Runtime
from inference_graph.gateway.session_stats import SessionStats
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.gateway.stream import StreamSession
from inference_graph.prediction_log.events import events_routes
from serving_kit.http_front import HttpFront

__all__ = ["build_app"]

RATE_HEADER = b"gearshift-frames-per-second"
"""Of an accepted stream: how many frames a second it can have answered, as things are now."""

_ABOUT = """The right-sized detector for every frame. Frames come in one by one (`/v1/detect`) or as
a stream (WebSocket `/v1/stream`); a policy picks the detector, and a detector that fails is
replaced by its neighbour within the frame's deadline."""


class Health(BaseModel):
    """The process runs."""

    status: str


class Readiness(BaseModel):
    """Frames are answered."""

    status: Literal["ready"]
    rungs: dict[str, Literal["healthy", "unhealthy", "recovering"]] = Field(
        description="Frames go to healthy rungs; an unhealthy one is probed until it answers."
    )


def build_app(
    settings: GatewaySettings,
    make_rungs: Callable[[], Mapping[str, AsyncRung]] | None = None,
    more_routes: Sequence[Callable[[Runtime], APIRouter]] = (),
) -> FastAPI:
    """The application; its parts start and stop with it.

    Args:
        settings: how to run.
        make_rungs: makes the rungs where the event loop runs; those of the settings without it.
        more_routes: routes of rooms that the gateway does not know, made with its runtime.

    Raises:
        ConfigurationError: an unusable tokens file, or what `more_routes` refuse.
        ModelError: an unusable policy.
    """
    runtime = Runtime(settings, make_rungs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await runtime.start()
            yield
        finally:
            await runtime.close()

    app = FastAPI(
        title="Gearshift gateway",
        description=_ABOUT,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=TAGS,
        dependencies=[Depends(known_parameters)],
    )
    app.state.runtime = runtime
    app.add_middleware(HttpFront, refusal_body=problem_body, own_requests=False)
    app.add_middleware(RequestCount, metrics=runtime.metrics)
    app.add_middleware(DrainBody)
    allow_pages(app, settings.allowed_origins)
    tickets = Tickets(settings.event_key)
    add_handlers(app)
    app.include_router(detect_routes(runtime))
    app.include_router(ticket_routes(runtime, tickets))
    app.include_router(feedback_routes(runtime))
    for routes in more_routes:
        app.include_router(routes(runtime))
    app.include_router(policy_routes(runtime))
    app.include_router(log_routes(runtime))
    app.include_router(canary_routes(runtime))
    app.include_router(
        events_routes(runtime.events, runtime.guard(Role.EVENTS)),
        responses=problems(400, 401, 403, 413, 503),
    )
    _add_stream(app, runtime, tickets)
    _add_watching(app, runtime)
    return app


def _add_watching(app: FastAPI, runtime: Runtime) -> None:
    allowed = runtime.guard(Role.WATCH)

    @app.get("/healthz", tags=["health"], summary="Whether the process runs")
    async def healthz() -> Health:
        return Health(status="ok")

    @app.get(
        "/readyz",
        tags=["health"],
        summary="Whether frames are answered, and by which rungs",
        response_model=Readiness,
        responses=problems(503),
    )
    async def readyz() -> Response:
        ready, rungs = runtime.ready()
        if not ready:
            states = "; ".join(f"{name} {state}" for name, state in rungs.items())
            return problem(503, f"no rung answers ({states}); start the detectors")
        reasons = [reason for find in runtime.not_ready if (reason := find())]
        if reasons:
            return problem(503, "; ".join(reasons))
        return JSONResponse({"status": "ready", "rungs": rungs})

    @app.get(
        "/metrics",
        tags=["health"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **problems(401, 403),
        },
    )
    async def metrics(
        client: Client = allowed,
    ) -> Response:
        text, kind = runtime.metrics.expose()
        return Response(text, media_type=kind)

    page = docs_page(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)


def _add_stream(app: FastAPI, runtime: Runtime, tickets: Tickets) -> None:
    settings = runtime.settings

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        try:
            check_origin(socket.headers, settings.allowed_origins)
            given = stream_parameters(socket)
            headers = stream_headers(socket, given, tickets)
            client = await runtime.admit(socket, Role.STREAM, headers)
            track = settings.track if given.track is None else given.track == "on"
            routing = runtime.routing(given.latency_weight, track)
            deadline = runtime.deadline(given.deadline_ms)
            wanted = runtime.wanted(given.confidence, given.classes)
            place = runtime.begin_session(given.session or None, client, deadline)
        except GearshiftError as error:
            await socket.send_denial_response(problem(error.http_status, str(error)))
            return
        stats = SessionStats(place.session, client.name)
        rate = runtime.scheduler.frames_per_second(client.name, settings.max_fps)
        try:
            await socket.accept(accepted_protocol(socket), [(RATE_HEADER, b"%.3g" % rate)])
            await StreamSession(
                receive=socket.receive,
                send=socket.send,
                pipeline=runtime.pipeline,
                scheduler=runtime.scheduler,
                routing=routing,
                stats=stats,
                limiter=runtime.frame_limit,
                metrics=runtime.metrics,
                place=place,
                deadline_ms=deadline,
                idle_seconds=settings.idle_seconds,
                send_seconds=settings.send_seconds,
                max_fps=settings.max_fps,
                wanted=wanted,
                check_access=lambda: runtime.check(socket, Role.STREAM, headers, known=True),
            ).run()
        finally:
            runtime.end_session(place, stats, routing)

    @app.websocket("/{path:path}")
    async def elsewhere(socket: WebSocket, path: str) -> None:
        detail = f"there is no stream at /{path[:100]}; connect to /v1/stream"
        await socket.send_denial_response(problem(404, detail))
