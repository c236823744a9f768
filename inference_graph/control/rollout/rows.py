"""From rows of the prediction log to what is compared: which arm had a frame, and how it went.

Of a rung each frame that the policy gave to it is one unit; of a policy each segment of a stream,
for its decisions hang together. Four values are taken of a unit:

=============  =====================================================================================
``errors``     1 where the revision did not answer itself: it failed, was late or was left alone
``latency``    log of the milliseconds it worked, its queue included; of a policy see below
``agreement``  F1 of its own answer with the reference's, where there is a shadow
``retained``   the accuracy retained by what the client got, whoever answered
=============  =====================================================================================

Of a segment they are means over its frames; accuracy retained is there as in
:mod:`inference_graph.prediction_log.retained`. Its latency is the log of the mean time of whole
answers, not the mean of their logs: a policy is slower by choosing a slow rung for a few frames
more, and large for one frame in 17 adds 30 % to small's mean, but 11 % to its geometric mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from inference_graph.contract import REFERENCE
from inference_graph.control.rollout.plan import FULL, METRICS

_FRAME_COLUMNS = [
    "source", "session", "rung", "answered_by", "revision", "asked", "fallback", "error",
    "queue_ms", "detect_ms", "shadow", "agreement", "tags",
]  # fmt: skip
_SEGMENT_COLUMNS = (
    "policy_revision", "session", "frame_id", "error", "fallback", "total_ms", "answered_by",
    "shadow", "agreement",
)  # fmt: skip
COLUMNS = tuple(dict.fromkeys(("event_id", "time", *_FRAME_COLUMNS, *_SEGMENT_COLUMNS)))
"""Columns of the log that are read."""


@dataclass(frozen=True)
class Arms:
    """The revisions compared in one step.

    Attributes:
        model: a rung, or "policy".
        stable: revision in use.
        canary: the new one.
        weight: of the canary, whole per cent, 1 to 99.
        looks: shares of the canary's and the stable frames that have a shadow.
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
        """The same of a frame with a shadow; of the gateway's frames."""
        canary, stable = self.looks
        if self.model == REFERENCE:
            stable = 1.0  # the stable revision is the measure, and agrees with itself
        canary, stable = canary * self.chance, stable * (1 - self.chance)
        return canary / (canary + stable) if canary and stable else self.chance


@dataclass(frozen=True)
class AnalysisUnit:
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


def frames_of(table: pa.Table, arms: Arms) -> Iterator[AnalysisUnit]:
    """Units of a rung: the frames that the policy gave to it, in the table's order.

    Args:
        table: with ``COLUMNS``.
        arms: what is compared.
    """
    chances = dict.fromkeys(METRICS, arms.chance)
    looked = {**chances, **dict.fromkeys(("agreement", "retained"), arms.chance_of_looked_at)}
    for row in _rows(table.select(_FRAME_COLUMNS)):
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
        yield AnalysisUnit(canary, row["session"] or "", values, chances if by_graph else looked)


def _rows(table: pa.Table) -> Iterator[Row]:
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _arm(row: Row, arms: Arms) -> bool | None:
    """Whether a frame was the canary's; None where it was neither's."""
    if row["rung"] != arms.model:
        return None
    elif row["asked"]:
        revision = row["asked"]
    else:
        service = dict(row["tags"] or ()).get("service", "")
        # Only the service logs a request that it does not answer.
        revision = row["revision"]
        if not row["answered_by"]:
            revision = arms.canary if service and service == arms.service else arms.stable
    return {arms.canary: True, arms.stable: False}.get(revision)


@dataclass(slots=True)
class _Segment:
    """What is known of a segment that is not over.

    Attributes:
        number: in its stream.
        revisions: that decided in it; more than one where the traffic was moved.
        rows: how many; 0 of one that does not count.
        failed: rows that were not answered by the rung that was asked.
        answered: rows with an answer.
        by_reference: of those, answered by the reference.
        timed: of those, with a time.
        spent_ms: sum of the times.
        looks: of those, how many have a shadow.
        agreed: sum of the agreements.
    """

    number: int
    revisions: set[str] = field(default_factory=set)
    rows: int = 0
    failed: int = 0
    answered: int = 0
    by_reference: int = 0
    timed: int = 0
    spent_ms: float = 0.0
    looks: int = 0
    agreed: float = 0.0


class Segments:
    """Units of a policy: segments of streams, each returned once it is over."""

    def __init__(self, arms: Arms) -> None:
        """Start without segments."""
        self._arms = arms
        self._open: dict[str, _Segment] = {}
        self._chances = dict.fromkeys(METRICS, arms.chance)

    def add(self, table: pa.Table) -> list[AnalysisUnit]:
        """Segments that are over with these rows, in the order of their ends.

        The first one of a stream in a step may have begun before it, so its frames do not count;
        one of which no further frame comes is not returned. Images outside of streams are segments
        of one frame.

        Args:
            table: with ``COLUMNS``.
        """
        units: list[AnalysisUnit] = []
        revisions = (self._arms.canary, self._arms.stable)
        # By columns: a policy's step is judged by some 100,000 rows, and dicts of them take long.
        columns = [table.column(name).to_pylist() for name in _SEGMENT_COLUMNS]
        for revision, session, frame, error, fallback, ms, by, shadow, agreement in zip(
            *columns, strict=True
        ):
            if revision not in revisions:
                continue
            alone = not session or frame is None
            number = 0 if alone else frame // self._arms.segment_frames
            segment = _Segment(number) if alone else self._open.get(session)
            if segment is None or segment.number < number:
                begun = _Segment(number)
                if segment is not None:
                    self._close(session, segment, units)
                self._open[session] = begun
                if segment is None:
                    continue  # how much of it was before the step is unknown
                segment = begun
            elif segment.number > number or not (alone or segment.rows):
                continue
            segment.rows += 1
            segment.revisions.add(revision)
            segment.failed += bool(error or fallback)
            if not error:
                segment.answered += 1
                segment.by_reference += by == REFERENCE
                if ms and ms > 0:
                    segment.timed += 1
                    segment.spent_ms += ms
                if shadow and agreement is not None and agreement == agreement:
                    segment.looks += 1
                    segment.agreed += agreement
            if alone:
                self._close("", segment, units)
        return units

    def _close(self, session: str, of: _Segment, units: list[AnalysisUnit]) -> None:
        if len(of.revisions) != 1:
            return  # none, or the traffic was moved within it
        values = {"errors": of.failed / of.rows}
        if of.timed:
            values["latency"] = math.log(of.spent_ms / of.timed)
        if of.looks:
            values["agreement"] = of.agreed / of.looks
        if of.answered:
            large = of.by_reference / of.answered
            if of.looks or large == 1:
                values["retained"] = large + (1 - large) * values.get("agreement", 0.0)
        canary = of.revisions == {self._arms.canary}
        units.append(AnalysisUnit(canary, session, values, self._chances))
