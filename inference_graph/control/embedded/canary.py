"""A rollout on one machine: the new revision is one more process, gateway and graph split.

The order is what keeps requests: the new process answers before it gets a share, and a process
that shall end gets no more requests first.
"""

from __future__ import annotations

import copy
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from foundation.errors import InvalidInput, Unavailable
from foundation.service_client import probe
from foundation.storage import atomic_path
from inference_graph.clients.canaries import CanaryClient
from inference_graph.control.embedded.monitoring import SERVICES_FILE, Scraped, scrape
from inference_graph.control.embedded.supervisor import READY, Service, Supervisor, last_words
from inference_graph.control.manifests.names import GATEWAY, ROUTER
from inference_graph.control.manifests.services import ServiceContainer
from inference_graph.control.rollout.plan import POLICY, shadow_shares
from inference_graph.control.rollout.splitter import with_canary
from inference_graph.control.rollout.state import RolloutState
from inference_graph.control.rollout.traffic import AlreadyPromoted, Prepared
from inference_graph.graph.server import DIGEST_HEADER, graph_digest
from inference_graph.metric_names import CANARY, STABLE
from inference_graph.tasks.rung import files_digest

RELEASED_FILE = "released.json"
"""In the state folder: what took the place of the files that `gearshift up` names."""
_GRAPH_SECONDS = 30.0
_PAUSE = 0.1

MakeService = Callable[[ServiceContainer, Mapping[tuple[str, str], tuple[str, str]], Path], Service]
"""From a container, the addresses of its service's components and its models to a process."""


@dataclass(frozen=True)
class PlatformParts:
    """What of a platform a rollout works with.

    Attributes:
        supervisor: runs the processes.
        containers: what the manifests start.
        make: makes a process of a container.
        ports: makes as many addresses (host:port) as asked for.
        graph: the InferenceGraph's document, as the manifests have it.
        manifest: the file that the graph's process reads.
        graph_url: where it answers.
        gateway: its address.
        token: what the gateway wants to be shown; None where access is open.
        state: folder of the platform.
        given: by model, the file that the configuration names.
    """

    supervisor: Supervisor
    containers: Sequence[ServiceContainer]
    make: MakeService
    ports: Callable[[int], list[str]]
    graph: Mapping[str, Any]
    manifest: Path
    graph_url: str
    gateway: str
    token: str | None
    state: Path
    given: Mapping[str, Path]


@dataclass(frozen=True)
class _Canary:
    """Of the rollout under way: its id, its service, its processes, and its target in the graph."""

    rollout: str
    service: str
    processes: list[str]
    target: dict[str, str]


