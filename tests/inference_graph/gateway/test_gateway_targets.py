"""What names a detector service: the forms of gRPC, with a port and perhaps a model."""

from __future__ import annotations

import asyncio

import pytest

from foundation.errors import ConfigurationError
from inference_graph.gateway.rungs import open_rung
from inference_graph.gateway.targets import read_target


@pytest.mark.parametrize(
    ("text", "address", "model"),
    [
        ("127.0.0.1:8081", "127.0.0.1:8081", None),
        ("small-canary-predictor:8081/small-canary", "small-canary-predictor:8081", "small-canary"),
        ("[::1]:8081", "[::1]:8081", None),
        ("[fe80::1%eth0]:8081/m", "[fe80::1%eth0]:8081", "m"),
        ("dns:///nano-pods:8081", "dns:///nano-pods:8081", None),
        ("dns:///nano-pods.gearshift.svc:8081/nano", "dns:///nano-pods.gearshift.svc:8081", "nano"),
        ("dns:nano-pods:8081", "dns:nano-pods:8081", None),
        ("dns://10.0.0.10/nano-pods:8081/nano", "dns://10.0.0.10/nano-pods:8081", "nano"),
        ("ipv4:10.0.0.1:8081,10.0.0.2:8081", "ipv4:10.0.0.1:8081,10.0.0.2:8081", None),
        ("ipv6:[::1]:8081/m", "ipv6:[::1]:8081", "m"),
        ("unix:/run/nano.sock", "unix:/run/nano.sock", None),
        ("unix:///run/nano.sock", "unix:///run/nano.sock", None),
        ("unix-abstract:nano", "unix-abstract:nano", None),
    ],
)
def test_services(text: str, address: str, model: str | None) -> None:
    found = read_target("nano", text)
    assert (found.address, found.model) == (address, model)

    async def opened() -> tuple[str, str]:
        rung = open_rung("nano", text)
        reported = rung.target, rung._channel.model  # type: ignore[attr-defined]
        await rung.close()
        return reported

    assert asyncio.run(opened()) == (address, model or "nano")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nano",
        "nano:",
        ":8081",
        "nano:http",
        "nano:0",
        "nano:65536",
        "nano:8081/",
        "nano:8081/a/b",
        "nano 8081:1",
        "http://nano:8081",
        "dns:///nano-pods",
        "dns:8081",
        "dns:///nano-pods:8081,other:8081",
        "dns://nano-pods:8081",
        "ipv4:10.0.0.1",
        "ipv4:10.0.0.1:1,10.0.0.2:99999",
        "::1:8081",
        "unix:",
        "weights.pt",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the target of nano is .*; give HOST:PORT"):
        read_target("nano", text)
