"""Access by an OpenID Connect issuer: signed tokens (JWT) beside those of the tokens file.

A token counts if the issuer's key signed it with an algorithm of the list, it is of this issuer,
for this audience, and not expired (RFC 7519, RFC 9068 section 4). Which algorithms count comes from
the configuration, never from the token (RFC 8725, section 3.1). Its roles are those of one claim.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Mapping
from typing import Any

import jwt

from foundation.errors import AccessError, ConfigurationError
from inference_graph.gateway.access import (
    Access,
    Client,
    OpenAccess,
    Role,
    TokenAccess,
    bearer_token,
    digest_of,
    forbidden,
    is_client_name,
)
from inference_graph.gateway.jwks import Jwks
from inference_graph.gateway.oidc_config import OidcConfig
from inference_graph.gateway.settings import GatewaySettings

_LONGEST = 16_384
_REMEMBERED = 4096
_LOOKS_SIGNED = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class OidcAccess:
    """Those who have a token of the issuer; everybody else is left to another :class:`Access`."""

    def __init__(self, config: OidcConfig, others: Access | None = None) -> None:
        """Look for the issuer's keys.

        Args:
            config: with an issuer.
            others: decides where the token is none of an issuer; without it all others are refused.

        Raises:
            ConfigurationError: a file of keys that cannot be read.
        """
        self._config = config
        self._others = others
        self._jwks = Jwks(str(config.oidc_issuer), config.oidc_jwks, config.oidc_refresh_seconds)
        self._known: dict[str, tuple[Client, float, int]] = {}

    async def prepare(self, headers: Mapping[str, str]) -> None:
        """Fetch the keys that a request's token needs; see :class:`Access`."""
        token = bearer_token(headers.get("authorization", ""))
        if not _LOOKS_SIGNED.fullmatch(token) or len(token) > _LONGEST:
            return
        with contextlib.suppress(jwt.PyJWTError, ValueError):
            head = jwt.get_unverified_header(token)
            if head.get("alg") in self._config.algorithms:
                await self._jwks.ready_for(head.get("kid"))

    def check(self, headers: Mapping[str, str], role: Role) -> Client:
        """Who asks; see :class:`Access`.

        Away from an event loop it waits for keys that have to be fetched; on one it never does.
        """
        token = bearer_token(headers.get("authorization", ""))
        if not _LOOKS_SIGNED.fullmatch(token) or len(token) > _LONGEST:
            if self._others is not None:
                return self._others.check(headers, role)
            if not token:
                raise AccessError("no token given; send the header Authorization: Bearer TOKEN")
            raise AccessError("the token is not known; ask the operator for one")
        client = self._client(token)
        if not client.may(role):
            raise forbidden(client.name, client.roles, role)
        return client

    def _client(self, token: str) -> Client:
        self._jwks.keep_fresh()  # or a key that was withdrawn would count as long as it is used
        digest = hashlib.sha256(token.encode("ascii")).hexdigest()
        known = self._known.get(digest)
        # A stream is checked again with each frame: what was verified by the same keys still is.
        if known is not None and self._jwks.still_counts(known[2]) and time.time() < known[1]:
            return known[0]
        client, expires, generation = self._verified(token)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[digest] = (client, expires, generation)
        return client

    def _verified(self, token: str) -> tuple[Client, float, int]:
        config = self._config
        try:
            head = jwt.get_unverified_header(token)
            algorithm = head.get("alg")
            if algorithm not in config.algorithms:
                raise jwt.InvalidAlgorithmError("its algorithm is not accepted")
            key, generation = self._jwks.key(head.get("kid"), str(algorithm))
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[str(algorithm)],
                audience=config.oidc_audience,
                issuer=config.oidc_issuer,
                leeway=config.oidc_leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
            expires = float(claims["exp"]) + config.oidc_leeway_seconds
        except jwt.ExpiredSignatureError:
            raise AccessError("the token has expired; get a new one of the issuer") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:100]
            raise AccessError(f"the token does not count ({reason}); get another one") from None
        return Client(self._name(claims), self._roles(claims)), expires, generation

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._config.oidc_name_claim)
        if not isinstance(name, str) or not name:
            raise AccessError(
                f"the token does not count (no {self._config.oidc_name_claim}); get another one"
            )
        # Names go into files and figures, and an issuer's subjects may hold anything.
        return name if is_client_name(name) else digest_of(name)[:32]

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        path, prefix = self._config.oidc_roles_claim, self._config.oidc_role_prefix
        value: Any = claims.get(path)
        if value is None:
            value = claims
            for name in path.split("."):
                value = value.get(name) if isinstance(value, Mapping) else None
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, list):
            return frozenset()
        roles = {
            word.removeprefix(prefix)
            for word in words
            if isinstance(word, str) and word.startswith(prefix)
        }
        return frozenset(role for role in Role if role in roles)


def access_of(settings: GatewaySettings) -> Access:
    """Who decides whether a request may go on, as the settings name it.

    Raises:
        ConfigurationError: no access is configured, or a file of tokens or keys cannot be read.
    """
    if settings.open_access:
        return OpenAccess(settings.allowed_origins)
    tokens = None
    if settings.tokens is not None or settings.logger_token is not None:
        tokens = TokenAccess(settings.tokens, settings.logger_token)
    if settings.oidc is not None:
        return OidcAccess(settings.oidc, tokens)
    if tokens is None:
        raise ConfigurationError("who may ask is not settled; give a tokens file or an issuer")
    return tokens
