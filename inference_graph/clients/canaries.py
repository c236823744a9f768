"""Telling a gateway about new revisions and their share of its traffic."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlunsplit

from foundation.addresses import split_address
from foundation.errors import GearshiftError, Unavailable
from inference_graph.clients.api import call_gateway
from inference_graph.clients.policy import policy_headers

_SPECIAL: Mapping[int, type[GearshiftError]] = {429: Unavailable, 507: Unavailable}
"""A rollout tries these again."""
_POLICY = "policy"


class CanaryClient:
    """The canaries of one gateway."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Nothing is asked yet.

        Args:
            url: of the gateway.
            token: access token of the role operate; none where the gateway is open.
        """
        self._url = f"{url.rstrip('/')}/v1/canaries"
        self._token = token

    def revisions(self) -> dict[str, dict[str, Any]]:
        """By model: ``stable``, ``revision`` of the canary (empty without one) and ``weight``.

        Raises:
            Unavailable: no gateway answers at the URL; so in all methods.
            AccessError: the token is missing, wrong, or may not operate; likewise.
        """
        return {one["model"]: one for one in self._ask("GET", "")["models"]}

    def add(self, model: str, target: str) -> dict[str, Any]:
        """Take a new revision of a rung; see ``PUT /v1/canaries/{model}``.

        Raises:
            InvalidInput: it cannot take the stable one's place.
        """
        return self._ask("PUT", f"/{model}", json={"target": target})

    def add_policy(self, path: Path, sha256: str) -> dict[str, Any]:
        """Take a new policy.

        Raises:
            InvalidInput: it is in use, or another one is being rolled out.
            ModelError: it is no policy for the gateway.
        """
        return self._ask(
            "PUT",
            "/policy",
            params={"sha256": sha256} if sha256 else {},
            content=path.read_bytes(),
            headers=policy_headers(path),
        )

    def shift(
        self, model: str, weight: int, looks: tuple[float, float], salt: str, segment_frames: int
    ) -> None:
        """Give a canary a share; see ``POST /v1/canaries/{model}/weight``."""
        body = {
            "weight": weight,
            "canary_looks": looks[0],
            "stable_looks": looks[1],
            "salt": salt,
            "segment_frames": segment_frames,
        }
        self._ask("POST", f"/{model}/weight", json=body)

    def promote(self, model: str, revision: str) -> None:
        """Put a canary in the stable one's place; returns when that one has answered."""
        self._ask("POST", f"/{model}/promote", params={"revision": revision})

    def remove(self, model: str) -> None:
        """Take a canary away; returns when it has answered."""
        self._ask("DELETE", f"/{model}")

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        return call_gateway(method, f"{self._url}{path}", self._token, _SPECIAL, **request)


class CanaryClients:
    """The canaries of all gateways behind one name.

    Who they are is asked anew each time: one that was started meanwhile knows of no canary, which
    :meth:`revisions` shows, and is given it again.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        """Nothing is asked yet; see :class:`CanaryClient`."""
        self._url, self._token = url, token

    def revisions(self) -> list[dict[str, dict[str, Any]]]:
        """Of each gateway; see :meth:`CanaryClient.revisions`."""
        return [one.revisions() for one in self._all()]

    def add(self, model: str, target: str) -> dict[str, Any]:
        """Have all take a new revision; returns the first one's answer."""
        return [one.add(model, target) for one in self._all()][0]

    def add_policy(self, path: Path, sha256: str) -> dict[str, Any] | None:
        """Have all that ask a policy take a new one; returns an answer, None where none asks one.

        One that has it in use already, for it was started after a promotion, keeps it.
        """
        answers = [
            one.add_policy(path, sha256)
            for one, used in self._asking(_POLICY)
            if not sha256.startswith(used["stable"])
        ]
        return answers[0] if answers else None

    def use_policy(self, path: Path, sha256: str) -> None:
        """Have all that ask a policy decide by this one."""
        self.add_policy(path, sha256)
        for one, used in self._asking(_POLICY):
            if not sha256.startswith(used["stable"]):
                one.promote(_POLICY, sha256[:12])

    def shift(
        self, model: str, weight: int, looks: tuple[float, float], salt: str, segment_frames: int
    ) -> None:
        """Give a canary the same share at all that have it."""
        for one, used in self._asking(model):
            if used["revision"]:
                one.shift(model, weight, looks, salt, segment_frames)

    def remove(self, model: str) -> None:
        """Take a canary away from all."""
        for one in self._all():
            one.remove(model)

    def _asking(self, model: str) -> list[tuple[CanaryClient, dict[str, Any]]]:
        """Those that have a model at all, with its revisions."""
        found = [(one, one.revisions()) for one in self._all()]
        return [(one, used[model]) for one, used in found if model in used]

    def _all(self) -> list[CanaryClient]:
        return [CanaryClient(url, self._token) for url in addresses_of(self._url)]


def addresses_of(url: str) -> list[str]:
    """The URLs of all replicas behind one; the URL itself where it is not plain http.

    Raises:
        Unavailable: the name resolves to nothing.
    """
    parts = split_address(url)
    if parts.scheme != "http" or not parts.hostname:
        return [url]
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"{parts.hostname} is no name that resolves; check {url}") from error
    # A replica may have an address of each family, and is asked once.
    family = min(one[0] for one in found)
    hosts = sorted({str(one[4][0]) for one in found if one[0] == family})
    port = f":{parts.port}" if parts.port else ""
    shown = [f"[{host}]" if ":" in host else host for host in hosts]
    return [urlunsplit(parts._replace(netloc=f"{host}{port}")) for host in shown]
