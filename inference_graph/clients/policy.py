"""Asking a gateway which policy it uses, and sending it another one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import GateRefused, GearshiftError
from foundation.signing import SIGNATURE_HEADER, signature_file
from inference_graph.clients.api import call_gateway
from inference_graph.router import Policy

_SPECIAL: Mapping[int, type[GearshiftError]] = {409: GateRefused}


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
    answer = call_gateway(
        "POST",
        _address(url),
        token,
        _SPECIAL,
        trust_env=True,
        params=options,
        content=policy.read_bytes(),
        headers=policy_headers(policy),
    )
    return Swapped(url, answer["revision"], answer["replaced"], answer["latency_weight"])


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
    return call_gateway("GET", _address(url), token, _SPECIAL, trust_env=True)


def _address(url: str) -> str:
    return f"{url.rstrip('/')}/v1/policy"
