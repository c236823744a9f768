"""Inheritance: what an experiment's configuration is, and which ancestor each value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.experiments.document import Contract, Experiment
from components.experiments.schema import Schema
from foundation.errors import ConfigurationError, NotFound
from foundation.nearest import unknown

DEFAULTS = "defaults"
"""Where a value comes from that no experiment set."""


@dataclass(frozen=True)
class Value:
    """A value and who set it: an experiment's name, or ``defaults``."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Difference:
    """One value that two configurations do not share."""

    path: str
    first: Any
    second: Any
    first_origin: str
    second_origin: str


Resolved = Mapping[str, Value]
"""Every value by path."""


def chain(name: str, known: Mapping[str, Experiment]) -> tuple[Experiment, ...]:
    """An experiment with all its ancestors, the oldest first.

    Raises:
        NotFound: no experiment has this name; names the nearest one.
        ConfigurationError: a parent is missing, or the ancestors run in a circle; names them.
    """
    if name not in known:
        raise NotFound(f"the experiment {unknown(name, sorted(known))}")
    found: list[Experiment] = []
    at = name
    while at:
        if any(one.name == at for one in found):
            ring = [one.name for one in found] + [at]
            ring = ring[ring.index(at) :]
            raise ConfigurationError(
                f"{name} inherits in a circle: {' extends '.join(ring)}; end it in one of the files"
            )
        if at not in known:
            child = found[-1].name
            raise ConfigurationError(f"{child} extends {unknown(at, sorted(known))}")
        found.append(known[at])
        at = known[at].extends
    return tuple(reversed(found))


def resolve(name: str, known: Mapping[str, Experiment], schema: Schema) -> dict[str, Value]:
    """The whole configuration of an experiment.

    Raises:
        NotFound, ConfigurationError: as ``chain``.
    """
    values = {path: Value(value, DEFAULTS) for path, value in schema.defaults.items()}
    for one in chain(name, known):
        for path, value in one.changes.items():
            values[path] = Value(value, one.name)
    return values


def plain(resolved: Resolved) -> dict[str, Any]:
    """The values without their origins."""
    return {path: value.value for path, value in resolved.items()}


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same one; true is not 1."""
    if isinstance(first, bool) != isinstance(second, bool):
        return False
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def differences(first: Resolved, second: Resolved) -> tuple[Difference, ...]:
    """Values that two configurations do not share, in the order of the stages."""
    nothing = Value(None, "")
    paths = [*first, *(path for path in second if path not in first)]
    found = []
    for path in paths:
        one, other = first.get(path, nothing), second.get(path, nothing)
        if not same(one.value, other.value):
            found.append(Difference(path, one.value, other.value, one.origin, other.origin))
    return tuple(found)


def contract_of(name: str, known: Mapping[str, Experiment]) -> tuple[Contract, str]:
    """The contract that holds for an experiment, and the name of the experiment that has it.

    A parent's contract does not hold for its children: what differs is what has to be argued.

    Raises:
        NotFound: no experiment has this name.
        ConfigurationError: it has no contract, so it cannot be launched.
    """
    if name not in known:
        raise NotFound(f"the experiment {unknown(name, sorted(known))}")
    one = known[name]
    if one.contract is not None:
        return one.contract, name
    if not one.under:
        raise ConfigurationError(
            f"{name} has no contract and is not launched; write objective, hypothesis, expected "
            f"and author below `contract:` in {one.file or 'its file'}"
        )
    owner = known.get(one.under)
    if owner is None or owner.contract is None:
        raise ConfigurationError(f"{name} is under {one.under}, which has no contract")
    return owner.contract, owner.name
