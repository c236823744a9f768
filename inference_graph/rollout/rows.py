"""From rows of the prediction log to what is compared: which arm had a frame, and how it went.

Of a rung each frame that the policy gave to it is one unit; of a policy each segment of a stream,
for its decisions hang together. Four values are taken of a unit:

=============  =====================================================================================
``errors``     1 where the revision did not answer itself: it failed, was late or was left alone
``latency``    log of the milliseconds it worked, its queue included; of a policy the whole answer's
``agreement``  F1 of its own answer with the reference's, where a shadow looked
``retained``   the accuracy retained by what the client got, whoever answered
=============  =====================================================================================

Of a segment they are means over its frames; accuracy retained is there as in
:mod:`inference_graph.prediction_log.retained`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from inference_graph.contract import REFERENCE
from inference_graph.rollout.plan import FULL, METRICS, POLICY

COLUMNS = (
    "event_id", "time", "source", "session", "frame_id", "policy_revision", "rung", "answered_by",
    "revision", "asked", "fallback", "error", "queue_ms", "detect_ms", "total_ms", "shadow",
    "agreement", "tags",
)  # fmt: skip
"""Columns of the log that are looked at."""


@dataclass(frozen=True)
class Arms:
    """What is compared in one step.

    Attributes:
        model: a rung, or "policy".
        stable: revision in use.
        canary: the new one.
        weight: of the canary, whole per cent, 1 to 99.
        looks: shares of the canary's and the stable frames at which the reference looks.
        segment_frames: frames of a stream that one policy decides, if policies are compared.
        service: name of the canary's service, by which a request without an answer is known.
    """

    model: str
    stable: str
    canary: str
    weight: int
    looks: tuple[float, float] = (1.0, 1.0)
    segment_frames: int = 100
    service: str = ""

    @property
    def chance(self) -> float:
        """The probability that the canary has a frame."""
        return self.weight / FULL

    @property
    def chance_of_looked_at(self) -> float:
        """The same of a frame at which the reference looked; of the gateway's frames."""
        canary, stable = self.looks
        if self.model == REFERENCE:
            stable = 1.0  # the stable revision is the measure, and agrees with itself
        canary, stable = canary * self.chance, stable * (1 - self.chance)
        return canary / (canary + stable) if canary and stable else self.chance


@dataclass(frozen=True)
class Unit:
    """One frame or segment.

    Attributes:
        canary: whether the canary had it.
        group: the stream it is of.
        values: by metric; one that was not measured is not there.
        chances: for each of them the probability that the canary has such a unit.
    """

    canary: bool
    group: str
    values: Mapping[str, float]
    chances: Mapping[str, float]


Row = Mapping[str, Any]


def frames_of(table: pa.Table, arms: Arms) -> Iterator[Unit]:
    """Units of a rung: the frames that the policy gave to it, in the table's order.

    Args:
        table: with ``COLUMNS``.
        arms: what is compared.
    """
    chances = dict.fromkeys(METRICS, arms.chance)
    looked = {**chances, **dict.fromkeys(("agreement", "retained"), arms.chance_of_looked_at)}
    for row in _rows(table):
        canary = _arm(row, arms)
        if canary is None:
            continue
        bad = bool(row["error"] or row["fallback"])
        values = {"errors": float(bad)}
        own = not bad and row["revision"] == (arms.canary if canary else arms.stable)
        work = (row["queue_ms"] or 0.0) + (row["detect_ms"] or math.nan)
        if own and 0 < work < math.inf:
            values["latency"] = math.log(work)
        agreement = row["agreement"] if row["shadow"] else None
        if arms.model == REFERENCE and own and not canary:
            agreement = 1.0
        if agreement is not None and not math.isnan(agreement):
            values["retained"] = agreement
            if own:
                values["agreement"] = agreement
        by_graph = row["source"] == "graph"  # there the router draws the shadow, for both alike
        yield Unit(canary, row["session"] or "", values, chances if by_graph else looked)


def _rows(table: pa.Table) -> Iterator[Row]:
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _arm(row: Row, arms: Arms) -> bool | None:
    """Whether a frame was the canary's; None where it was neither's."""
    if arms.model == POLICY:
        revision = row["policy_revision"]
    elif row["rung"] != arms.model:
        return None
    elif row["asked"]:
        revision = row["asked"]
    else:
        service = dict(row["tags"] or ()).get("service", "")
        # A request without an answer is told by its service alone.
        revision = row["revision"]
        if not row["answered_by"]:
            revision = arms.canary if service and service == arms.service else arms.stable
    return {arms.canary: True, arms.stable: False}.get(revision)


class Segments:
    """Units of a policy: segments of streams, each told once it is over."""

    def __init__(self, arms: Arms) -> None:
        """None begun."""
        self._arms = arms
        self._open: dict[str, tuple[int, list[Row]]] = {}
        self._chances = dict.fromkeys(METRICS, arms.chance)

    def add(self, table: pa.Table) -> list[Unit]:
        """Segments that are over with these rows, in the order of their ends.

        The first one of a stream in a step may have begun before it, so its frames do not count;
        one of which no further frame comes is not told. Images outside of streams are segments of
        one frame.

        Args:
            table: with ``COLUMNS``.
        """
        units = []
        for row in _rows(table):
            if _arm(row, self._arms) is None:
                continue
            if not row["session"] or row["frame_id"] is None:
                units += self._unit("", [row])
                continue
            session, number = row["session"], row["frame_id"] // self._arms.segment_frames
            before = self._open.get(session)
            if before is None or before[0] < number:
                if before is not None:
                    units += self._unit(session, before[1])
                # -1 at first: nobody knows how much of the first one was before the step.
                self._open[session] = (number, [row] if before is not None else [])
            elif before[0] == number and before[1]:
                before[1].append(row)
        return units

    def _unit(self, session: str, rows: Sequence[Row]) -> list[Unit]:
        arms = {_arm(row, self._arms) for row in rows}
        if len(arms) != 1:
            return []  # none, or the traffic was moved within it
        answered = [row for row in rows if not row["error"]]
        values = {"errors": sum(bool(row["error"] or row["fallback"]) for row in rows) / len(rows)}
        spent = [math.log(ms) for row in answered if (ms := row["total_ms"]) and ms > 0]
        if spent:
            values["latency"] = sum(spent) / len(spent)
        looks = [row["agreement"] for row in answered if row["shadow"]]
        looks = [look for look in looks if look is not None and not math.isnan(look)]
        mean = sum(looks) / len(looks) if looks else math.nan
        if looks:
            values["agreement"] = mean
        if answered:
            large = sum(row["answered_by"] == REFERENCE for row in answered) / len(answered)
            if looks or large == 1:
                values["retained"] = large + (1 - large) * (mean if looks else 0.0)
        return [Unit(bool(arms.pop()), session, values, self._chances)]
