"""/v1/canaries: new revisions beside those in use, and their share of the traffic.

The controller of a rollout calls it; what it does by hand, gearshift rollout does with a check.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from foundation.errors import Conflict, InvalidInput
from inference_graph.contract import LADDER
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.json_request import json_body, read_model
from inference_graph.gateway.policy_canary import PolicyCanary
from inference_graph.gateway.policy_swap import Digest, Signature, policy_body, sent_signature
from inference_graph.gateway.problems import problems
from inference_graph.gateway.rungs import LOCAL_SUFFIXES
from inference_graph.gateway.runtime import Runtime

_BODY_LIMIT = 4096
_POLICY = "policy"

Model = Literal["nano", "small", "large", "policy"]
Share = Annotated[float, Field(ge=0, le=1)]


class CanaryBody(BaseModel):
    """Where the new revision of a rung is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    target: str = Field(
        min_length=1,
        max_length=300,
        description="HOST:PORT of its gRPC service, or HOST:PORT/MODEL where the model is called "
        "otherwise; an ONNX file where the gateway runs the rung itself.",
    )


class WeightBody(BaseModel):
    """How much traffic it gets."""

    model_config = ConfigDict(extra="forbid", strict=True)

    weight: int = Field(ge=0, le=100, description="Of its model's frames, whole per cent.")
    canary_looks: Share | None = Field(
        None, description="Share of its frames for which the reference is run; as usual without it."
    )
    stable_looks: Share | None = Field(None, description="The same of the other frames.")
    salt: str = Field("", max_length=100, description="For a policy: makes its draws its own.")
    segment_frames: int = Field(
        100, ge=1, le=10**6, description="For a policy: frames of a stream with one draw."
    )

    @property
    def looks(self) -> tuple[float, float] | None:
        """Both shares, if both were given."""
        if self.canary_looks is None or self.stable_looks is None:
            return None
        return self.canary_looks, self.stable_looks


class CanaryFacts(BaseModel):
    """A new revision and the one in use."""

    model: str = Field(description="A rung, or policy.")
    stable: str = Field(description="Revision in use: first 12 digits of the file's SHA-256.")
    revision: str = Field(description="The canary's; empty where there is none.")
    weight: int = Field(description="Its share, per cent.")


class CanaryList(BaseModel):
    """Every model with its revisions."""

    models: list[CanaryFacts]


def canary_routes(runtime: Runtime) -> APIRouter:
    """The routes, bound to a running gateway."""
    router = APIRouter(tags=["canaries"])
    allowed = runtime.guard(Role.OPERATE)
    refusals = problems(400, 401, 403, 408, 409, 413, 415, 422, 503)

    @router.get(
        "/v1/canaries",
        summary="Which revisions answer, with what shares",
        response_model=CanaryList,
        responses=problems(401, 403),
    )
    async def listed(client: Client = allowed) -> CanaryList:
        """Every rung and the policy, with a canary or without."""
        names = [name for name in LADDER if name in runtime.backends]
        if runtime.in_use.policy is not None:
            names.append(_POLICY)
        return CanaryList(models=[_facts(runtime, name) for name in names])

    @router.put(
        "/v1/canaries/policy",
        summary="Take a new policy beside the one in use",
        response_model=CanaryFacts,
        responses=refusals,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                },
            }
        },
    )
    async def add_policy(
        request: Request,
        client: Client = allowed,
        sha256: Digest = None,
        signature: Signature = None,
    ) -> CanaryFacts:
        """An ONNX file; it decides for no frame until it has a weight."""
        data = await policy_body(request, runtime.settings.body_seconds)
        await runtime.in_use.add(data, sha256, sent_signature(signature))
        return _facts(runtime, _POLICY)

    @router.put(
        "/v1/canaries/{model}",
        summary="Take a new revision of a rung beside the one in use",
        response_model=CanaryFacts,
        responses=refusals,
        openapi_extra=_body(CanaryBody),
    )
    async def add(
        model: Literal["nano", "small", "large"], request: Request, client: Client = allowed
    ) -> CanaryFacts:
        """It has to answer; it gets no frame until it has a weight."""
        body = await json_body(request, _BODY_LIMIT, runtime.settings.body_seconds)
        target = read_model(body, CanaryBody).target
        own = runtime.settings.rungs.get(model, "")
        if target.endswith(LOCAL_SUFFIXES) and not own.endswith(LOCAL_SUFFIXES):
            # What a gateway reads from its disk is for whoever starts it to choose.
            raise InvalidInput(f"this gateway asks a service for {model}; give its HOST:PORT")
        await runtime.canaries.add(model, target)
        return _facts(runtime, model)

    @router.post(
        "/v1/canaries/{model}/weight",
        summary="Give a canary a share of the frames",
        response_model=CanaryFacts,
        responses=refusals,
        openapi_extra=_body(WeightBody),
    )
    async def shift(model: Model, request: Request, client: Client = allowed) -> CanaryFacts:
        """From the next frame on; frames at work are answered by who has them."""
        body = await json_body(request, _BODY_LIMIT, runtime.settings.body_seconds)
        given = read_model(body, WeightBody)
        if model != _POLICY:
            runtime.canaries.shift(model, given.weight, given.looks)
        elif runtime.in_use.canary is None:
            raise Conflict("there is no new policy; add one first")
        else:
            runtime.in_use.canary = PolicyCanary(
                runtime.in_use.canary.policy,
                given.weight,
                given.salt,
                given.segment_frames,
                given.looks,
            )
        return _facts(runtime, model)

    @router.post(
        "/v1/canaries/{model}/promote",
        summary="Put a canary in the stable revision's place",
        response_model=CanaryFacts,
        responses=refusals,
    )
    async def promote(
        model: Model, client: Client = allowed, revision: Annotated[str, Query()] = ""
    ) -> CanaryFacts:
        """Answers when the revision before has answered all its frames.

        Named with its revision, one that is in use already is no error.
        """
        if not revision or _facts(runtime, model).stable != revision:
            if model == _POLICY:
                runtime.in_use.promote()
            else:
                await runtime.canaries.promote(model)
        return _facts(runtime, model)

    @router.delete(
        "/v1/canaries/{model}",
        summary="Take a canary away",
        status_code=204,
        response_class=Response,
        responses=problems(401, 403, 422),
    )
    async def remove(model: Model, client: Client = allowed) -> Response:
        """Its frames go back to the stable revision at once; answers when it has answered all."""
        if model == _POLICY:
            runtime.in_use.canary = None
        else:
            await runtime.canaries.remove(model)
        return Response(status_code=204)

    return router


def _body(model: type[BaseModel]) -> dict[str, object]:
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _facts(runtime: Runtime, model: str) -> CanaryFacts:
    if model == _POLICY:
        policy, canary = runtime.in_use.policy, runtime.in_use.canary
        return CanaryFacts(
            model=model,
            stable="" if policy is None else policy.revision,
            revision="" if canary is None else canary.policy.revision,
            weight=0 if canary is None else canary.weight,
        )
    facts = runtime.backends[model].facts if model in runtime.backends else None
    other = runtime.canaries.all.get(model)
    return CanaryFacts(
        model=model,
        stable="" if facts is None else facts.revision,
        revision="" if other is None else other.revision,
        weight=0 if other is None else other.weight,
    )