class EmbeddedTraffic:
    """Moves the traffic of one machine.

    See :class:`inference_graph.control.rollout.traffic.TrafficControl`.
    """

    def __init__(self, parts: PlatformParts) -> None:
        """Nothing is moved yet."""
        self._parts = parts
        self._gateway = CanaryClient(parts.gateway, parts.token)
        self._urls: dict[str, str] = {}
        """By InferenceService: where it answers the graph since a rollout took its place."""
        self._processes: dict[str, list[str]] = {}
        """By InferenceService: the processes that answer, since then."""
        self._canary: _Canary | None = None

    def prepare(self, rollout: RolloutState) -> Prepared:
        """See ``Traffic``."""
        if self._canary is None or self._canary.rollout != rollout.rollout:
            self._start(rollout)
        if self._canary is None:
            raise Unavailable("the new revision was not started")
        name = _name(rollout)
        if rollout.model == POLICY:
            reply = self._gateway.add_policy(Path(rollout.source), rollout.sha256)
        else:
            reply = self._gateway.add(rollout.model, f"{self._grpc}/{name}")
        return Prepared(reply["stable"], reply["revision"], name)

    def shift(self, rollout: RolloutState, weight: int) -> None:
        """See ``Traffic``."""
        looks = shadow_shares(rollout.model, weight, rollout.plan.shadow_share)
        self._gateway.shift(
            rollout.model, weight, looks, rollout.rollout, rollout.plan.segment_frames
        )
        if self._canary is not None:
            service = _service(rollout.model)
            self._show(with_canary(self._parts.graph, service, self._canary.target, weight))

    def promote(self, rollout: RolloutState) -> None:
        """See ``Traffic``."""
        if not self._in_use(rollout):
            self.prepare(rollout)  # the platform, or its gateway, was started again in between
            self._gateway.promote(rollout.model, rollout.canary)
        if self._canary is None:
            return  # all of it was done, and the platform was started again with it
        service = _service(rollout.model)
        option = f"--rung={rollout.model}={self._grpc}/{_name(rollout)}"
        if rollout.model == POLICY:
            option = f"--policy={rollout.source}"
        self._parts.supervisor.amend(GATEWAY, lambda one: _with_option(one, option))
        self._urls[service] = self._canary.target["serviceUrl"]
        self._remember(rollout)
        self._show(self._parts.graph)
        if not self._in_use(rollout):
            raise Unavailable(f"the gateway was started again without {rollout.canary}; try again")
        processes = self._canary.processes
        usual = [one.name for one in self._made(service)]
        before = self._processes.get(service, usual)
        self._processes[service] = processes
        self._canary = None
        self._watch()
        self._parts.supervisor.remove(before)

    def withdraw(self, rollout: RolloutState) -> None:
        """See ``Traffic``."""
        canary = self._canary
        begun = canary is not None and canary.target["serviceUrl"] in self._urls.values()
        if begun or self._in_use(rollout):
            self.promote(rollout)  # what has begun to take over is not ended halfway
            raise AlreadyPromoted
        self._gateway.remove(rollout.model)
        if canary is not None:
            self._show(self._parts.graph)
            self._canary = None
            self._watch()
            self._parts.supervisor.remove(canary.processes)

    def flows(self, rollout: RolloutState) -> bool:
        """See ``Traffic``."""
        found = self._gateway.revisions().get(rollout.model, {})
        return (
            self._canary is not None
            and found.get("revision") == rollout.canary
            and found.get("weight") == rollout.weight
        )

    def _in_use(self, rollout: RolloutState) -> bool:
        """Whether the gateway has the new revision in the stable one's place."""
        used = self._gateway.revisions()[rollout.model]["stable"]
        return bool(rollout.canary) and used == rollout.canary

    def _start(self, rollout: RolloutState) -> None:
        service, name = _service(rollout.model), _name(rollout)
        if not Path(rollout.source).is_file():
            raise InvalidInput(f"{rollout.source} is gone; start the rollout again")
        containers = [one for one in self._parts.containers if one.service == service]
        if not containers:
            raise InvalidInput(f"the manifests start no service {service}")
        ports = iter(self._parts.ports(2 * len(containers)))
        addresses = {(service, one.component): (next(ports), next(ports)) for one in containers}
        folder = Path(rollout.source).parent
        made = []
        for one in containers:
            process = self._parts.make(_named(one, name, rollout.sha256), addresses, folder)
            made.append(replace(process, name=f"{name}-{one.component}"))
        self._grpc = addresses[service, "predictor"][1]
        # A service with a transformer is reached there: transformers come last.
        http = addresses[service, containers[-1].component][0]
        target = {"serviceUrl": f"http://{http}/v1/models/{name}:predict"}
        names = [one.name for one in made]
        self._parts.supervisor.add(made)
        try:
            self._wait(names, rollout.plan.ready_seconds)
        except Unavailable:
            self._parts.supervisor.remove(names)
            raise
        self._canary = _Canary(rollout.rollout, service, names, target)
        self._watch()

    def _wait(self, names: Sequence[str], seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            states = [self._parts.supervisor.state_of(name) for name in names]
            if all(one is not None and one.state == READY for one in states):
                return
            for one in states:
                if one is not None and one.pid is None:
                    raise Unavailable(
                        f"{one.name} ended while starting: {last_words(one.log)}; see {one.log}"
                    )
            if time.monotonic() > end:
                raise Unavailable(f"{', '.join(names)} not ready after {seconds:g} s")
            time.sleep(_PAUSE)

    def _made(self, service: str) -> list[Service]:
        """The processes that the manifests themselves started for a service."""
        nowhere = {
            (service, one.component): ("127.0.0.1:0", "127.0.0.1:0")
            for one in self._parts.containers
        }
        own = [one for one in self._parts.containers if one.service == service]
        return [self._parts.make(one, nowhere, Path()) for one in own]

    def _show(self, graph: Mapping[str, Any]) -> None:
        """Have the graph's process lead requests through this graph; returns when it does."""
        for service, url in self._urls.items():
            graph = _reached_at(graph, service, url)
        with atomic_path(self._parts.manifest) as partial:
            partial.write_text(yaml.safe_dump(graph, sort_keys=False), encoding="utf-8")
        wanted, end = graph_digest(self._parts.manifest), time.monotonic() + _GRAPH_SECONDS
        while _digest(self._parts.graph_url) != wanted:
            if time.monotonic() > end:
                raise Unavailable("the graph does not take its new manifest; see its log")
            # Again and again: one that is just being started has no ears yet.
            self._parts.supervisor.signal("graph", signal.SIGHUP)
            time.sleep(_PAUSE)

    def _watch(self) -> None:
        """Have Prometheus, if one was started, look at the processes there are."""
        if not (self._parts.state / SERVICES_FILE).is_file():
            return
        scraped = []
        for service in dict.fromkeys(one.service for one in self._parts.containers):
            own = [one for one in self._parts.containers if one.service == service]
            usual = [one.name for one in self._made(service)]
            stable = self._processes.get(service, usual)
            tracks = [(STABLE, stable)]
            if self._canary is not None and self._canary.service == service:
                tracks.append((CANARY, self._canary.processes))
            for track, names in tracks:
                for one, name in zip(own, names, strict=True):
                    running = self._parts.supervisor.service(name)
                    if running is not None:
                        address = urlsplit(running.ready_url).netloc
                        scraped.append(Scraped(service, one.component, address, track))
        scrape(self._parts.state, scraped)

    def _remember(self, rollout: RolloutState) -> None:
        """Note what is in use now, for the next `gearshift up` over the same files."""
        path = self._parts.state / RELEASED_FILE
        known = read_released(self._parts.state)
        known[rollout.model] = {
            "file": rollout.source,
            "in_place_of": files_digest(self._parts.given[rollout.model]),
        }
        with atomic_path(path) as partial:
            partial.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def read_released(state: Path) -> dict[str, dict[str, str]]:
    """By model, what a rollout put in place of the file that the configuration names.

    Raises:
        InvalidInput: the file is broken.
    """
    path = state / RELEASED_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(model): {"file": str(one["file"]), "in_place_of": str(one["in_place_of"])}
            for model, one in content.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} is broken; restore or remove it") from error


