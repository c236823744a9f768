from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from health_samples import http_server, jpeg, prometheus, served, settings_of, text_of
from processes import closed_port, until

from dashboards.log.health import LogHealth, read_log_health
from dashboards.pages.health.page import ago, alerts_card, gateway_card, log_card, rung_row
from dashboards.pages.health.poller import Polled, Poller
from dashboards.pages.health.prometheus_alerts import Alert, AlertState, read_prometheus
from dashboards.pages.health.service_health import GatewayHealth, RungHealth, read_gateway
from foundation.errors import StorageError, Unavailable
from inference_graph.gateway.access import Role, add_token
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.row import PredictionRow, SessionSummary
from inference_graph.prediction_log.session_files import spool_session
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class TestLastKnown:
    def test_no_reader_waits_and_no_two_look_at_once(self) -> None:
        may, looks = threading.Event(), []

        def look() -> int:
            looks.append(threading.get_ident())
            assert may.wait(120)
            return len(looks)

        kept = Poller(look, 3600.0)
        assert kept.get().looking  # the look is under way, and this did not wait for it
        assert kept.get() == Polled()
        may.set()
        assert until(lambda: kept.get().value) == 1
        assert len(looks) == 1
        assert looks[0] != threading.get_ident()
        assert kept.get().seen is not None

    @pytest.mark.parametrize(
        ("error", "named"), [(Unavailable("gone"), "gone"), (ValueError("ours"), "ValueError")]
    )
    def test_the_last_value_stays_when_a_look_fails(self, error: Exception, named: str) -> None:
        answers: list[int | Exception] = [7, error, 8]
        next_look = threading.Semaphore(1)

        def look() -> int:
            assert next_look.acquire(timeout=120)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        kept = Poller(look, 0.0)
        assert until(lambda: kept.get().value) == 7
        next_look.release()
        failed = until(lambda: kept.get() if kept.get().failure else None)
        assert failed is not None
        assert (failed.value, failed.looking) == (7, False)
        assert failed.seen is not None
        assert named in str(failed.failure)
        next_look.release()
        until(lambda: kept.get().value == 8)
        assert kept.get().failure is None


