"""Query parameters: those of a frame, those of a stream, and none that a route does not know."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import HTTPConnection

from foundation.errors import InvalidInput
from inference_graph.gateway.problems import sentence

_CHECKED = "/v1/"
"""Health checks and scrapers add parameters of their own; the interface below this does not."""


class FrameParameters(BaseModel):
    """What a client may choose for a frame, or for all frames of a stream."""

    latency_weight: float | None = Field(
        None,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="Operating point: a larger weight saves more time. Default: the policy's own.",
    )
    deadline_ms: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Milliseconds from a frame's arrival to its answer. Default: the gateway's.",
    )
    confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Detections below this score are left out. Default: the gateway's, 0.25.",
    )
    classes: str | None = Field(
        None,
        max_length=4000,
        description="Names of the classes to return, separated by commas. Default: all.",
    )


class StreamParameters(FrameParameters):
    """Query parameters of ``/v1/stream``."""

    session: str | None = Field(
        None, description="Name of the stream in the log. Default: the gateway makes one."
    )
    track: Literal["on", "off"] | None = Field(
        None,
        description="Whether answers are fused over the frames and hold track ids. Default: the "
        "gateway's, on.",
    )
    ticket: str | None = Field(
        None, max_length=16_384, description="A ticket of `POST /v1/tickets`, in place of a token."
    )


def stream_parameters(socket: HTTPConnection) -> StreamParameters:
    """The parameters of a stream.

    Raises:
        InvalidInput: an unknown one, one given twice, or a value out of its range.
    """
    given = socket.query_params.multi_items()
    refuse_unknown((name for name, _ in given), StreamParameters.model_fields)
    values: Mapping[str, Any] = dict(given)
    try:
        return StreamParameters.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(sentence(error.errors())) from error


async def known_parameters(request: HTTPConnection) -> None:
    """Dependency of every HTTP route: a misspelt parameter is refused, not ignored.

    Raises:
        InvalidInput: names the parameter and those that the route takes.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    if route.path_format.startswith(_CHECKED):
        operations = request.app.openapi()["paths"][route.path_format]
        listed = operations[request.scope["method"].lower()].get("parameters", ())
        known = [one["name"] for one in listed if one["in"] == "query"]
        refuse_unknown((name for name, _ in request.query_params.multi_items()), known)


def refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Refuse parameters that are not known, or given twice.

    Raises:
        InvalidInput: names the first one.
    """
    seen: set[str] = set()
    for name in given:
        if name not in known:
            choices = f"choose of {', '.join(sorted(known))}" if known else "none is taken here"
            raise InvalidInput(f"unknown query parameter {name[:60]!r}; {choices}")
        if name in seen:
            raise InvalidInput(f"the query parameter {name} is given twice; give it once")
        seen.add(name)
