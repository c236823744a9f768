"""Which issuer's tokens count, and how they are read."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field

from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.path_roles import InputText
from inference_graph.gateway.jwks import KEY_ALGORITHMS, check_url

_ALGORITHMS = tuple(dict.fromkeys(name for names in KEY_ALGORITHMS.values() for name in names))


@configuration
class OidcConfig:
    """Which tokens of which issuer count.

    Attributes:
        oidc_issuer: URL of the issuer, as it stands in its tokens; none count without it.
        oidc_audience: what the tokens are for: this gateway's name at the issuer.
        oidc_jwks: the issuer's keys: a file, or a URL; found by the issuer's discovery without it.
        oidc_algorithms: signatures that count, separated by commas.
        oidc_roles_claim: claim with the roles, a list or words; dots lead into claims inside.
        oidc_role_prefix: before the gateway's roles (stream, operate, ...) in that claim; others
            are not looked at.
        oidc_name_claim: claim with the client's name, for limits and the log.
        oidc_leeway_seconds: how far the issuer's clock may be from this one's.
        oidc_refresh_seconds: the keys are fetched again after so long, and before that when a token
            names one that is not known.
    """

    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks: InputText | None = None
    oidc_algorithms: str = "RS256,ES256"
    oidc_roles_claim: str = "roles"
    oidc_role_prefix: str = ""
    oidc_name_claim: str = "sub"
    oidc_leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30.0
    oidc_refresh_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0

    def __post_init__(self) -> None:
        """Refuse what cannot be checked.

        Raises:
            ConfigurationError: no audience for an issuer, an address that is neither https nor of
                this machine, an algorithm that is not on the list, or a value out of its range.
        """
        if self.oidc_issuer is None:
            if self.oidc_audience or self.oidc_jwks:
                raise ConfigurationError("oidc_issuer is missing; whose tokens shall count?")
            return
        if not self.oidc_audience:
            raise ConfigurationError(
                "oidc_audience is missing; without it tokens for other services would count here"
            )
        check_url(self.oidc_issuer, "oidc_issuer")
        if self.oidc_jwks and "://" in self.oidc_jwks:
            check_url(self.oidc_jwks, "oidc_jwks")
        unknown = [name for name in self.algorithms if name not in _ALGORITHMS]
        if unknown or not self.algorithms:
            raise ConfigurationError(
                f"oidc_algorithms names {', '.join(unknown) or 'nothing'}; choose of "
                f"{', '.join(_ALGORITHMS)}"
            )

    @property
    def issuer(self) -> OidcConfig | None:
        """These options alone, of a configuration that may hold more; None without an issuer."""
        if self.oidc_issuer is None:
            return None
        return OidcConfig(**{one.name: getattr(self, one.name) for one in fields(OidcConfig)})

    @property
    def changed(self) -> dict[str, Any]:
        """By name, the options that are not what they are without being given."""
        given = {one.name: (getattr(self, one.name), one.default) for one in fields(OidcConfig)}
        return {name: value for name, (value, default) in given.items() if value != default}

    @property
    def algorithms(self) -> tuple[str, ...]:
        """``oidc_algorithms`` one by one."""
        return tuple(filter(None, (name.strip() for name in self.oidc_algorithms.split(","))))
