"""Ledgers of the tests' own, with stages small enough to know by heart."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from components.experiments.attempt import Attempt
from components.experiments.document import Contract
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.schema import Schema
from foundation.errors import ConfigurationError

CONTRACT = Contract("cut deadline misses", "queues are learned", "retained >= 0.95", "anna")


@dataclass(frozen=True)
class Inner:
    share: float = 0.5


@dataclass(frozen=True)
class RefineConfig:
    timesteps: int = 100
    learning_rate: float = 3e-4
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[int, ...] = (1, 4)
    limit: int | None = None
    deep: bool = False
    place: Path = Path("here")
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if not 1 <= self.timesteps <= 10**9:
            raise ConfigurationError(f"timesteps is {self.timesteps}; give 1 to {10**9}")


@dataclass(frozen=True)
class CloneConfig:
    seeds: int = 5
    name: str = "bc"


def schema(**more: type) -> Schema:
    stages = {**more, "refine": RefineConfig, "clone": CloneConfig}
    return Schema(stages, {"clone": {"seeds": 7}})


def write(folder: Path, name: str, **document: Any) -> Path:
    file = folder / "experiments" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def contract(**changed: str) -> dict[str, str]:
    return {**CONTRACT.__dict__, **changed}


def small_ledger(folder: Path) -> Ledger:
    """A ledger whose stages are the two above; the shipped experiments are not for them."""
    made = Ledger(LedgerConfig(folder / "experiments", folder / "ledger"), schema)
    made.refresh()
    return made


def attempt(name: str, number: int = 1, **fields: Any) -> Attempt:
    given: dict[str, Any] = {
        "attempt": f"{name}.{number}",
        "experiment": name,
        "state": "succeeded",
        "place": "here",
        "run_id": "",
        "sha256": "0" * 64,
        "sealed_at": f"2026-11-21T12:00:0{number}.000+00:00",
    }
    return Attempt(**(given | fields))
