"""The seal: contract and resolved configuration as one canonical text, hashed before the run.

Canonical is RFC 8785 (JSON Canonicalization Scheme): keys in one order, no spaces, and numbers as
ECMAScript writes them, so that 5 and 5.0 are the same text; KFP turns the one into the other. The
seal's hash is the SHA-256 of that text. It stands in three places: the tags and an artifact of the
attempt's MLflow run, and the ledger's journal, where each line's own hash covers the line before
it. Who changes one of them changes it against the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import rfc8785

from components.experiments.document import Contract
from foundation.errors import ConfigurationError, GearshiftError, InvalidInput, SealBroken
from foundation.nearest import unknown

FORMAT = 1


@dataclass(frozen=True)
class Seal:
    """A sealed launch.

    Attributes:
        content: what was sealed: format, experiment, attempt, contract, configuration by stage,
            overrides by path, source, versions, plan, sealed_at, and the parent's launch with the
            figures that the contract compares with.
        sha256: of its canonical text, 64 hexadecimal digits.
    """

    content: Mapping[str, Any]
    sha256: str

    @property
    def contract(self) -> Contract:
        """What was promised."""
        return Contract(**self.content["contract"])

    @property
    def parent_figures(self) -> Mapping[str, float]:
        """Figures of the parent's launch that the contract names; empty where it names none."""
        figures: Mapping[str, float] = self.content.get("parent", {}).get("figures", {})
        return figures

    @property
    def attempt(self) -> str:
        """The attempt's name: ``baseline.3`` is the third of baseline."""
        return str(self.content["attempt"])


def canonical(content: Any) -> bytes:
    """The canonical text.

    Raises:
        InvalidInput: it holds what JSON does not know, or a whole number above 2**53.
    """
    try:
        return bytes(rfc8785.dumps(content))
    except rfc8785.CanonicalizationError as error:
        raise InvalidInput(f"this cannot be sealed: {error}") from error


def digest(content: Any) -> str:
    """SHA-256 of the canonical text, 64 hexadecimal digits; raises as ``canonical``."""
    return hashlib.sha256(canonical(content)).hexdigest()


def seal(
    experiment: str,
    attempt: str,
    contract: Contract,
    configuration: Mapping[str, Any],
    overrides: Mapping[str, Any],
    source: str,
    versions: Mapping[str, str],
    sealed_at: str,
    plan: Mapping[str, Any],
    parent: Mapping[str, Any] | None = None,
) -> Seal:
    """Seal a launch.

    Args:
        experiment: its name.
        attempt: name of this launch of it.
        contract: what is promised.
        configuration: every option by stage.
        overrides: what differs from the experiment's own configuration, by path; the place of the
            data, for example.
        source: what the pipeline reads, as its parameter names it.
        versions: of code, data and ladder.
        sealed_at: ISO 8601, UTC.
        plan: of a sweep, what its trials vary; empty for a single run.
        parent: ``attempt`` and ``figures`` of the parent's launch, where the contract names them.
    """
    content = {
        "format": FORMAT,
        "experiment": experiment,
        "attempt": attempt,
        "contract": asdict(contract),
        "configuration": dict(configuration),
        "overrides": dict(overrides),
        "source": source,
        "versions": dict(versions),
        "sealed_at": sealed_at,
        "plan": dict(plan),
        "parent": dict(parent or {}),
    }
    return Seal(content, digest(content))


def opened(content: Any, sha256: str) -> Seal:
    """A seal that came from elsewhere, verified.

    Raises:
        SealBroken: the content is not what was hashed, or no seal at all.
    """
    try:
        found = digest(content)
        Contract(**content["contract"])
        known = content["format"] == FORMAT
    except (GearshiftError, KeyError, TypeError) as error:
        raise SealBroken(f"the seal cannot be read: {error}") from error
    if found != sha256:
        raise SealBroken(
            f"the seal of {content.get('attempt', '?')} is broken: it holds {found[:12]}, sealed "
            f"was {sha256[:12]}; the contract or the configuration was changed afterwards"
        )
    if not known:
        raise SealBroken(f"the seal has format {content['format']}; this program knows {FORMAT}")
    return Seal(content, sha256)


def admit(
    parameter: Mapping[str, Any],
    stages: Mapping[str, Mapping[str, Any]],
    source: str,
    versions: Mapping[str, str],
) -> Seal:
    """Let a run of the pipeline begin: only under the seal of exactly what it was given.

    Args:
        parameter: the pipeline's parameter ``contract``: ``content`` and ``sha256``.
        stages: the options that the stages will get.
        source: what the pipeline will read.
        versions: of code, data and ladder.

    Raises:
        ConfigurationError: there is no contract.
        SealBroken: the seal is broken, or of another configuration; names what differs.
    """
    if not parameter:
        raise ConfigurationError(
            "this run has no sealed contract; `gearshift experiment seal` prints one"
        )
    for key in parameter:
        if key not in ("content", "sha256", "run_id", "tracking_uri"):
            raise ConfigurationError(f"contract: {unknown(key, ('content', 'sha256'))}")
    found = opened(parameter.get("content"), str(parameter.get("sha256")))
    sealed = found.content["configuration"]
    for stage, options in stages.items():
        promised = sealed.get(stage, {})
        for name in dict.fromkeys((*promised, *options)):
            if canonical(promised.get(name)) != canonical(options.get(name)):
                raise SealBroken(
                    f"{stage}.{name} is {options.get(name)!r}, sealed was {promised.get(name)!r}; "
                    "seal what shall run, then run it"
                )
    if source != found.content["source"]:
        raise SealBroken(f"the source is {source!r}, sealed was {found.content['source']!r}")
    for name, version in versions.items():
        if version != found.content["versions"].get(name):
            raise SealBroken(
                f"the {name} is of version {version!r}, sealed was "
                f"{found.content['versions'].get(name)!r}; seal what shall run, then run it"
            )
    return found
