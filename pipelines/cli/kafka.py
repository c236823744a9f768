"""``gearshift kafka``: frames from Kafka topics, answered onto a topic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import KEPT_FOLDER, READ
from pipelines.cli.console import Json, Ladder, announcing, configured_by, group, option

kafka = group("Answer frames that cameras publish to Kafka.")


@kafka.command("route")
@configured_by("inference_graph.streams.config:KafkaConfig")
def kafka_route(
    config: Any,
    policy: Annotated[Path | None, option(help="The policy's ONNX file."), READ] = None,
    always: Annotated[
        str | None, option(help="Use this rung for every frame and ask no policy.")
    ] = None,
    rung: Annotated[
        list[str] | None,
        option(
            metavar="NAME=TARGET",
            help="A detector service, nano=HOST:PORT; repeatable. The ladder runs in this process "
            "without it.",
        ),
    ] = None,
    ladder: Ladder = "",
    log: Annotated[
        str | None,
        option(help="Prediction log: a folder, s3:// or gs://; none without it."),
        KEPT_FOLDER,
    ] = None,
    deadline_ms: Annotated[float, option(help="Time a frame has, once it is its turn.")] = 1000.0,
    shadow_share: Annotated[
        float, option(help="Share of the answers for which the reference looks too, 0..1.")
    ] = 0.05,
    port: Annotated[int, option(help="Of /readyz and /metrics; 0 takes a free one.")] = 8610,
    as_json: Json = False,
) -> None:
    """Read frames of a topic, route each by the policy, and publish each answer exactly once.

    A worker of a consumer group: start as many as there is work for. Each camera (the key of the
    messages) has its frames answered in order. Answers and offsets are committed in one
    transaction, so read them with isolation.level=read_committed. Secrets come from
    $GEARSHIFT_KAFKA_USERNAME and $GEARSHIFT_KAFKA_PASSWORD, or from --credentials.
    Needs the extra `streams`; ends with Ctrl-C.

    Example: `gearshift kafka route --bootstrap broker:9092 --frames frames --detections detections`
    """
    import logging
    import os

    from foundation.command_line import read_pairs
    from foundation.errors import ConfigurationError
    from inference_graph.gateway.server import serve_gateway
    from inference_graph.gateway.settings import EVENT_KEY, GatewaySettings
    from inference_graph.sessions import trust_of_environment
    from inference_graph.streams.serve import with_kafka
    from pipelines.ladder_files import ladder_files

    if not config.bootstrap:
        raise ConfigurationError("no broker is named; give --bootstrap HOST:PORT")
    rungs = read_pairs(rung or (), "rung", "TARGET") or {
        name: str(file) for name, file in ladder_files(ladder).items()
    }
    settings = GatewaySettings(
        rungs=rungs,
        policy=policy,
        always=always,
        log_url=log,
        port=port,
        open_access=True,
        event_key=os.environ.get(EVENT_KEY),
        trust=trust_of_environment(),
        deadline_ms=deadline_ms,
        shadow_share=shadow_share,
    )
    settings, background = with_kafka(settings, config)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    serve_gateway(settings, announcing("worker", as_json), background=background)
