"""GET and POST /v1/policy: which policy decides, and another one in its place, without a restart.

The file itself is sent, never a path: what a gateway loads is what the caller holds in hand.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, Field

from foundation.errors import InvalidInput, NotFound, UnsupportedMedia
from foundation.signing import SIGNATURE_HEADER, SIGNATURE_LIMIT
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.limits import read_body
from inference_graph.gateway.problems import problems
from inference_graph.gateway.runtime import Runtime
from inference_graph.router import Policy

POLICY_LIMIT = 16 * 1024 * 1024
"""Bytes of a policy at most; the project's own have a third of a megabyte."""

_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}

Digest = Annotated[
    str | None,
    Query(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 that the file must have."),
]
Revision = Annotated[
    str | None,
    Query(
        pattern="^[0-9a-f]{12}$",
        description="Revision that must be in use, so that no other release is replaced.",
    ),
]


Signature = Annotated[
    str | None,
    Header(
        alias=SIGNATURE_HEADER,
        max_length=2 * SIGNATURE_LIMIT,
        description="Content of the file's signature (`gearshift sign`) in Base64; needed where "
        "the gateway has a trust file.",
    ),
]


class PolicyDescription(BaseModel):
    """A policy."""

    revision: str = Field(description="The first 12 digits of the file's SHA-256.")
    sha256: str
    latency_weight: float = Field(description="The operating point it was released for.")
    card: Mapping[str, Any] = Field(description="Where it comes from.")


class PolicyTaken(PolicyDescription):
    """The policy decides from the next frame of every stream on."""

    replaced: str = Field(description="Revision of the one before.")


def policy_routes(runtime: Runtime) -> APIRouter:
    """The routes, bound to a running gateway."""
    router = APIRouter(tags=["policy"])
    allowed = runtime.guard(Role.OPERATE)

    @router.get(
        "/v1/policy",
        summary="Which policy decides",
        response_model=PolicyDescription,
        responses=problems(401, 403, 404),
    )
    async def policy(client: Client = allowed) -> PolicyDescription:
        """The policy in use now."""
        if runtime.in_use.policy is None:
            raise NotFound(
                f"this gateway uses {runtime.in_use.always} for every frame and asks no policy"
            )
        return PolicyDescription(**_facts(runtime.in_use.policy))

    @router.post(
        "/v1/policy",
        summary="Have another policy decide",
        response_model=PolicyTaken,
        responses=problems(400, 401, 403, 408, 409, 413, 415, 422),
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def swap(
        request: Request,
        client: Client = allowed,
        sha256: Digest = None,
        replaces: Revision = None,
        signature: Signature = None,
    ) -> PolicyTaken:
        """Take a policy, an ONNX file, after the checks it would meet at a start.

        Streams go on: a frame at work is finished by the policy before, the next one of every
        stream is decided by the new one. What is refused changes nothing. A restart begins with
        the gateway's own file again.
        """
        data = await policy_body(request, runtime.settings.body_seconds)
        taken, before = await runtime.in_use.take(
            data, client.name, sha256, replaces, sent_signature(signature)
        )
        return PolicyTaken(**_facts(taken), replaced=before.revision)

    return router


async def policy_body(request: Request, seconds: float) -> bytes:
    """The ONNX file that a request brings.

    Args:
        request: its body is not read yet.
        seconds: it may take to come.

    Raises:
        UnsupportedMedia: it brings something else.
        PayloadTooLarge: more than ``POLICY_LIMIT``.
        InvalidInput: a declared length that is no number.
        RequestTimeout: it took longer.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/octet-stream":
        raise UnsupportedMedia(f"content-type {kind[:60]!r} is not application/octet-stream")
    return await read_body(request.stream(), request.headers, POLICY_LIMIT, seconds)


def sent_signature(text: str | None) -> bytes | None:
    """A signature file's content from its header; None where there is none.

    Raises:
        InvalidInput: it is no Base64.
    """
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInput(
            f"{SIGNATURE_HEADER} is no Base64; send the signature file in it"
        ) from error


def _facts(policy: Policy) -> dict[str, Any]:
    return {
        "revision": policy.revision,
        "sha256": policy.sha256,
        "latency_weight": policy.latency_weight,
        "card": policy.card,
    }
