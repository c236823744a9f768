"""Times as the reader's clock shows them: the browser names its time zone in a cookie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import has_request_context, request

from dashboards.log.figures import Timeline

COOKIE = "gearshift-zone"
SET_COOKIE = (
    f"document.cookie = '{COOKIE}=' + Intl.DateTimeFormat().resolvedOptions().timeZone"
    " + '; path=/; SameSite=Lax';"
)
"""What a page runs before it asks for anything."""


def zone() -> tzinfo:
    """The reader's time zone; UTC outside a request, or where the cookie names none."""
    name = request.cookies.get(COOKIE, "") if has_request_context() else ""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a cookie may hold anything
        return UTC


def zone_name() -> str:
    """The zone's short name now, for headings: UTC, CET, +03."""
    return datetime.now(zone()).tzname() or "UTC"


def local(time: datetime) -> datetime:
    """A point in time in the reader's zone, aware."""
    return time.astimezone(zone())


def plotted(times: Iterable[datetime]) -> list[datetime]:
    """Points in time as charts get them: the reader's clock, without a zone."""
    return [local(time).replace(tzinfo=None) for time in times]


def timeline_here(line: Timeline) -> Timeline:
    """A timeline for charts, on the reader's clock."""
    return replace(line, start=tuple(plotted(line.start)))


def deployments_here(found: Iterable[tuple[datetime, str]]) -> list[tuple[datetime, str]]:
    """Deployments for charts, on the reader's clock."""
    return [(local(time).replace(tzinfo=None), revision) for time, revision in found]


def clock(time: datetime) -> str:
    """A point in time in words, with its zone."""
    return f"{local(time):%Y-%m-%d %H:%M:%S %Z}"
