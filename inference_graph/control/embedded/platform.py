"""The platform on one machine: every process that the manifests name, with its address."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from foundation.audit_log import AuditLog, audit_of_environment
from foundation.errors import ConfigurationError, InvalidInput
from foundation.service_client import probe
from foundation.signing import SIGNATURE_SUFFIX, signature_file
from inference_graph.contract import LADDER
from inference_graph.control.embedded.canary import EmbeddedTraffic, PlatformParts, released_file
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.monitoring import (
    EMBEDDED_OBJECTIVES,
    MonitoringPlan,
    Scraped,
    monitoring_services,
    wants_notifier,
)
from inference_graph.control.embedded.processes import (
    HOST,
    container_service,
    gateway_service,
    graph_service,
    payload_log,
)
from inference_graph.control.embedded.running import require_free_ports
from inference_graph.control.embedded.supervisor import Service, ServiceState, Supervisor
from inference_graph.control.manifests.names import GATEWAY, MANIFESTS
from inference_graph.control.manifests.render import render
from inference_graph.control.manifests.services import ServiceContainer, service_containers
from inference_graph.control.rollout.plan import POLICY
from inference_graph.control.triggers.engine import Triggers
from inference_graph.control.triggers.read_config import read_triggers
from inference_graph.gateway.breaker import Circuit
from inference_graph.gateway.settings import LOGGER_TOKEN, GatewaySettings
from inference_graph.sessions import TRUST

_LADDER = Path(__file__).resolve().parents[3] / "ladder"


class Platform:
    """All services of one overlay, the InferenceGraph and the gateway, as local processes.

    Use it as a context manager; everything ends with the block.

    Attributes:
        gateway: address of the gateway.
        graph: address of the InferenceGraph.
        rungs: gRPC address (host:port) of each detector.
        log_url: where the prediction log is.
        prometheus: address of Prometheus; None without monitoring.
        audit: where is recorded what is done to it.
        triggers: the triggers of the file that was given; None without one.
        rollouts: moves traffic to a new revision and back.
    """

    def __init__(self, config: UpConfig) -> None:
        """Read the manifests and find an address for everything; nothing runs yet.

        Raises:
            ConfigurationError: no such overlay, or one that cannot run here; an unusable triggers
                file.
            InvalidInput: the policy, a rung's weights, or with monitoring Prometheus is missing.
        """
        self.audit = audit_of_environment() if config.audit is None else AuditLog(config.audit)
        self.triggers = _triggers(config, self.audit)
        documents = render(_overlay(config.overlay))
        ports_given = {"port": config.port, "graph-port": config.graph_port}
        if config.monitoring:
            ports_given["prometheus-port"] = config.prometheus_port
        require_free_ports(HOST, ports_given)
        containers = service_containers(documents)
        models = _models(config)
        with contextlib.closing(free_ports()) as ports:
            addresses = {
                (one.service, one.component): (f"{HOST}:{next(ports)}", f"{HOST}:{next(ports)}")
                for one in containers
            }
            self.gateway = f"http://{HOST}:{config.port or next(ports)}"
            self.graph = f"http://{HOST}:{config.graph_port or next(ports)}"
            prometheus = f"{HOST}:{config.prometheus_port or next(ports)}"
            notifier = f"{HOST}:{next(ports)}"
        # A service with a transformer is reached there: transformers come last.
        reached = {one.service: addresses[one.service, one.component][0] for one in containers}
        self.rungs = {rung: addresses[rung, "predictor"][1] for rung in LADDER}
        self.log_url = _log_url(config)
        graph = config.state / "graph.yaml"
        _write_graph(documents, graph)
        # The services have no token of the file or of an issuer; open access needs none.
        token = None if config.open_access else secrets.token_urlsafe(32)
        services = [
            container_service(
                one,
                addresses,
                models,
                containers,
                payload_log(one, self.gateway, token) | _trust(config),
            )
            for one in containers
        ]
        services += [
            graph_service(self.graph, graph, reached),
            _gateway(
                self.gateway, self.rungs, self.log_url, models["router"], config, token, self.audit
            ),
        ]
        self.prometheus: str | None = None
        if config.monitoring:
            self.prometheus = f"http://{prometheus}"
            plan = MonitoringPlan(
                config.state,
                prometheus,
                self.gateway.partition("//")[2],
                [Scraped(*names, http) for names, (http, _) in addresses.items()],
                notifier if wants_notifier() else None,
                config.rules,
                replace(EMBEDDED_OBJECTIVES, scrape_seconds=config.scrape_seconds),
                token,
                self.triggers is not None and self.triggers.waits_for_alerts,
            )
            services += monitoring_services(plan)
        self._ready_seconds = config.ready_seconds
        self._supervisor = Supervisor(services, config.state / "logs")

        def make(
            one: ServiceContainer,
            addresses: Mapping[tuple[str, str], tuple[str, str]],
            folder: Path,
        ) -> Service:
            log = payload_log(one, self.gateway, token) | _trust(config)
            return container_service(one, addresses, {one.service: folder}, containers, log)

        self.rollouts = EmbeddedTraffic(
            PlatformParts(
                self._supervisor,
                containers,
                make,
                _addresses,
                _graph_of(documents),
                graph,
                self.graph,
                self.gateway,
                token,
                config.state,
                _given(config),
            )
        )

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.stop()

    def start(self, on_change: Callable[[list[ServiceState]], None] = lambda states: None) -> None:
        """Start everything and return when all of it takes requests.

        Args:
            on_change: called with all states again and again while they start.

        Raises:
            Unavailable: a service ended while starting, or took too long.
        """
        until = time.monotonic() + self._ready_seconds
        self._supervisor.start()
        self._supervisor.wait_ready(self._ready_seconds, on_change)
        # The gateway answers as soon as one rung does; those it met while they were still starting
        # come back with its next look at them.
        while not self._uses_every_rung() and time.monotonic() < until:
            time.sleep(0.1)

    def _uses_every_rung(self) -> bool:
        answer = probe(f"{self.gateway}/readyz")
        if answer is None or not answer.is_success:
            return False
        try:
            rungs = answer.json()["rungs"]
        except (ValueError, KeyError):
            return False
        return all(state == Circuit.CLOSED for state in rungs.values())

    def states(self) -> list[ServiceState]:
        """How every service is; one that fell is started again."""
        return self._supervisor.poll()


def _triggers(config: UpConfig, audit: AuditLog) -> Triggers | None:
    if config.triggers is None:
        return None
    return Triggers(read_triggers(config.triggers, _log_url(config)), audit)


def _log_url(config: UpConfig) -> str:
    return config.log or str((config.state / "log").resolve())


def _overlay(name: str) -> Path:
    folder = Path(name) if "/" in name else MANIFESTS / "overlays" / name
    if not (folder / "kustomization.yaml").is_file():
        known = sorted(path.name for path in (MANIFESTS / "overlays").glob("*"))
        raise ConfigurationError(
            f"{folder} is no overlay; give a folder with kustomization.yaml, or one of "
            f"{', '.join(known)}"
        )
    return folder


def _models(config: UpConfig) -> Mapping[str, Path]:
    """For each InferenceService the folder that stands for ``/mnt/models``."""
    given = _given(config)
    missing = [rung for rung in LADDER if not given[rung].is_file()]
    if missing:
        ladder = given[LADDER[0]].parent
        raise InvalidInput(f"{ladder} lacks {', '.join(missing)}.onnx; give a ladder's folder")
    if not config.policy.is_file():
        from inference_graph.tasks.rung import demo_for  # loads ONNX Runtime

        demo = demo_for(config.policy, given[LADDER[0]])
        raise InvalidInput(
            f"there is no policy at {config.policy}; run `{demo}`, or name one with --policy"
        )
    policy = config.state / "models"
    policy.mkdir(parents=True, exist_ok=True)
    # A copy, so that training into the same place cannot change a policy under a running server.
    serving = {model: released_file(config.state, model, file) for model, file in given.items()}
    shutil.copyfile(serving[POLICY], policy / "policy.onnx")
    signature = signature_file(serving[POLICY])
    if signature.is_file():
        shutil.copyfile(signature, policy / f"policy.onnx{SIGNATURE_SUFFIX}")
    return {**{rung: serving[rung].parent for rung in LADDER}, "router": policy.resolve()}


def free_ports() -> Generator[int, None, None]:
    """Free ports, held until the generator closes, so that none comes twice."""
    with contextlib.ExitStack() as held:
        while True:
            probe = held.enter_context(socket.socket())
            probe.bind((HOST, 0))
            yield int(probe.getsockname()[1])


def _addresses(count: int) -> list[str]:
    with contextlib.closing(free_ports()) as ports:
        return [f"{HOST}:{next(ports)}" for _ in range(count)]


def _given(config: UpConfig) -> dict[str, Path]:
    """By model, the file that the configuration names."""
    ladder = (config.ladder or _LADDER).resolve()
    reads = all((ladder / f"{rung}.json").is_file() for rung in LADDER)
    suffix = "json" if reads else "onnx"
    return {**{rung: ladder / f"{rung}.{suffix}" for rung in LADDER}, POLICY: config.policy}


def _graph_of(documents: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    graphs = [one for one in documents if one.get("kind") == "InferenceGraph"]
    if len(graphs) != 1:
        raise ConfigurationError(
            f"the manifests hold {len(graphs)} InferenceGraphs; one can be served"
        )
    return graphs[0]


def _write_graph(documents: Sequence[Mapping[str, Any]], path: Path) -> None:
    graph = _graph_of(documents)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(graph, sort_keys=False), encoding="utf-8")


def _trust(config: UpConfig) -> dict[str, str]:
    """The variable that has detectors and router load signed files only."""
    return {} if config.trust is None else {TRUST: str(config.trust.resolve())}


def _gateway(
    url: str,
    rungs: Mapping[str, str],
    log_url: str,
    policy: Path,
    config: UpConfig,
    token: str | None,
    audit: AuditLog,
) -> Service:
    options: dict[str, object] = {
        "policy": policy / "policy.onnx",
        "log_url": log_url,
        "deadline_ms": config.deadline_ms,
        "max_deadline_ms": max(config.deadline_ms, GatewaySettings.max_deadline_ms),
        "shadow_share": config.shadow_share,
        "image_share": config.image_share,
        "open_access": str(config.open_access).lower(),
        "origins": config.origins or None,
        "confidence": config.confidence,
        "tokens": config.tokens,
        "trust": None if config.trust is None else config.trust.resolve(),
        "audit": audit.path.resolve(),
        "triggers": config.triggers,
        "always": config.always,
        "latency_weight": config.latency_weight,
        "track": str(config.track).lower(),
        "reuse_frames": config.reuse_frames,
        "reuse_doubt": config.reuse_doubt,
        "protect": config.protect or None,
        **config.changed,
        **config.kafka_options,
    }
    secret = {} if token is None else {LOGGER_TOKEN: token}
    return gateway_service(GATEWAY, url, rungs, options, secret)
