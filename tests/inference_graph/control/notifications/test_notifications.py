"""Messages on their way to a real server that fails, dawdles, refuses and sends elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from webhook_server import WebhookServer, webhook_server

from foundation.errors import ConfigurationError, InvalidInput, Unavailable, WebhookRefused
from inference_graph.control.notifications.alerts import AlertBook, ReceivedAlert, read_alerts
from inference_graph.control.notifications.message import Message, generic_body, slack_body
from inference_graph.control.notifications.receiver import build_receiver
from inference_graph.control.notifications.sender import Delivery, Sender, deliver
from inference_graph.control.notifications.trial import send_trial, trial_text
from inference_graph.control.notifications.webhooks import Webhook, webhooks_of

SECRET = "s3cr3t-T0K3N"
QUICK = Delivery(attempts=3, timeout_seconds=5, pause_seconds=0.01)
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MESSAGE = Message("alert", "critical", "small <down>", "a & b", {"rung": "small"}, time=NOON)


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with webhook_server() as running:
        yield running


def generic(server: WebhookServer) -> Webhook:
    environ = {
        "GEARSHIFT_WEBHOOK": f"{server.url}/{SECRET}",
        "GEARSHIFT_WEBHOOK_TOKEN": f"b-{SECRET}",
    }
    (webhook,) = webhooks_of(environ)
    return webhook


def slack(server: WebhookServer) -> Webhook:
    (webhook,) = webhooks_of({"GEARSHIFT_SLACK_WEBHOOK": f"{server.url}/services/{SECRET}"})
    return webhook


class TestForms:
    def test_plain_json(self, server: WebhookServer) -> None:
        generic(server).post(MESSAGE, 10)
        (sent,) = server.received
        assert sent.path == f"/{SECRET}"
        assert sent.headers["authorization"] == f"Bearer b-{SECRET}"
        assert sent.headers["content-type"] == "application/json"
        assert sent.body == {
            "version": 1,
            "source": "gearshift",
            "kind": "alert",
            "level": "critical",
            "title": "small <down>",
            "text": "a & b",
            "fields": {"rung": "small"},
            "link": "",
            "time": "2026-11-21T12:00:00+00:00",
        }

    def test_slack(self, server: WebhookServer) -> None:
        slack(server).post(MESSAGE, 10)
        (sent,) = server.received
        assert "authorization" not in sent.headers
        assert sent.body["text"] == "small &lt;down&gt;"
        (attachment,) = sent.body["attachments"]
        assert attachment["color"] == "#c62828"
        assert attachment["text"] == "a &amp; b"
        assert attachment["fields"] == [{"title": "rung", "value": "small", "short": True}]
        assert attachment["ts"] == NOON.timestamp()

    def test_links(self) -> None:
        web = slack_body(replace(MESSAGE, link="https://runbooks/x.md"))["attachments"][0]
        assert web["title_link"] == "https://runbooks/x.md"
        path = slack_body(replace(MESSAGE, link="manifests/x.md"))["attachments"][0]
        assert "title_link" not in path and path["text"].endswith("\nmanifests/x.md")

    def test_a_long_text_is_cut(self) -> None:
        body = slack_body(replace(MESSAGE, text="x" * 10_000))
        assert len(body["attachments"][0]["text"]) == 3000
        assert generic_body(replace(MESSAGE, text="x" * 10_000))["text"] == "x" * 10_000


class TestDelivery:
    def test_again_after_500(self, server: WebhookServer) -> None:
        server.statuses = [500, 429]
        pauses: list[float] = []
        deliver(generic(server), MESSAGE, QUICK, pauses.append)
        assert len(server.received) == 3
        assert len({json.dumps(one.body) for one in server.received}) == 1
        assert pauses == [0.01, 0.02]

    def test_pauses_double_up_to_the_longest(self, server: WebhookServer) -> None:
        server.statuses = [503] * 5
        pauses: list[float] = []
        delivery = Delivery(attempts=6, pause_seconds=10, longest_pause_seconds=45)
        deliver(generic(server), MESSAGE, delivery, pauses.append)
        assert pauses == [10, 20, 40, 45, 45]

    def test_never_taken(self, server: WebhookServer) -> None:
        server.statuses = [500, 502, 503]
        with pytest.raises(Unavailable) as reported:
            deliver(generic(server), MESSAGE, QUICK)
        assert str(reported.value) == "the address in GEARSHIFT_WEBHOOK answered 503, tried 3 times"

    @pytest.mark.parametrize("status", [400, 403, 404, 410, 302])
    def test_what_is_refused_is_not_sent_again(self, server: WebhookServer, status: int) -> None:
        server.statuses = [status]
        with pytest.raises(WebhookRefused, match=f"GEARSHIFT_SLACK_WEBHOOK answered {status}"):
            deliver(slack(server), MESSAGE, QUICK)
        assert [one.path for one in server.received] == [f"/services/{SECRET}"]

    def test_a_webhook_that_does_not_answer(self, server: WebhookServer) -> None:
        server.slow.set()
        quick = replace(QUICK, attempts=2, timeout_seconds=0.3)
        with pytest.raises(Unavailable, match=r"does not answer \(TimeoutError\), tried 2 times"):
            deliver(generic(server), MESSAGE, quick)

    def test_no_server_there(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))  # bound, without a listener
            url = f"http://127.0.0.1:{probe.getsockname()[1]}/{SECRET}"
            (webhook,) = webhooks_of({"GEARSHIFT_WEBHOOK": url})
            with pytest.raises(Unavailable, match="ConnectionRefusedError"):
                deliver(webhook, MESSAGE, QUICK)


class TestSecrets:
    @pytest.mark.parametrize(
        "address",
        [
            f"htps://{SECRET}",
            SECRET,
            f"https:///{SECRET}",
            f"https://hooks/{SECRET} x",
            f"https://hooks:port/{SECRET}",
            f"https://hooks/{SECRET}\u00e9",
        ],
    )
    def test_a_wrong_address_is_refused_without_being_shown(self, address: str) -> None:
        with pytest.raises(ConfigurationError) as reported:
            webhooks_of({"GEARSHIFT_SLACK_WEBHOOK": address})
        assert "GEARSHIFT_SLACK_WEBHOOK" in str(reported.value)
        assert SECRET not in str(reported.value)

    def test_nothing_tells_them(
        self, server: WebhookServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        webhook = generic(server)
        assert SECRET not in repr(webhook)
        server.statuses = [500, 404, 500, 200]
        for _ in range(2):
            try:
                deliver(webhook, MESSAGE, QUICK)
            except WebhookRefused as error:
                assert SECRET not in "".join(traceback.format_exception(error))
        unreachable = replace(webhook, url=f"http://no-such-host.invalid/{SECRET}")
        with pytest.raises(Unavailable) as reported:
            deliver(unreachable, MESSAGE, QUICK)
        assert SECRET not in "".join(traceback.format_exception(reported.value))
        sender = Sender([unreachable], QUICK)
        sender.send(MESSAGE)
        assert sender.close(60) == 1
        assert "was not sent" in caplog.text
        assert SECRET not in caplog.text

    def test_what_is_not_set(self) -> None:
        assert webhooks_of({}) == ()
        assert webhooks_of({"GEARSHIFT_WEBHOOK": " "}) == ()


class TestSender:
    def test_one_that_hangs_holds_up_neither_the_caller_nor_the_other(
        self, server: WebhookServer
    ) -> None:
        with webhook_server() as other:
            server.slow.set()
            sender = Sender([generic(server), slack(other)], replace(QUICK, waiting=5))
            begun = time.monotonic()
            for number in range(50):
                sender.send(replace(MESSAGE, title=f"m{number}"))
                if number < 5:
                    other.wait(number + 1)
            assert time.monotonic() - begun < 60
            server.slow.clear()
            lost = sender.close(60)
        titles = [one.body["title"] for one in server.received]
        # One is at work, five wait, and the other forty-four are let go; the same at the other
        # server at most.
        assert titles == [f"m{number}" for number in range(len(titles))] and len(titles) in (5, 6)
        assert 44 <= lost <= 44 + 45

    def test_without_a_webhook(self) -> None:
        sender = Sender([])
        sender.send(MESSAGE)
        assert sender.close(1) == 0


def alert(ends: datetime | None, starts: datetime = NOON, **labels: str) -> ReceivedAlert:
    named = {"alertname": "GearshiftRungDown", "severity": "critical", "rung": "small", **labels}
    notes = {"summary": "small is left alone", "description": "why", "runbook_url": "https://r"}
    return ReceivedAlert(labels=named, annotations=notes, startsAt=starts, endsAt=ends)


class TestAlerts:
    def test_reported_once_when_it_begins_and_once_when_it_is_over(self) -> None:
        book = AlertBook()
        soon = timedelta(minutes=4)
        reported = [
            book.news([alert(NOON + soon)], NOON),
            book.news([alert(NOON + 2 * soon)], NOON + soon / 2),
            book.news([alert(NOON + soon, rung="nano")], NOON + soon / 2),
            book.news([alert(NOON + soon)], NOON + soon),
            book.news([alert(NOON + soon)], NOON + soon),
        ]
        assert [[one.title for one in each] for each in reported] == [
            ["small is left alone"],
            [],
            ["small is left alone"],
            ["Resolved: small is left alone"],
            [],
        ]
        first, over = reported[0][0], reported[3][0]
        assert (first.level, over.level) == ("critical", "good")
        assert first.fields == {
            "alert": "GearshiftRungDown",
            "state": "firing",
            "severity": "critical",
            "rung": "small",
            "since": "2026-11-21T12:00:00+00:00",
        }
        assert (first.text, first.link, over.text) == ("why", "https://r", "")

    def test_what_goes_on_is_reported_again_after_four_hours(self) -> None:
        book = AlertBook()
        counts = [
            len(book.news([alert(None)], NOON + timedelta(hours=hours)))
            for hours in (0, 1, 3.9, 4, 5, 8)
        ]
        assert counts == [1, 0, 0, 1, 0, 1]

    def test_one_that_begins_anew(self) -> None:
        book = AlertBook()
        later = NOON + timedelta(minutes=30)
        assert len(book.news([alert(None)], NOON)) == 1
        assert len(book.news([alert(None, later)], later)) == 1

    def test_an_end_without_a_notice(self) -> None:
        assert AlertBook().news([alert(NOON)], NOON) == []

    def test_alertmanagers_webhook(self) -> None:
        body = {
            "version": "4",
            "status": "firing",
            "receiver": "gearshift",
            "alerts": [
                {
                    "status": "firing",
                    "labels": {"alertname": "A"},
                    "annotations": {},
                    "startsAt": "2026-11-21T12:00:00Z",
                    "endsAt": "0001-01-01T00:00:00Z",
                    "fingerprint": "x",
                }
            ],
        }
        (read,) = read_alerts(json.dumps(body).encode())
        assert not read.over(NOON)
        (message,) = AlertBook().news([read], NOON)
        assert (message.title, message.level) == ("A", "warning")

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[1]", b'[{"labels": {}}]', b'{"alerts": 1}', b"[" * 100_000]
    )
    def test_what_is_none(self, body: bytes) -> None:
        with pytest.raises(InvalidInput, match="no alerts as Prometheus sends them") as reported:
            read_alerts(body)
        assert "\n" not in str(reported.value) and len(str(reported.value)) < 300


def test_the_receiver() -> None:
    sent: list[Message] = []
    body = json.dumps([alert(None).model_dump(mode="json")]).encode()
    posts = (
        ("/api/v2/alerts", body),
        ("/api/v2/alerts", body),
        ("/api/v2/alerts", b"x"),
        ("/webhook", b" " * (4 * 1024 * 1024 + 1)),
    )

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(build_receiver(sent.append))
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            answers = [await client.post(path, content=content) for path, content in posts]
            return [*answers, await client.get("/healthz")]

    answers = asyncio.run(ask())
    assert [one.status_code for one in answers] == [200, 200, 400, 413, 200]
    assert [one.title for one in sent] == ["small is left alone"]
    assert "no alerts as Prometheus sends them" in answers[2].json()["error"]


class TestTrial:
    def test_dry_run_sends_nothing_and_shows_both_forms(self, server: WebhookServer) -> None:
        environ = {
            "GEARSHIFT_WEBHOOK": f"{server.url}/{SECRET}",
            "GEARSHIFT_WEBHOOK_TOKEN": SECRET,
        }
        trials = send_trial(True, environ)
        assert server.received == []
        assert [(one.webhook, one.configured, one.sent) for one in trials] == [
            ("slack", False, False),
            ("webhook", True, False),
        ]
        text = trial_text(trials)
        assert SECRET not in text
        assert (
            "would be sent to slack, the address in GEARSHIFT_SLACK_WEBHOOK, which is not" in text
        )
        assert "Authorization: Bearer (what GEARSHIFT_WEBHOOK_TOKEN holds)" in text

    def test_what_is_shown_is_what_is_sent(self, server: WebhookServer) -> None:
        (trial,) = send_trial(False, {"GEARSHIFT_SLACK_WEBHOOK": server.url})
        assert server.received[0].body == trial.body
        assert trial.sent

    def test_nothing_set(self) -> None:
        with pytest.raises(ConfigurationError, match="no webhook is set; put its address into"):
            send_trial(False, {})
