"""A request whose body is one JSON document: its type, its length, its fields."""

from __future__ import annotations

from typing import TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from foundation.errors import InvalidInput, UnsupportedMedia
from inference_graph.gateway.limits import read_body
from inference_graph.gateway.problems import sentence

_Model = TypeVar("_Model", bound=BaseModel)


async def json_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body of a request declared as JSON, not parsed yet.

    Args:
        request: what came.
        limit: bytes at most.
        seconds: time at most.

    Raises:
        UnsupportedMedia: another content type is declared.
        PayloadTooLarge: more bytes, declared or received.
        RequestTimeout: it took longer.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia(f"content-type {kind[:60]!r} is not application/json")
    return await read_body(request.stream(), request.headers, limit, seconds)


def read_model(body: bytes, model: type[_Model]) -> _Model:
    """A document's fields.

    Raises:
        InvalidInput: no JSON, or a field that is missing, wrong or unknown.
    """
    try:
        return model.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is no JSON: {error}") from error
    except ValidationError as error:
        raise InvalidInput(sentence(error.errors())) from error
