"""Containers of the manifests, the graph and the gateway as processes of this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from inference_graph.control.embedded.supervisor import Service
from inference_graph.control.manifests.services import ServiceContainer
from inference_graph.prediction_log.memory import ONE_ALLOCATOR
from serving_kit.payload_log import URL_VARIABLE

HOST = "127.0.0.1"


def container_service(
    one: ServiceContainer,
    addresses: Mapping[tuple[str, str], tuple[str, str]],
    models: Mapping[str, Path],
    containers: Sequence[ServiceContainer],
    logging: Mapping[str, str],
) -> Service:
    """A container of an InferenceService.

    Args:
        one: the container.
        addresses: HTTP and gRPC address (host:port) by service and component.
        models: by service the folder that stands for ``/mnt/models``.
        containers: all of them.
        logging: variables of :func:`payload_log`.

    Raises:
        ConfigurationError: the service reads models and has no folder.
    """
    http, grpc = addresses[one.service, one.component]
    predictor = addresses[one.service, "predictor"][0] if one.component == "transformer" else None
    command = one.local_command(models.get(one.service), _port(http), _port(grpc), predictor, HOST)
    shared = any(
        other.service == one.service and other.component != one.component for other in containers
    )
    name = f"{one.service}-{one.component}" if shared else one.service
    environment = {**one.environment, **logging}
    return Service(name, tuple(command), f"http://{http}/v2/health/ready", grpc, environment)


def payload_log(one: ServiceContainer, gateway: str, token: str | None) -> dict[str, str]:
    """The variable by which a service sends its requests and answers to the gateway's log."""
    if not one.logs:
        return {}
    credentials = f"logger:{token}@" if token is not None else ""
    return {URL_VARIABLE: f"http://{credentials}{urlsplit(gateway).netloc}/v1/events"}


def graph_service(url: str, manifest: Path, reached: Mapping[str, str]) -> Service:
    """The InferenceGraph of a manifest, over services that are reached at host:port."""
    services = [f"--service={name}=http://{address}" for name, address in reached.items()]
    command = (
        sys.executable,
        "-m",
        "inference_graph.graph",
        str(manifest),
        f"--port={_port(url)}",
        f"--host={HOST}",
        *services,
    )
    return Service("graph", command, f"{url}/healthz", url)


def gateway_service(
    name: str,
    url: str,
    rungs: Mapping[str, str],
    options: Mapping[str, object],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Service:
    """A gateway as a local process.

    Args:
        name: what it is called among the services.
        url: where it shall listen, http://host:port.
        rungs: gRPC address (host:port) of each detector.
        options: of ``GatewaySettings``, by name; None leaves an option at its default.
        environment: variables of its own.
    """
    place = urlsplit(url)
    command = (
        sys.executable,
        "-m",
        "inference_graph.gateway",
        f"--host={place.hostname}",
        f"--port={place.port}",
        *(f"--rung={rung}={address}" for rung, address in rungs.items()),
        *(f"--{option}={value}" for option, value in options.items() if value is not None),
    )
    return Service(name, command, f"{url}/readyz", url, {**ONE_ALLOCATOR, **environment})


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
