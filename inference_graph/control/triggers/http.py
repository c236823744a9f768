"""POST /v1/triggers and its kin: people and alerts ask for a retraining, rules decide."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from foundation.errors import InvalidInput, NotFound, StorageError, Unavailable
from inference_graph.control.notifications.alerts import ReceivedAlert, read_alerts
from inference_graph.control.triggers.audit import RuleDecision
from inference_graph.control.triggers.engine import Triggers
from inference_graph.control.triggers.evidence import Evidence
from inference_graph.control.triggers.read_config import read_triggers
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.json_request import json_body, read_model
from inference_graph.gateway.limits import RateLimiter
from inference_graph.gateway.problems import problems
from inference_graph.gateway.runtime import Runtime

_BODY_LIMIT = 16 * 1024
_ALERTS_LIMIT = 1024 * 1024
REQUEST = "request"
_PER_SECOND = 1.0
"""Prometheus sends its alerts once a minute; each may be a line of the audit."""


class TriggerBody(BaseModel):
    """A request for a retraining."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[\x21-\x7e]+$",
        description="The same request sent again has the same one, and launches once.",
    )
    reason: str = Field(min_length=1, max_length=500, description="Why; stands in the audit.")


class TriggerDecision(BaseModel):
    """Whether something was launched, and why or why not."""

    rule: str = Field(description="The rule, or what else asked.")
    fired: bool
    reason: str
    decision: str = Field(description="Its id in the audit.")
    launch: str = Field(description="Id of what was launched; empty if nothing was.")


class TriggerDecisions(BaseModel):
    """A decision for each alert that a rule waits for."""

    fired: bool = Field(description="Whether one of them launched something.")
    reason: str
    decisions: list[TriggerDecision]


_REQUEST_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": TriggerBody.model_json_schema()}},
}
_ALERT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["labels", "startsAt"],
    "properties": {
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "startsAt": {"type": "string", "format": "date-time"},
        "endsAt": {"type": "string", "format": "date-time"},
        "status": {"enum": ["firing", "resolved"]},
        "fingerprint": {"type": "string"},
    },
}
_ALERTS_LIST: dict[str, Any] = {"type": "array", "items": _ALERT_SCHEMA}
_WEBHOOK: dict[str, Any] = {
    "type": "object",
    "required": ["alerts"],
    "properties": {"version": {"const": "4"}, "alerts": _ALERTS_LIST},
}


def triggers_routes(runtime: Runtime) -> APIRouter:
    """The routes, bound to a gateway.

    Raises:
        ConfigurationError: an unusable triggers file.
    """
    settings = runtime.settings
    engine = None
    if settings.triggers is not None:
        engine = Triggers(read_triggers(settings.triggers), runtime.audit)
    limit = RateLimiter(_PER_SECOND, burst=60)
    router = APIRouter(tags=["triggers"])
    allowed = runtime.guard(Role.OPERATE)
    refusals = problems(400, 401, 403, 404, 408, 413, 415, 429, 503)

    @router.post(
        "/v1/triggers",
        summary="Ask for a retraining",
        response_model=TriggerDecision,
        responses={202: {"model": TriggerDecision, "description": "It was launched."}, **refusals},
        openapi_extra={"requestBody": _REQUEST_SCHEMA},
    )
    async def ask(request: Request, client: Client = allowed) -> Response:
        """Launch what the triggers file names, if cool-down, daily cap and a running one allow.

        202: it was launched; 200: it was not, and `reason` states why.
        """
        triggers = _known(engine)
        limit.take(client.name, "requests for a retraining")
        body = await json_body(request, _BODY_LIMIT, settings.body_seconds)
        given = read_model(body, TriggerBody)
        evidence = Evidence(
            REQUEST,
            REQUEST,
            True,
            f"{REQUEST} {client.name} {given.request_id}",
            f"{client.name} asked for it: {' '.join(given.reason.split())}",
        )
        decision = _shown_to_client(await _decide(triggers, evidence, client))
        return JSONResponse(decision.model_dump(), 202 if decision.fired else 200)

    async def alerts(request: Request, client: Client = allowed) -> Response:
        """Alerts that a rule of the triggers file waits for launch what it names.

        202: something was launched; 200: nothing was, and `reason` states why. The same alert sent
        again launches nothing.
        """
        triggers = _known(engine)
        limit.take(client.name, "notifications")
        found = read_alerts(await json_body(request, _ALERTS_LIMIT, settings.body_seconds))
        decisions = []
        for alert in found:
            evidence = _evidence(triggers, alert)
            if evidence is not None:
                decisions.append(_shown_to_client(await _decide(triggers, evidence, client)))
        fired = any(one.fired for one in decisions)
        reason = "; ".join(one.reason for one in decisions) or (
            f"no rule waits for {', '.join(sorted({one.name for one in found})[:5])}"
            if found
            else "no alert came"
        )
        detail = TriggerDecisions(fired=fired, reason=reason[:2000], decisions=decisions)
        return JSONResponse(detail.model_dump(), 202 if fired else 200)

    # Prometheus posts to the second one where no Alertmanager stands between.
    for path, what, schema in (
        ("/v1/triggers/alertmanager", "Take Alertmanager's webhook (version 4)", _WEBHOOK),
        ("/v1/triggers/api/v2/alerts", "Take alerts from Prometheus itself", _ALERTS_LIST),
    ):
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        router.add_api_route(
            path,
            alerts,
            methods=["POST"],
            summary=what,
            operation_id=path.strip("/").replace("/", "-"),
            response_model=TriggerDecisions,
            responses={
                202: {"model": TriggerDecisions, "description": "Something was launched."},
                **refusals,
            },
            openapi_extra={"requestBody": body},
        )
    return router


def _known(engine: Triggers | None) -> Triggers:
    if engine is None:
        raise NotFound("this gateway has no triggers file; start it with --triggers FILE")
    return engine


def _evidence(triggers: Triggers, alert: ReceivedAlert) -> Evidence | None:
    rule = triggers.rule_for_alert(alert.name)
    if rule is None:
        return None
    # Alertmanager's fingerprint is of the labels as well; Prometheus sends none.
    labels = json.dumps(sorted(alert.labels.items()))
    mark = alert.fingerprint or hashlib.sha256(labels.encode()).hexdigest()[:16]
    key = f"{alert.name} {mark[:64]} {alert.startsAt.isoformat()}"
    since = alert.startsAt.isoformat(timespec="seconds")
    if alert.over(datetime.now(UTC)):
        return Evidence(rule, "alert", False, "", f"the alert {alert.name} is over")
    detail = alert.annotations.get("summary") or alert.annotations.get("description") or "it fires"
    words = f"the alert {alert.name} fires since {since}: {' '.join(detail.split())[:300]}"
    return Evidence(rule, "alert", True, key, words, {"labels": alert.labels})


async def _decide(triggers: Triggers, evidence: Evidence, client: Client) -> RuleDecision:
    try:
        return await asyncio.to_thread(triggers.decide, evidence, client.name)
    except (StorageError, InvalidInput) as error:
        raise Unavailable(f"nothing can be decided now: {error}") from error


def _shown_to_client(decision: RuleDecision) -> TriggerDecision:
    return TriggerDecision(
        rule=decision.rule,
        fired=decision.fired,
        reason=decision.reason,
        decision=decision.decision,
        launch=decision.launch,
    )
