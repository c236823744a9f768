"""The reader's time zone comes from a cookie, and whatever the cookie holds, times are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import flask
import pytest

from dashboards.pages.explore.inputs import picker_value
from dashboards.pages.explore.query import time_of
from dashboards.widgets.local_time import COOKIE, clock, deployments_here, local, plotted, zone

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
APP = flask.Flask(__name__)


def reader_in(name: str) -> flask.ctx.RequestContext:
    return APP.test_request_context(headers={"Cookie": f"{COOKIE}={name}"})


def test_times_are_the_readers() -> None:
    assert clock(NOON) == "2026-07-01 12:00:00 UTC"
    with reader_in("Europe/Berlin"):
        assert clock(NOON) == "2026-07-01 14:00:00 CEST"
        assert plotted([NOON]) == [datetime(2026, 7, 1, 14)]
        assert deployments_here([(NOON, "a1")]) == [(datetime(2026, 7, 1, 14), "a1")]
        # What is picked on the reader's clock is the same point in time in the address.
        assert time_of(picker_value(local(NOON)), zone()) == NOON
        assert time_of("2026-07-01 14:00:00", zone()) == NOON


@pytest.mark.parametrize(
    "name", ["", "Nowhere/Town", "../../etc/passwd", "/etc", "Europe", "a\x00b"]
)
def test_a_cookie_that_names_no_zone_is_utc(name: str) -> None:
    with reader_in(name):
        assert local(NOON).utcoffset() == timedelta(0)
