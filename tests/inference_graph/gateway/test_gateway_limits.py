from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from gateway_samples import jpeg

from feature_transformer.image import DecodeLimits
from foundation.errors import (
    ConfigurationError,
    ImageError,
    InvalidInput,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    UnsupportedMedia,
)
from inference_graph.gateway.event_ids import EventIds
from inference_graph.gateway.limits import RateLimiter, check_image, read_body
from inference_graph.gateway.session_stats import Latencies, SessionStats
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.gateway.shadow import sampled


def test_the_rate_by_hand() -> None:
    limiter = RateLimiter(2.0)  # two at once, then one every half second
    assert [limiter.wait("a", 10.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limiter.wait("b", 10.0) == 0.0  # everybody has their own
    assert limiter.wait("a", 10.25) == pytest.approx(0.25)
    assert limiter.wait("a", 10.5) == 0.0
    assert [limiter.wait("a", 99.0) for _ in range(3)] == [0.0, 0.0, 0.5]  # no credit piles up


def test_a_slow_rate_allows_one_at_once() -> None:
    limiter = RateLimiter(0.1)
    assert [limiter.wait("a", 0.0), limiter.wait("a", 0.0)] == [0.0, 10.0]
    with pytest.raises(TooManyRequests, match=r"a sent more than 0\.1 pears per second; come back"):
        for _ in range(2):
            limiter.take("a", "pears")


def test_a_limiter_forgets_those_longest_silent() -> None:
    limiter = RateLimiter(1.0)
    for number in range(10_050):
        limiter.wait(str(number), 0.0)
    assert len(limiter._levels) == 10_000
    assert "49" not in limiter._levels


def test_an_image_by_its_header() -> None:
    data = jpeg()
    assert check_image(data, DecodeLimits()).format == "jpeg"
    with pytest.raises(PayloadTooLarge, match="bytes"):
        check_image(data, DecodeLimits(max_bytes=len(data) - 1))
    with pytest.raises(PayloadTooLarge, match="128x96"):
        check_image(data, DecodeLimits(max_pixels=128 * 96 - 1))
    with pytest.raises(UnsupportedMedia, match="jpeg images are not accepted"):
        check_image(data, DecodeLimits(formats=("png",)))
    with pytest.raises(ImageError):
        check_image(b"", DecodeLimits())


async def chunks(*pieces: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(pause)
        yield piece


def body(
    *pieces: bytes, headers: Mapping[str, str] | None = None, pause: float = 0.0, seconds: float = 5
) -> bytes:
    return asyncio.run(read_body(chunks(*pieces, pause=pause), headers or {}, 10, seconds))


def test_a_body_within_its_limit() -> None:
    assert body(b"12345", b"", b"67890") == b"1234567890"
    assert body() == b""
    assert body(b"12", headers={"content-length": "2"}) == b"12"


def test_a_body_beyond_its_limit() -> None:
    with pytest.raises(PayloadTooLarge, match="10 bytes"):
        body(b"12345", b"678901")
    for declared in ("11", "99999999999999999999"):
        with pytest.raises(PayloadTooLarge):
            body(headers={"content-length": declared})
    for declared in ("-1", "ten", "", "1.5", "²"):
        with pytest.raises(InvalidInput, match="content-length"):
            body(headers={"content-length": declared})
    with pytest.raises(RequestTimeout, match=r"within 0\.05 s"):
        body(b"1", b"2", pause=0.5, seconds=0.05)


def test_event_ids_know_their_own() -> None:
    ids = EventIds("secret")
    made = [ids.make() for _ in range(200)]
    assert len(set(made)) == 200
    assert all(len(event_id) == 32 and ids.knows(event_id) for event_id in made)
    assert EventIds("secret").knows(made[0])  # after a restart with the same key
    for other in (EventIds(), EventIds("other")):
        assert not other.knows(made[0])
    changed = ("0" if made[0][0] != "0" else "1") + made[0][1:]
    for wrong in (changed, made[0][:-1], made[0] + "0", "", "é" * 32):
        assert not ids.knows(wrong)


def test_sampling_takes_its_share_and_does_not_waver() -> None:
    ids = [f"event-{number}" for number in range(20_000)]
    share = np.mean([sampled(event_id, 0.1) for event_id in ids])
    assert share == pytest.approx(0.1, abs=0.01)
    assert not any(sampled(event_id, 0.0) for event_id in ids)
    assert all(sampled(event_id, 1.0) for event_id in ids)


def test_quantiles_are_within_a_bins_width() -> None:
    times = np.random.default_rng(0).lognormal(3.0, 0.8, 5000)
    latencies = Latencies()
    for spent in times:
        latencies.add(float(spent))
    assert latencies.count == 5000
    assert latencies.mean() == pytest.approx(times.mean())
    for share in (0.01, 0.5, 0.95, 0.99):
        assert latencies.quantile(share) == pytest.approx(
            np.percentile(times, share * 100), rel=0.02
        )
    empty = Latencies()
    assert (empty.mean(), empty.quantile(0.5)) == (None, None)
    for extreme in (0.0, -1.0, 1e12):
        latencies.add(extreme)


def test_a_session_by_hand() -> None:
    stats = SessionStats("s", "cam")
    stats.answered("nano", "", 10.0)
    stats.answered("nano", "late", 20.0)
    stats.answered("large", "", 60.0)
    stats.agreed(0.5)
    stats.agreed(1.0)
    stats.dropped = 4
    summary = stats.summary("abc", 0.1, reference_ms=120.0)
    assert (summary.frames, summary.dropped, summary.fallbacks) == (3, 4, 1)
    assert summary.shares == {"nano": 2 / 3, "small": 0.0, "large": 1 / 3}
    assert summary.latency_mean_ms == pytest.approx(30.0)
    assert summary.latency_p50_ms == pytest.approx(20.0, rel=0.01)
    assert summary.latency_p95_ms == pytest.approx(60.0, rel=0.01)
    assert summary.savings == pytest.approx(1 - 30 / 120)
    assert (summary.shadow_frames, summary.agreement_mean) == (2, 0.75)
    assert summary.ended >= summary.started
    nothing = SessionStats("s", "cam").summary("", None, None)
    assert (nothing.latency_mean_ms, nothing.savings, nothing.agreement_mean) == (None, None, None)
    assert set(nothing.shares.values()) == {0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rungs": {}}, "rungs names nothing"),
        ({"rungs": {"medium": "a:1"}}, "medium"),
        ({"always": "large"}, "none of the rungs given"),
        ({"always": None}, "no policy"),
        ({"open_access": False}, "tokens file or open_access"),
        ({"tokens": Path("t")}, "tokens file or open_access"),
        ({"host": "0.0.0.0"}, r"open_access on 0\.0\.0\.0"),
        ({"host": "example.org"}, "open_access"),
        ({"formats": ()}, "formats"),
        ({"formats": ("gif",)}, "gif"),
        ({"latency_weight": float("nan")}, "latency_weight"),
        ({"port": 70_000}, "port"),
        ({"shadow_share": 1.5}, "shadow_share"),
        ({"hedge_share": 0.0}, "hedge_share"),
        ({"deadline_ms": float("nan")}, "deadline_ms"),
        ({"deadline_ms": 20_000.0}, "max_deadline_ms"),
        ({"max_body": 0}, "max_body"),
        ({"idle_seconds": 0.0}, "idle_seconds"),
        ({"breaker_failures": 0}, "breaker_failures"),
    ],
)
def test_settings_that_cannot_be(options: dict, message: str) -> None:
    given = {"rungs": {"nano": "a:1"}, "always": "nano", "open_access": True} | options
    with pytest.raises(ConfigurationError, match=message):
        GatewaySettings(**given)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_open_access_on_loopback(host: str) -> None:
    GatewaySettings(rungs={"nano": "a:1"}, always="nano", open_access=True, host=host)


def test_a_secret_does_not_show() -> None:
    settings = GatewaySettings({"nano": "a:1"}, always="nano", open_access=True, event_key="hush")
    assert "hush" not in repr(settings)
