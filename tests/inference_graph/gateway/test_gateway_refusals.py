"""Who is refused: what the service's log tells of it, and when an address has to wait."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_samples import Served, gateway_settings, served

from foundation.errors import AccessError, Forbidden, TooManyRequests
from inference_graph.gateway.access import Role, TokenAccess, add_token, digest_of
from inference_graph.gateway.refusals import Refusals


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def made(tmp_path: Path) -> tuple[TokenAccess, str]:
    token = add_token(tmp_path / "tokens.jsonl", "robot-7", ["stream"])
    return TokenAccess(tmp_path / "tokens.jsonl"), token


def test_a_refusal_is_reported_without_its_token(
    made: tuple[TokenAccess, str], caplog: pytest.LogCaptureFixture
) -> None:
    access, token = made
    refusals = Refusals(access, 30)
    with caplog.at_level(logging.WARNING, "gearshift.access"):
        with pytest.raises(AccessError):
            refusals.check(bearer("gs_removed"), Role.STREAM, "192.0.2.7")
        with pytest.raises(Forbidden):
            refusals.check(bearer(token), Role.OPERATE, "192.0.2.7")
        with pytest.raises(AccessError):
            refusals.check({}, Role.WATCH, "192.0.2.8")
        assert refusals.check(bearer(token), Role.STREAM, "192.0.2.7").name == "robot-7"
    assert [one.getMessage() for one in caplog.records] == [
        f"refused 401: 192.0.2.7, token {digest_of('gs_removed')[:12]}, asked for stream: the "
        "token is not known; ask the operator for one",
        f"refused 403: 192.0.2.7, token {digest_of(token)[:12]}, asked for operate: the token "
        "robot-7 has the role stream; this needs the role operate",
        "refused 401: 192.0.2.8, no token, asked for watch: no token given; send the header "
        "Authorization: Bearer TOKEN",
    ]
    assert "gs_removed" not in caplog.text and token not in caplog.text


def test_who_guesses_on_waits_and_a_good_token_never_does(made: tuple[TokenAccess, str]) -> None:
    access, token = made
    refusals = Refusals(access, 3)
    for _ in range(3):
        with pytest.raises(AccessError):
            refusals.check(bearer("guess"), Role.STREAM, "192.0.2.7")
    with pytest.raises(TooManyRequests, match=r"unknown tokens from 192\.0\.2\.7; try again in"):
        refusals.check(bearer("guess"), Role.STREAM, "192.0.2.7")
    with pytest.raises(AccessError):
        refusals.check(bearer("guess"), Role.STREAM, "192.0.2.8")
    # Behind a proxy many share an address: what is known is let in, or answered what it lacks.
    assert refusals.check(bearer(token), Role.STREAM, "192.0.2.7").name == "robot-7"
    with pytest.raises(Forbidden):
        refusals.check(bearer(token), Role.OPERATE, "192.0.2.7")
    # A stream that was let in ends with what is wrong with its token, not with a pause.
    with pytest.raises(AccessError, match="not known"):
        refusals.check(bearer("removed"), Role.STREAM, "192.0.2.7", known=True)


def test_a_flood_does_not_fill_the_log(
    made: tuple[TokenAccess, str], caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals(made[0], 1e6)
    with caplog.at_level(logging.WARNING, "gearshift.access"):
        for number in range(500):
            with pytest.raises(AccessError):
                refusals.check(bearer("guess"), Role.STREAM, f"address {number}")
    assert 60 <= len(caplog.records) < 80


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Served]:
    add_token(tmp_path / "tokens.jsonl", "robot-7", ["stream"])
    settings = gateway_settings(
        open_access=False, tokens=tmp_path / "tokens.jsonl", refusals_per_minute=2
    )
    with served(settings) as gateway:
        yield gateway


def test_the_gateway_believes_its_proxy_about_the_address(guarded: Served) -> None:
    def asked(address: str) -> tuple[int, str]:
        headers = bearer("guess") | {"x-forwarded-for": address}
        answer = guarded.http.get("/metrics", headers=headers)
        return answer.status_code, answer.headers.get("retry-after", "")

    assert [asked("192.0.2.7") for _ in range(3)] == [(401, ""), (401, ""), (429, "1")]
    assert asked("192.0.2.8") == (401, "")
