"""When a schedule was last due: five fields as Debian's cron writes them, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from foundation.errors import ConfigurationError

_FIELDS = "minute, hour, day of the month, month, day of the week"


def latest_due(schedule: str, now: datetime) -> datetime | None:
    """The last time a schedule was due that is not after ``now``.

    Args:
        schedule: minute, hour, day of the month, month and day of the week; where both days are
            given, either is enough.
        now: aware.

    Returns:
        The time in UTC; None where there is none within half a century.

    Raises:
        ConfigurationError: the schedule cannot be read.
    """
    fields = schedule.split()
    if len(fields) != len(_FIELDS.split(", ")):
        raise ConfigurationError(
            f"cron {schedule[:60]!r} has {len(fields)} fields; give {_FIELDS}, for example "
            "'0 3 * * mon'"
        )
    try:
        # What it looks for lies before the time given, and may be the very time asked about.
        times = CronSim(schedule, now.astimezone(UTC) + timedelta(microseconds=1), reverse=True)
        return next(times, None)
    except CronSimError as error:
        reason = str(error)[:1].lower() + str(error)[1:]
        raise ConfigurationError(
            f"cron {schedule[:60]!r} has a {reason}; give {_FIELDS}, for example '0 3 * * mon'"
        ) from error
