"""A gateway that takes frames from Kafka as well."""

from __future__ import annotations

from dataclasses import replace

from foundation.errors import ConfigurationError
from inference_graph.gateway.runtime import Runtime
from inference_graph.gateway.server import Background
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.streams.broker import kafka
from inference_graph.streams.config import KafkaConfig, client_options
from inference_graph.streams.worker import StreamWorker


def with_kafka(
    settings: GatewaySettings, config: KafkaConfig
) -> tuple[GatewaySettings, Background | None]:
    """Settings of a gateway and its background work; no work where no broker is named.

    Args:
        settings: of the gateway.
        config: topics and brokers.

    Raises:
        ConfigurationError: a secret, the key of event ids or the client library is missing.
    """
    if not config.bootstrap:
        return settings, None
    if settings.event_key is None:
        # Ids that any client can make are no proof that an answer was given.
        if config.feedback or not settings.open_access:
            raise ConfigurationError(
                "frames from Kafka have the same event id at each delivery; set "
                "$GEARSHIFT_EVENT_KEY to a secret that all workers of the group share"
            )
        settings = replace(settings, event_key=f"group {config.group}")
    kafka()
    client_options(config)

    async def work(runtime: Runtime) -> None:
        await StreamWorker(config, runtime).run()

    return settings, work