class TestGateway:
    def test_a_real_gateway_tells_of_its_rungs(self, sample_ladder: Path, tmp_path: Path) -> None:
        settings = settings_of(sample_ladder, log_url=str(tmp_path / "log"))
        with served(settings) as gateway:
            until(lambda: read_gateway(gateway.url).ready)
            for seed in range(3):
                kind = {"content-type": "image/jpeg"}
                gateway.http.post("/v1/detect", content=jpeg(seed), headers=kind).raise_for_status()
            found = read_gateway(gateway.url)
            assert found.unread == found.detail == ""
            nano, small = found.rungs
            assert (nano.name, nano.used, nano.circuit) == ("nano", True, "healthy")
            assert (nano.answers, nano.waiting) == (3, 0)
            assert nano.wait_ms is not None
            assert (small.name, small.used, small.answers) == ("small", False, 0)
            assert small.circuit.partition(":")[0] in ("unhealthy", "recovering")
            assert (found.frames, found.fallbacks, found.errors) == (3, 0, 0)
            assert (found.dropped, found.streams, found.failing) == (0, 0, ())
            state, card = gateway_card(Polled(found, NOW), NOW)
            assert state == "watch"
            assert "ready, without small" in text_of(card)

    def test_one_that_answers_no_frames_states_why(self, sample_ladder: Path) -> None:
        dead = {"small": f"127.0.0.1:{closed_port()}"}
        with served(settings_of(sample_ladder, rungs=dead, always="small")) as gateway:
            found = read_gateway(gateway.url)
            assert not found.ready
            assert "no rung answers" in found.detail
            assert [(rung.name, rung.used) for rung in found.rungs] == [("small", False)]
            state, card = gateway_card(Polled(found, NOW), NOW)
            assert state == "bad"
            assert "answers no frames" in text_of(card)

    def test_figures_need_the_role(self, sample_ladder: Path, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens.jsonl"
        token = add_token(tokens, "dashboard", [Role.OPERATE])
        settings = settings_of(sample_ladder, tokens=tokens, open_access=False)
        with served(settings) as gateway:
            until(lambda: read_gateway(gateway.url).ready)
            found = read_gateway(gateway.url)
            assert "GEARSHIFT_TOKEN" in found.unread
            assert found.frames is None
            assert [rung.name for rung in found.rungs] == ["nano", "small"]
            assert read_gateway(gateway.url, token).unread == ""

    def test_no_server_and_a_foreign_server(self) -> None:
        with pytest.raises(Unavailable, match="does not answer .*gearshift up --open-access"):
            read_gateway(f"http://127.0.0.1:{closed_port()}")
        with (
            http_server({"/readyz": (200, "<html>")}) as url,
            pytest.raises(Unavailable, match="is no gateway; give its address"),
        ):
            read_gateway(url)

    @pytest.mark.parametrize(
        ("circuit", "used", "shown", "state"),
        [
            ("healthy", True, "in use", "well"),
            ("unhealthy", False, "left alone", "watch"),
            ("closed", True, "in use", "well"),
            ("closed: no answer within 1 s", True, "in use", "well"),
            ("open: connection refused", False, "left alone", "watch"),
            ("half-open", False, "being probed", "watch"),
            ("half-open: connection refused", False, "being probed", "watch"),
        ],
    )
    def test_a_circuit_is_read_without_the_reason_of_its_last_failure(
        self, circuit: str, used: bool, shown: str, state: str
    ) -> None:
        ready = json.dumps({"status": "ready", "rungs": {"nano": circuit, "small": "closed"}})
        with http_server({"/readyz": (200, ready), "/metrics": (200, "")}) as url:
            found = read_gateway(url)
        assert [(rung.name, rung.used) for rung in found.rungs] == [("nano", used), ("small", True)]
        text, card = gateway_card(Polled(found, NOW), NOW)
        assert text == state
        assert ("ready, without nano" in text_of(card)) is not used
        name, cell, *_ = rung_row(found.rungs[0])
        assert (name, cell.children[0].color == "teal") == ("nano", used)
        assert shown in text_of(cell)

    def test_unreadable_figures_do_not_hide_the_rest(self) -> None:
        ready = json.dumps({"status": "ready", "rungs": {"nano": "healthy", "small": "unhealthy"}})
        with http_server({"/readyz": (200, ready), "/metrics": (200, "a{ 1\n")}) as url:
            found = read_gateway(url)
        assert found.ready
        assert "cannot be read" in found.unread
        assert [(rung.name, rung.used) for rung in found.rungs] == [
            ("nano", True),
            ("small", False),
        ]
        with http_server({"/readyz": (200, ready), "/metrics": (500, "")}) as url:
            assert "answered 500" in read_gateway(url).unread

    def test_the_card_tells_of_trouble_in_words(self) -> None:
        rungs = (
            RungHealth("nano", True, "healthy", 0, 0.1, 5),
            RungHealth("small", True, "healthy", 0, 0.1, 0),
        )
        health = GatewayHealth(True, "", rungs, 1, 1234, 5, 0, 2, ("publish",), "")
        state, card = gateway_card(Polled(health, NOW - timedelta(seconds=4)), NOW)
        text = text_of(card)
        assert state == "watch"
        assert "ready, log failing" in text
        assert "1,234 frames answered, 5 by another rung" in text
        assert "2 without an answer" in text
        assert "Its log fails to publish." in text
        assert "Seen 4 s ago." in text
        gone = Polled(health, NOW - timedelta(minutes=5), Unavailable("the gateway is gone"))
        state, card = gateway_card(gone, NOW)
        assert state == "bad"
        assert "It last answered 5 min ago." in text_of(card)
        assert gateway_card(Polled(), NOW)[0] == gateway_card(None, NOW)[0] == "unknown"


class TestAlerts:
    @pytest.mark.promtool
    def test_a_real_prometheus_tells_what_fires(self, tmp_path: Path) -> None:
        begun = datetime.now(UTC)
        with prometheus(tmp_path) as url:
            until(lambda: len(read_prometheus(url).alerts) == 2)
            found = until(lambda: broken(url))
        assert found is not None
        firing, pending = found.alerts
        assert (firing.name, firing.state, firing.severity) == ("AlwaysThere", "firing", "critical")
        assert firing.since is not None
        assert begun - timedelta(seconds=2) <= firing.since <= datetime.now(UTC)
        assert (firing.summary, firing.labels) == ("It fires at once", "rung=nano")
        assert firing.runbook == "https://example.invalid/AlwaysThere.md"
        assert (pending.name, pending.state, pending.severity) == (
            "ComesLater",
            "pending",
            "warning",
        )
        assert pending.runbook == ""  # a link that would run a script is none
        assert (found.firing, found.rules) == (1, 4)
        assert [one.name for one in found.history][:1] in ([], ["AlwaysThere"])
        assert len(found.broken) == 1
        assert found.broken[0].startswith("CannotBe: ")
        state, card = alerts_card(Polled(found, NOW), NOW)
        assert state == "bad"  # the one that fires is critical
        assert "1 firing" in text_of(card)
        assert "4 rules evaluated, 1 pending." in text_of(card)

    def test_no_server_and_a_foreign_server(self) -> None:
        with pytest.raises(Unavailable, match="does not answer .*gearshift up --monitoring"):
            read_prometheus(f"http://127.0.0.1:{closed_port()}")
        for body in ("<html>", "[]", '{"status": "error"}', '{"status": "success", "data": {}}'):
            with (
                http_server({"/api/v1/alerts": (200, body)}) as url,
                pytest.raises(Unavailable, match="is no Prometheus; give its address"),
            ):
                read_prometheus(url)

    def test_what_fired_in_the_last_day(self) -> None:
        now = int(datetime.now(UTC).timestamp()) // 60 * 60
        fired = [now - 7200, now - 7140, now - 7080, now - 60, now]
        labels = {
            "__name__": "ALERTS",
            "alertname": "Slow",
            "alertstate": "firing",
            "severity": "warning",
            "rung": "nano",
        }
        series = {"metric": labels, "values": [[time, "1"] for time in fired]}
        answers = {
            "/api/v1/alerts": (200, '{"status": "success", "data": {"alerts": []}}'),
            "/api/v1/rules": (200, '{"status": "success", "data": {"groups": []}}'),
        }
        with http_server(answers) as url:
            assert read_prometheus(url).history == ()  # it keeps no series
        reported = json.dumps({"status": "success", "data": {"result": [series]}})
        with http_server(answers | {"/api/v1/query_range": (200, reported)}) as url:
            newest, earlier = read_prometheus(url).history
        assert (newest.name, newest.severity, newest.labels) == ("Slow", "warning", "rung=nano")
        assert (newest.begin.timestamp(), newest.end) == (now - 60, None)
        assert earlier.end is not None
        assert (earlier.begin.timestamp(), earlier.end.timestamp()) == (now - 7200, now - 7080)

    def test_the_card_by_what_fires(self) -> None:
        def state_of(*alerts: Alert, **fields: object) -> str:
            known = Polled(AlertState(alerts, 4, ()), NOW, **fields)  # type: ignore[arg-type]  # a failure or nothing
            return alerts_card(known, NOW)[0]

        def alert(state: str, severity: str) -> Alert:
            return Alert("A", state, severity, None, "", "", "", "")

        assert state_of() == "well"
        assert state_of(alert("pending", "critical")) == "well"
        assert state_of(alert("firing", "warning")) == "watch"
        assert state_of(alert("firing", "warning"), alert("firing", "critical")) == "bad"
        assert state_of(failure=Unavailable("gone")) == "watch"  # old news are no good news
        assert alerts_card(Polled(failure=Unavailable("gone")), NOW)[0] == "bad"
        assert alerts_card(None, NOW)[0] == alerts_card(Polled(), NOW)[0] == "unknown"


def broken(url: str) -> AlertState | None:
    found = read_prometheus(url)
    return found if found.broken else None


def a_row(event_id: str, time: datetime) -> PredictionRow:
    return PredictionRow(event_id=event_id, time=time, source="stream")


class TestLog:
    def test_nothing_was_logged(self, tmp_path: Path) -> None:
        assert read_log_health(open_place(str(tmp_path / "log"))) == LogHealth(None, 0, 0, 0, 0)

    def test_rows_of_journals_and_of_parts_count(self, tmp_path: Path) -> None:
        place = open_place(str(tmp_path))
        with PredictionLog(LogConfig(str(tmp_path), flush_seconds=0.02)) as log:
            log.append(a_row("a", NOW - timedelta(minutes=3)))
            log.append(a_row("b", NOW))
            log.append(a_row("c", NOW - timedelta(minutes=1)))
            until(lambda: log.status.stored == 3)
            found = read_log_health(place, NOW)
            assert found.newest == NOW
            assert found.journals == 1
            assert found.backlog_bytes == log.status.backlog_bytes > 0
        assert list(tmp_path.rglob("*.parquet"))
        assert read_log_health(place, NOW) == LogHealth(NOW, 0, 0, 0, 0)
        # Also long after, when no recent hour has a part.
        assert read_log_health(place, NOW + timedelta(days=30)).newest == NOW

    def test_what_waits_and_what_is_damaged_is_counted(self, tmp_path: Path) -> None:
        place = open_place(str(tmp_path))
        (place.journal / "predictions").mkdir(parents=True)
        (place.journal / "predictions" / "a-1.journal.damaged").write_bytes(b"x")
        spool_session(place, summary())
        found = read_log_health(place, NOW)
        assert (found.damaged, found.sessions) == (1, 1)
        assert log_card(Polled(found, NOW), NOW)[0] == "bad"

    def test_a_part_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        place = open_place(str(tmp_path))
        part = tmp_path / "predictions/date=2026-11-21/hour=12/part-a-1.parquet"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"no parquet")
        with pytest.raises(StorageError, match="part-a-1.parquet .* restore or remove it"):
            read_log_health(place, NOW)

    def test_the_card_by_age(self) -> None:
        def shown(newest: datetime | None, failure: StorageError | None = None) -> tuple[str, str]:
            known = Polled(LogHealth(newest, 2, 3_400_000, 0, 1), NOW, failure)
            state, card = log_card(known, NOW)
            return state, text_of(card)

        assert shown(NOW - timedelta(seconds=20))[0] == "well"
        state, text = shown(NOW - timedelta(minutes=10))
        assert state == "watch"
        assert "newest row 10 min ago" in text
        assert "2 journals, 3.4 MB" in text
        state, text = shown(None)
        assert state == "unknown"
        assert "Start gearshift up" in text
        state, text = shown(NOW, StorageError("the log cannot be listed"))
        assert state == "watch"
        assert "The log cannot be listed" in text
        assert log_card(Polled(failure=StorageError("no")), NOW)[0] == "bad"
        assert log_card(Polled(), NOW)[0] == "unknown"


def summary() -> SessionSummary:
    from inference_graph.gateway.session_stats import SessionStats

    return SessionStats("s", "c").summary("", 0.1, None)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s ago"),
        (0, "0 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7199, "119 min ago"),
        (7200, "2 h ago"),
        (172_800, "2 d ago"),
    ],
)
def test_how_long_ago(seconds: float, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words
