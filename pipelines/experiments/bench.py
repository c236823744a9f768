"""How fast a ledger of many experiments is listed, searched and compared."""

from __future__ import annotations

import gc
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.experiments.attempt import Attempt
from components.experiments.document import Contract, Experiment, experiment_text
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.outcome import Expectation
from components.experiments.query import Question
from foundation.configuration import configuration
from pipelines.experiments.schema import experiment_schema

Progress = Callable[[int, int | None], None]

_OBJECTIVES = (
    "cut deadline misses",
    "keep accuracy at night",
    "save milliseconds",
    "spend less per frame",
    "learn from fewer clips",
    "be calm under load",
)
_BELIEFS = (
    "a longer leash lets PPO leave large while queues are long",
    "a higher rate finds the same policy in half of the steps",
    "dense scenes need large no more often than the clone says",
    "fleets of one size teach what fleets of all sizes do",
)
_VARIED: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("refine.learning_rate", (1e-4, 3e-4, 1e-3)),
    ("refine.timesteps", (60_000, 120_000, 240_000)),
    ("refine.kl_coefficient", (0.002, 0.02, 0.2)),
    ("refine.fleets", (6, 12, 24)),
    ("clone.seeds", (3, 5, 7)),
    ("label.latency_weight", (0.02, 0.05, 0.1)),
)


@configuration
class BenchLedgerConfig:
    """How large the ledger is, and how often it is asked.

    Attributes:
        experiments: YAML files, each with a launch that was scored.
        depth: generations at most.
        repeats: times each question is asked.
        seed: of their content.
    """

    experiments: Annotated[int, Field(ge=2, le=1000000)] = 10_000
    depth: Annotated[int, Field(ge=1, le=100)] = 8
    repeats: Annotated[int, Field(ge=1, le=1000)] = 40
    seed: int = 0


def bench_ledger(
    config: BenchLedgerConfig, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Write a ledger into a temporary folder, index it, and time what people ask.

    Every time includes the look at all files for changes. Drawing and the start of a program do
    not count.

    Args:
        config: how large.
        progress: called with experiments written and in all.

    Returns:
        Milliseconds: median, 95th percentile and slowest of ``list`` (every experiment), ``page``
        (a hundred from the middle, sorted by a figure, as the dashboard asks), ``search`` (words in
        any inflection), ``filter`` (an option of the resolved configuration and an outcome),
        ``diff`` (two resolved configurations) and ``new`` (a file that has just come); seconds
        of ``index``, made from nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = LedgerConfig(Path(folder, "experiments"), Path(folder, "ledger"))
        names = _write(config, place.experiments, progress)
        ledger = Ledger(place, experiment_schema)
        try:
            return _measured(config, ledger, names)
        finally:
            ledger.close()


def _measured(config: BenchLedgerConfig, ledger: Ledger, names: list[str]) -> dict[str, Any]:
    entropy = random.Random(config.seed)
    _ = ledger.schema  # importing the stages is no matter of the ledger's
    gc.freeze()  # as `gearshift experiment serve` does; a terminal has not imported them
    started = time.perf_counter()
    ledger.refresh()
    ledger.index.put_attempts(_attempt(name, entropy) for name in names)
    indexed = time.perf_counter() - started
    counts: dict[str, int] = {}

    def listed() -> None:
        counts["list"] = len(ledger.find(Question()).rows)

    def searched() -> None:
        counts["search"] = len(ledger.find(Question("missed deadlines while queues are long")).rows)

    def filtered() -> None:
        where = ("refine.learning_rate>=5e-4", "outcome=missed")
        counts["filter"] = len(ledger.find(Question("", where)).rows)

    def compared() -> None:
        first, second = entropy.sample(names, 2)
        ledger.differences(first, second)

    def added() -> None:
        file = ledger.config.experiments / f"new-{time.monotonic_ns()}.yaml"
        file.write_text(f"extends: {names[0]}\nset: {{refine: {{fleets: 7}}}}\n", encoding="utf-8")

    def paged() -> None:
        ledger.find(Question("", (), 100, len(names) // 2, "-retained"))

    questions = {
        "list": listed,
        "page": paged,
        "search": searched,
        "filter": filtered,
        "diff": compared,
        "new": added,
    }
    times = {name: _timed(config.repeats, ledger, question) for name, question in questions.items()}
    return {
        "experiments": len(names),
        "found": counts,
        "index_seconds": round(indexed, 2),
        "milliseconds": times,
    }


def _timed(repeats: int, ledger: Ledger, question: Callable[[], None]) -> dict[str, float]:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        question()
        ledger.refresh()
        taken.append((time.perf_counter() - started) * 1e3)
    return {
        "median": round(statistics.median(taken), 1),
        "p95": round(sorted(taken)[math.ceil(0.95 * len(taken)) - 1], 1),
        "slowest": round(max(taken), 1),
    }


def _write(config: BenchLedgerConfig, folder: Path, progress: Progress) -> list[str]:
    """YAML files of families: each experiment extends one of those before it."""
    entropy = random.Random(config.seed)
    names: list[str] = []
    depths: list[int] = []
    for number in range(config.experiments):
        name = f"e{number:05d}"
        parent = entropy.randrange(number) if number else -1
        if parent >= 0 and depths[parent] + 1 >= config.depth:
            parent = 0
        path, values = entropy.choice(_VARIED)
        contract = Contract(
            entropy.choice(_OBJECTIVES),
            entropy.choice(_BELIEFS),
            f"retained >= {entropy.uniform(0.9, 0.99):.3f} and latency_ratio <= 0.42",
            f"author-{entropy.randrange(12)}",
        )
        made = Experiment(
            name, names[parent] if parent >= 0 else "", {path: entropy.choice(values)}, contract
        )
        file = folder / f"{number // 500:03d}" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(experiment_text(made), encoding="utf-8")
        names.append(name)
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
        progress(number + 1, config.experiments)
    return names


def _attempt(name: str, entropy: random.Random) -> Attempt:
    figures = {
        "retained": entropy.gauss(0.955, 0.01),
        "latency_ratio": entropy.gauss(0.3, 0.05),
        "fleets.gearshift.cameras_8.dropped": entropy.random() / 10,
    }
    found = Expectation.read("retained >= 0.95 and latency_ratio <= 0.42").score(figures)
    return Attempt(
        f"{name}.1",
        name,
        "succeeded",
        "here",
        "",
        "0" * 64,
        "2026-01-01T00:00:00.000+00:00",
        verdict=found.verdict,
        reason=found.reason,
        figures=figures,
    )
