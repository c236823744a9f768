"""A gRPC target with several addresses: each takes its turn, and none of the calls is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest
from processes import closed_port

from serving_kit import inference_protocol
from serving_kit.inference_protocol import InferenceChannel
from serving_kit.kserve_protobuf import messages


async def serve(address: str, answered: Counter[str]) -> Any:
    """A server that is ready, and counts who asks."""

    async def ready(request: Any, context: Any) -> Any:
        answered[address] += 1
        return messages.ModelReadyResponse(ready=True)

    handler = grpc.unary_unary_rpc_method_handler(
        ready,
        request_deserializer=messages.ModelReadyRequest.FromString,
        response_serializer=messages.ModelReadyResponse.SerializeToString,
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    name = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, {"ModelReady": handler}),)
    )
    server.add_insecure_port(address)
    await server.start()
    return server


@pytest.mark.parametrize("several", [True, False])
def test_every_address_takes_its_turn(several: bool) -> None:
    port = closed_port()
    addresses = [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]

    async def reported() -> Counter[str]:
        answered: Counter[str] = Counter()
        servers = [await serve(one, answered) for one in addresses]
        target = f"ipv4:{','.join(addresses)}" if several else addresses[0]
        channel = InferenceChannel("nano", target)
        while set(answered) != set(addresses if several else addresses[:1]):
            assert await channel.ready(30)
        answered.clear()
        for _ in range(40):
            assert await channel.ready(30)
        await channel.close()
        for server in servers:
            await server.stop(None)
        return answered

    expected = {one: 20 for one in addresses} if several else {addresses[0]: 40}
    assert asyncio.run(reported()) == expected


def test_a_connection_that_is_renewed_loses_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_protocol, "RENEW_SECONDS", 0.005)
    address = f"127.0.0.1:{closed_port()}"

    async def asked() -> tuple[int, int]:
        answered: Counter[str] = Counter()
        server = await serve(address, answered)
        channel = InferenceChannel("nano", f"ipv4:{address}")

        async def one_after_another() -> int:
            # Dozens of connections come and go meanwhile, some with calls under way.
            return sum([await channel.ready(30) for _ in range(150)])

        answers = sum(await asyncio.gather(*(one_after_another() for _ in range(4))))
        await channel.close()
        await server.stop(None)
        return answers, answered[address]

    assert asyncio.run(asked()) == (600, 600)
