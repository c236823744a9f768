"""Asking a gateway which policy it uses, and sending it another one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from foundation.errors import (
    AccessError,
    ConfigurationError,
    Forbidden,
    GateRefused,
    GearshiftError,
    InvalidInput,
    ModelError,
    Unavailable,
)
from foundation.signing import SIGNATURE_HEADER, signature_file
from inference_graph.router import Policy

_PATH = "/v1/policy"
_TIMEOUT = 90.0
"""Seconds; the gateway may take one minute to try a policy."""
_ERRORS: Mapping[int, type[GearshiftError]] = {
    401: AccessError,
    403: Forbidden,
    409: GateRefused,
    422: ModelError,
}


@dataclass(frozen=True)
class Swapped:
    """A policy that took over.

    Attributes:
        gateway: its address.
        revision: of the policy, first 12 digits of the file's SHA-256.
        replaced: revision of the one before.
        latency_weight: the operating point the new one was released for.
    """

    gateway: str
    revision: str
    replaced: str
    latency_weight: float


def swap_policy(url: str, policy: Path, token: str | None = None, replaces: str = "") -> Swapped:
    """Have a running gateway decide by another policy.

    Args:
        url: of the gateway.
        policy: ONNX file; checked here before it is sent, with its signature if one lies beside.
        token: access token of the role operate; none where the gateway is open.
        replaces: revision that must be in use there; any without it.

    Returns:
        What took over.

    Raises:
        ModelError: the file is no policy for this observation and ladder, or the gateway trusts
            no key that signed it.
        GateRefused: another policy is in use than ``replaces``, or the gateway has another schema.
        AccessError: the token is missing, wrong, or may not operate.
        Unavailable: no gateway answers at the URL.
    """
    sent = Policy(policy)
    options = {"sha256": sent.sha256} | ({"replaces": replaces} if replaces else {})
    told = _ask(
        url, token, "POST", params=options, content=policy.read_bytes(),
        headers=policy_headers(policy),
    )  # fmt: skip
    return Swapped(url, told["revision"], told["replaced"], told["latency_weight"])


def policy_headers(policy: Path) -> dict[str, str]:
    """Headers with which a policy is sent: with its signature, if one lies beside."""
    headers = {"content-type": "application/octet-stream"}
    signature = signature_file(policy)
    if signature.is_file():
        headers[SIGNATURE_HEADER] = base64.b64encode(signature.read_bytes()).decode()
    return headers


def policy_in_use(url: str, token: str | None = None) -> Mapping[str, Any]:
    """Revision, digest, operating point and card of the policy that a gateway uses.

    Raises:
        InvalidInput: the gateway asks no policy.
        AccessError: the token is missing, wrong, or may not operate.
        Unavailable: no gateway answers at the URL.
    """
    return _ask(url, token, "GET")


def _ask(url: str, token: str | None, method: str, **request: Any) -> dict[str, Any]:
    headers = request.pop("headers", {})
    if token:
        headers["authorization"] = f"Bearer {token}"
    where = f"{url.rstrip('/')}{_PATH}"
    try:
        answer = httpx.request(method, where, headers=headers, timeout=_TIMEOUT, **request)
        told = answer.json()
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigurationError(f"{url!r} is no gateway; give http://HOST:PORT") from error
    except (httpx.HTTPError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(f"no gateway answers at {where} ({reason}); check that it runs") from None
    if answer.is_error or not isinstance(told, dict):
        detail = told.get("detail") if isinstance(told, dict) else None
        other = Unavailable if answer.is_server_error else InvalidInput
        kind = _ERRORS.get(answer.status_code, other)
        raise kind(f"{where} answers {answer.status_code}: {detail or 'no reason given'}")
    return told