def released_file(state: Path, model: str, given: Path) -> Path:
    """The file that serves: the one given, or what a rollout put in its place.

    Another file than the one that was replaced is a choice, and stays.

    Raises:
        InvalidInput: the record is broken, or the file is gone.
        StorageError: a file cannot be read.
    """
    known = read_released(state).get(model)
    if known is None or files_digest(given) != known["in_place_of"]:
        return given
    if not Path(known["file"]).is_file():
        raise InvalidInput(
            f"{known['file']}, which a rollout put in place of {given}, is gone; restore it, or "
            f"remove {state / RELEASED_FILE}"
        )
    return Path(known["file"])


def _with_option(service: Service, option: str) -> Service:
    """The service with an option in place of the one of that name (and rung)."""
    name = option.rpartition("=")[0] + "="
    words = [option if word.startswith(name) else word for word in service.command]
    return replace(service, command=tuple(words))


def _service(model: str) -> str:
    return ROUTER if model == POLICY else model


def _name(rollout: RolloutState) -> str:
    return f"{_service(rollout.model)}-{rollout.sha256[:8]}"


def _named(one: ServiceContainer, name: str, sha256: str) -> ServiceContainer:
    """The container of a service of another name, with the digest that its file must have."""
    own = f"--model_name={one.service}"
    command = [f"--model_name={name}" if word == own else word for word in one.command]
    if any(word.startswith("--weights=") for word in command):
        command.append(f"--sha256={sha256}")
    if one.component == "transformer":
        command.append(f"--predictor_name={name}")
    return replace(one, command=tuple(command))


def _reached_at(graph: Mapping[str, Any], service: str, url: str) -> dict[str, Any]:
    whole = copy.deepcopy(dict(graph))
    for node in whole["spec"]["nodes"].values():
        for step in node.get("steps", ()):
            if step.get("serviceName") == service:
                del step["serviceName"]
                step["serviceUrl"] = url
    return whole


def _digest(url: str) -> str:
    answer = probe(f"{url}/readyz")
    return "" if answer is None else answer.headers.get(DIGEST_HEADER, "")
