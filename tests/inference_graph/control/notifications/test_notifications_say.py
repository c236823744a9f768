from __future__ import annotations

import pytest
from webhook_server import webhook_server

from foundation.errors import ConfigurationError
from inference_graph.control.notifications.say import main, say


def test_a_ci_tells_how_a_job_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with webhook_server() as server:
        monkeypatch.setenv("GEARSHIFT_WEBHOOK", f"{server.url}/hook")
        given = [
            "Tests: failure",
            "--level",
            "failure",
            "--link",
            "http://ci/1",
            "--field",
            "by=me",
        ]
        assert main(given) == 0
        (reported,) = server.wait(1)
    assert capsys.readouterr().out == "sent to webhook\n"
    assert reported.body | {"time": ""} == {
        "version": 1,
        "source": "gearshift",
        "kind": "pipeline",
        "level": "critical",
        "title": "Tests: failure",
        "text": "",
        "fields": {"by": "me"},
        "link": "http://ci/1",
        "time": "",
    }


def test_without_a_webhook_nothing_is_sent() -> None:
    assert say("Tests: success", "success", environ={}) == ()


def test_what_cannot_be_known() -> None:
    with pytest.raises(ConfigurationError, match="level is 'fine'; give one of good"):
        say("Tests", "fine", environ={})
    with pytest.raises(ConfigurationError, match="title is empty"):
        say(" ", "good", environ={})


def test_a_field_without_a_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Tests", "--field", "by"]) == 1
    assert "by" in capsys.readouterr().err
