"""Times as cron writes them: minute, hour, day of the month, month, day of the week; in UTC.

Each field is ``*``, a number, a range ``a-b``, a list ``a,b`` or steps ``*/n``; months and days of
the week have names as well (jan, mon), and Sunday is 0 or 7. Where both the day of the month and
the day of the week are given, either is enough, as in every cron since System V.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from feature_transformer.errors import ConfigurationError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?")
_SEARCHED = 9 * 366
"""Days: the 29th of February may be eight years away."""


@dataclass(frozen=True)
class Cron:
    """A schedule; make it with :meth:`read`.

    Attributes:
        minutes: 0 to 59.
        hours: 0 to 23.
        days: of the month, 1 to 31.
        months: 1 to 12.
        weekdays: 0 (Sunday) to 6.
        either: whether a fitting day of the month or of the week is enough.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    @classmethod
    def read(cls, text: str) -> Cron:
        """Read five fields.

        Raises:
            ConfigurationError: not five fields, one that is not understood or out of range, or
                days that never come.
        """
        parts = text.lower().split()
        if len(parts) != len(_FIELDS):
            raise ConfigurationError(
                f"cron {text[:60]!r} has {len(parts)} fields; give minute, hour, day of the month, "
                "month, day of the week, for example '0 3 * * mon'"
            )
        sets = [_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
        weekdays = frozenset(day % 7 for day in sets[4])
        either = not parts[2].startswith("*") and not parts[4].startswith("*")
        schedule = cls(sets[0], sets[1], sets[2], sets[3], weekdays, either)
        if schedule.latest(datetime(2032, 3, 1, tzinfo=UTC)) is None:
            raise ConfigurationError(f"cron {text[:60]!r} never comes; check day and month")
        return schedule

    def latest(self, now: datetime) -> datetime | None:
        """The last time that is not after ``now`` (aware), in UTC; None if there is none."""
        now = now.astimezone(UTC)
        for back in range(_SEARCHED):
            day = now.date() - timedelta(days=back)
            if not self._is_due(day):
                continue
            for hour in sorted(self.hours, reverse=True):
                for minute in sorted(self.minutes, reverse=True):
                    time = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                    if time <= now:
                        return time
        return None

    def _is_due(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        month, week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return month or week if self.either else month and week


def _field(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ConfigurationError(
                f"cron: {name} is {part[:20]!r}; give *, a number, a-b, a,b or */n"
            )
        star, first, last, step = match.groups()
        if star:
            start, end = low, high
        else:
            start = _number(first, name, low, high, names)
            # A step without an end goes on to the last one.
            end = high if step and last is None else start
            end = end if last is None else _number(last, name, low, high, names)
        if start > end or step == "0":
            raise ConfigurationError(f"cron: {name} is {part[:20]!r}, which is no range")
        found |= set(range(start, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise ConfigurationError(f"cron: {name} is {text[:20]!r}; give {low} to {high}")
    return int(text)
