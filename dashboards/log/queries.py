"""Figures of the prediction log, of its parts and of the rows that are in no part yet.

Counts and means are exact. Percentiles are read off bins 2 % wide, so they are within 1 %.
A row counts once for each time it was published; the log's writer takes care that this is once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from dashboards.log.columns import STAGES, bin_ms, bin_ms_sql, bin_range
from dashboards.log.figures import Filter, Histogram, Saved, Timeline, Totals
from dashboards.log.frames import LISTED, LoggedFrame, read_frame, read_frames
from dashboards.log.memory import LogMemory, Reading
from foundation.errors import StorageError
from inference_graph.contract import GEARS, LADDER, REFERENCE, REUSE
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.retained import (
    ENOUGH_SESSIONS,
    Retained,
    cluster_mean,
    retained,
    student,
)

_BUCKETS = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    86_400,
    604_800,
)
"""Widths of the steps of a chart over time, seconds."""
_STEPS = 120
"""So many of them at most, unless the log is older than two years."""
_LONGEST = 500
"""Sessions that a list has at most, those with the most frames."""
_LARGE = LADDER.index(REFERENCE)
_ROUTER_STAGES = ("observe", "decide")
_FALLBACKS = "count(*) FILTER (fallback BETWEEN 1 AND 3)"


class LogQueries:
    """An opened log; may be used from several threads."""

    def __init__(self, url: str, memory_rows: int, threads: int) -> None:
        """Look at nothing yet.

        Args:
            url: the log's folder or bucket.
            memory_rows: rows kept in memory, the newest.
            threads: threads that read, and that answer queries.

        Raises:
            ConfigurationError: the url is none.
        """
        self.url = url
        self.place = open_place(url)
        # As it was typed, so that it can be typed again; a bucket's without credentials.
        self.name = self.place.name if self.place.folder is None else url
        self._memory = LogMemory(self.place, memory_rows, threads)

    @property
    def reading(self) -> Reading:
        """How far the log is in memory."""
        return self._memory.reading

    def refresh(self, patience: float = 1.5) -> Reading:
        """Look for new rows, and wait for them at most so many seconds.

        Raises:
            StorageError: the log cannot be listed, or a journal cannot be read.
        """
        folder = self.place.folder
        if folder is not None and folder.exists() and not folder.is_dir():
            raise StorageError(f"{folder} is a file; give the folder of a prediction log")
        return self._memory.refresh(patience)

    def totals(self, chosen: Filter | None = None) -> Totals:
        """Sums over a selection."""
        rows = self._rows(
            f"answered, policy, count(*), {_FALLBACKS}, sum(dropped), "
            "min(time), max(time), sum(busy_ms), count(busy_ms), sum(shadow_ms)",
            chosen,
            "GROUP BY ALL",
        )
        answers = [row for row in rows if row[0] < len(GEARS)]
        large = [row for row in answers if row[0] == _LARGE]
        count = sum(row[2] for row in answers)
        policies: dict[str, int] = {}
        for row in answers:
            name = self._memory.words.name(row[1])
            policies[name] = policies.get(name, 0) + row[2]
        return Totals(
            frames={
                gear: sum(row[2] for row in answers if row[0] == index)
                for index, gear in enumerate(_shown(row[0] for row in answers))
            },
            failed=sum(row[2] for row in rows) - count,
            fallbacks=sum(row[3] for row in rows),
            dropped=int(sum(row[4] or 0 for row in rows)),
            first=_time(min(row[5] for row in rows)) if rows else None,
            last=_time(max(row[6] for row in rows)) if rows else None,
            busy_ms=_mean(answers),
            reference_ms=_mean(large),
            shadow_ms=sum(row[9] or 0.0 for row in rows) / count if count else math.nan,
            policies=dict(sorted(policies.items(), key=lambda item: -item[1])),
        )

    def timeline(self, chosen: Filter | None = None, until: datetime | None = None) -> Timeline:
        """Figures by time, from the first row to the last; the longer, the longer the steps.

        Args:
            chosen: which rows count.
            until: where to end instead, so that a silence since the last row is seen.
        """
        chosen = chosen or Filter()
        ends = self._rows("min(time), max(time)", chosen)[0]
        if ends[0] is None:
            none = np.zeros(0, np.int64)
            frames_of = dict.fromkeys(LADDER, none)
            return Timeline((), 1.0, frames_of, none, none, none, np.zeros(0))
        first, last = ends[0], ends[1] + 1
        if until is not None:
            last = max(last, _microseconds(until))
        step = step_seconds((last - first) / 1e6) * 1_000_000
        start = first // step
        count = (last - 1) // step - start + 1
        rows = self._rows(
            f"time // {step}, answered, count(*), {_FALLBACKS}, sum(dropped), "
            "sum(agreement), count(agreement)",
            chosen,
            "GROUP BY ALL",
        )
        frames = np.zeros((len(GEARS) + 1, count), np.int64)
        fallbacks, dropped = np.zeros(count, np.int64), np.zeros(count, np.int64)
        agreed, shadowed = np.zeros(count), np.zeros(count)
        for place, answered, number, others, lost, agreements, looks in rows:
            frames[min(answered, len(GEARS)), place - start] += number
            fallbacks[place - start] += others
            dropped[place - start] += lost or 0
            agreed[place - start] += agreements or 0.0
            shadowed[place - start] += looks
        with np.errstate(invalid="ignore"):
            large = frames[_LARGE] / frames[:-1].sum(axis=0)
            # As in ``prediction_log.retained``, step by step.
            agreement = np.where(large == 1, 1.0, large + (1 - large) * agreed / shadowed)
        return Timeline(
            start=tuple(_time((start + index) * step) for index in range(count)),
            seconds=step / 1e6,
            frames=dict(zip(_shown(row[1] for row in rows), frames, strict=False)),
            failed=frames[-1],
            fallbacks=fallbacks,
            dropped=dropped,
            agreement=agreement,
        )

    def deployments(self, chosen: Filter | None = None) -> list[tuple[datetime, str]]:
        """When each policy but the first answered its first frame, and its revision."""
        rows = self._rows("policy, min(time)", chosen, "GROUP BY policy ORDER BY 2")
        return [(_time(first), self._memory.words.name(number)) for number, first in rows[1:]]

    def stages(self, chosen: Filter | None = None) -> Mapping[str, Histogram]:
        """Histograms of all stages, in their order."""
        names = [f"{stage}_bin" for stage in STAGES]
        rows = self._rows(
            f"GROUPING_ID({', '.join(names)}), {', '.join(names)}, count(*)",
            chosen,
            f"GROUP BY GROUPING SETS ({', '.join(f'({name})' for name in names)})",
        )
        found: dict[str, list[tuple[int, int]]] = {stage: [] for stage in STAGES}
        for row in rows:
            # Of the grouping's bits that of the column grouped by is 0; the first stands highest.
            place = next(i for i in range(len(names)) if not row[0] >> (len(names) - 1 - i) & 1)
            if row[1 + place] >= 0:
                found[STAGES[place]].append((row[1 + place], row[-1]))
        return {stage: _histogram(pairs) for stage, pairs in found.items()}

    def latency_by_rung(self, chosen: Filter | None = None) -> Mapping[str, Histogram]:
        """Histograms of the time to the answer by the rung that answered."""
        rows = self._rows("answered, total_bin, count(*)", chosen, "GROUP BY ALL")
        return {
            gear: _histogram([(row[1], row[2]) for row in rows if row[0] == index and row[1] >= 0])
            for index, gear in enumerate(_shown(row[0] for row in rows))
        }

    def conditions(self, chosen: Filter | None = None) -> Mapping[str, Mapping[str, int]]:
        """Frames by condition and the rung that answered, the most frequent condition first."""
        return self._by_rung("condition", chosen, 50)

    def sessions(self, chosen: Filter | None = None) -> Mapping[str, Mapping[str, int]]:
        """Frames by session and the rung that answered, the longest session first."""
        return self._by_rung("session", chosen, _LONGEST)

    def agreement(self, chosen: Filter | None = None) -> Retained:
        """Agreement with large, as the shadow measured it; see ``prediction_log.retained``."""
        clusters, unit = self._clusters("agreement", chosen)
        return retained(clusters, self._large(chosen)[0], unit)

    def saved(self, chosen: Filter | None = None) -> Saved:
        """Detector time saved against large on the same frames; see ``Saved``.

        On a frame with a shadow both rungs have looked, so the difference is a paired one; its
        interval is that of ``prediction_log.retained``. On a frame that large answered, routing
        costs what the router takes.
        """
        clusters, _ = self._clusters("shadow_ms - busy_ms", chosen)
        large, router_ms = self._large(chosen)
        if not clusters:
            ms = -router_ms if large == 1 else math.nan
            return Saved(ms, ms, ms, 0)
        mean, error, groups = cluster_mean(clusters)
        ms = (1 - large) * mean - large * router_ms
        half = (1 - large) * student(groups - 1) * error if groups > 1 else math.nan
        return Saved(ms, ms - half, ms + half, sum(count for count, _ in clusters))

    def _large(self, chosen: Filter | None) -> tuple[float, float]:
        """Large's share of the answers, and the router's mean milliseconds on them."""
        router = " + ".join(bin_ms_sql(f"{stage}_bin") for stage in _ROUTER_STAGES)
        ((answered, large, spent),) = self._rows(
            f"count(*) FILTER (answered < {len(GEARS)}), "
            f"count(*) FILTER (answered = {_LARGE}), "
            f"avg({router}) FILTER (answered = {_LARGE})",
            chosen,
        )
        return large / answered if answered else 0.0, spent or 0.0

    def _clusters(self, value: str, chosen: Filter | None) -> tuple[list[tuple[int, float]], str]:
        """Count and sum of a value that the shadow measured, by groups of similar frames."""
        what, known = f"count(*), sum({value})", f"({value}) IS NOT NULL"
        unlike_large = f"answered <> {_LARGE}"
        for unit, columns in (("sessions", "session"), ("minutes", "session, time // 60000000")):
            rows = self._rows(what, chosen, f"GROUP BY {columns}", known, unlike_large)
            if unit == "minutes" or len(rows) >= ENOUGH_SESSIONS:
                break
        return [(int(row[0]), float(row[1])) for row in rows], unit

    def span(self) -> tuple[datetime, datetime] | None:
        """Times of the oldest and the newest row in memory; None without any."""
        first, last = self._rows("min(time), max(time)", None)[0]
        return None if first is None else (_time(first), _time(last))

    def newest(self, chosen: Filter | None, limit: int) -> list[datetime]:
        """Times of the newest rows, newest first."""
        rows = self._rows("time", chosen, f"ORDER BY time DESC LIMIT {limit}")
        return [_time(row[0]) for row in rows]

    def frames(self, chosen: Filter | None, limit: int) -> list[LoggedFrame]:
        """The newest frames of a selection with what a list of them shows, newest first.

        Raises:
            StorageError: the log cannot be read.
        """
        found = read_frames(self.place, self.newest(chosen, limit), LISTED)
        # Rows are found by their time; others may have come in the same microsecond.
        return [frame for frame in found if _matches(frame, chosen or Filter())][:limit]

    def frame(self, key: str) -> LoggedFrame | None:
        """One frame with all that was logged of it; None where there is none.

        Raises:
            StorageError: the log cannot be read.
        """
        return read_frame(self.place, key)

    def close(self) -> None:
        """Stop reading, and give the memory back."""
        self._memory.close()

    def _by_rung(
        self, column: str, chosen: Filter | None, limit: int
    ) -> Mapping[str, Mapping[str, int]]:
        rows = self._rows(f"{column}, answered, count(*)", chosen, "GROUP BY ALL")
        found: dict[str, dict[str, int]] = {}
        gears = _shown(row[1] for row in rows)
        for number, answered, count in rows:
            counts = found.setdefault(self._memory.words.name(number), dict.fromkeys(gears, 0))
            if answered < len(gears):
                counts[gears[answered]] += count
        order = sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0]))
        return dict(order[:limit])

    def _rows(
        self, what: str, chosen: Filter | None, rest: str = "", *more: str
    ) -> Sequence[tuple[Any, ...]]:
        conditions = [*self._conditions(chosen or Filter()), *more]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._memory.cursor() as cursor:
            return cursor.execute(f"SELECT {what} FROM log {where} {rest}").fetchall()

    def _conditions(self, chosen: Filter) -> list[str]:
        """The filter in SQL; only numbers get into it."""
        conditions = []
        if chosen.since is not None:
            conditions.append(f"time >= {_microseconds(chosen.since)}")
        if chosen.until is not None:
            conditions.append(f"time < {_microseconds(chosen.until)}")
        for column, names in (("session", chosen.sessions), ("condition", chosen.conditions)):
            if names:
                conditions.append(_among(column, self._memory.words.known(names)))
        if chosen.rungs:
            conditions.append(_among("answered", [GEARS.index(gear) for gear in chosen.rungs]))
        if chosen.total_ms is not None:
            low, high = bin_range(*chosen.total_ms)
            conditions.append(f"total_bin BETWEEN {low} AND {high}")
        if chosen.fallbacks:
            conditions.append("fallback BETWEEN 1 AND 3")
        if chosen.images:
            conditions.append("image_kept")
        return conditions


def _shown(answered: Iterable[int]) -> tuple[str, ...]:
    """The gears of a figure: the rungs, and reuse where it is among those that answered."""
    return GEARS if GEARS.index(REUSE) in set(answered) else LADDER


def step_seconds(window: float) -> int:
    """Length of a step for a window of so many seconds: the shortest that makes 120 at most."""
    return next((width for width in _BUCKETS if window <= width * _STEPS), _BUCKETS[-1])


def _matches(frame: LoggedFrame, chosen: Filter) -> bool:
    """Whether a row with a chosen row's time belongs to the choice itself."""
    return (
        (not chosen.sessions or frame.values["session"] in chosen.sessions)
        and (not chosen.conditions or frame.condition in chosen.conditions)
        and (not chosen.rungs or frame.values["answered_by"] in chosen.rungs)
        and (not chosen.fallbacks or frame.values["fallback"] not in ("", None))
        and (not chosen.images or bool(frame.values["image_kept"]))
    )


def _among(column: str, numbers: Sequence[int]) -> str:
    return f"{column} IN ({', '.join(map(str, numbers))})" if numbers else "false"


def _histogram(pairs: Sequence[tuple[int, int]]) -> Histogram:
    ordered = sorted(pairs)
    numbers = np.array([pair[0] for pair in ordered], np.int64)
    return Histogram(bin_ms(numbers), np.array([pair[1] for pair in ordered], np.int64))


def _mean(rows: Sequence[tuple[Any, ...]]) -> float:
    count = sum(row[8] for row in rows)
    return sum(row[7] or 0.0 for row in rows) / count if count else math.nan


def _microseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _time(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
