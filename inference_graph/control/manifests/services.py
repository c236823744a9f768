"""What the manifests start: for every InferenceService its containers, as KServe would run them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import ConfigurationError
from inference_graph.control.manifests.names import MODELS
from serving_kit.payload_log import URL_VARIABLE as PAYLOAD_LOG

_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_LOCAL = {"--host", "--http_port", "--grpc_port", "--predictor_host", "--drain_seconds"}
"""Options of a command that are for pods: no name server leads to a process of this machine."""


@dataclass(frozen=True)
class ServiceContainer:
    """A container of an InferenceService.

    Attributes:
        service: the InferenceService's name.
        component: "predictor" or "transformer"; with a transformer, the service is reached there.
        command: program and arguments, with names and variables filled in.
        environment: its own variables; those from Secrets or ConfigMaps are not in it.
        storage_uri: what a cluster would put at ``/mnt/models``; None for a transformer.
        logs: whether it sends its requests and answers on, to an address from a Secret.
    """

    service: str
    component: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    storage_uri: str | None
    logs: bool = False

    def local_command(
        self,
        models: Path | None = None,
        http_port: int = 0,
        grpc_port: int = 0,
        predictor_host: str | None = None,
        host: str = "127.0.0.1",
    ) -> list[str]:
        """The same as a process on this machine.

        Args:
            models: folder that stands for ``/mnt/models``; may be left out where no argument
                names that.
            http_port: port of REST, 0 for any free one.
            grpc_port: port of gRPC, likewise.
            predictor_host: host:port of the predictor; a transformer needs it.
            host: address to listen on.

        Raises:
            ConfigurationError: ``models`` or ``predictor_host`` is missing.
        """
        program, *arguments = self.command
        kept = [one for one in arguments if one.partition("=")[0] not in _LOCAL]
        if models is not None:
            kept = [one.replace(f"{MODELS}/", f"{Path(models)}/") for one in kept]
        elif any(f"{MODELS}/" in one for one in kept):
            raise ConfigurationError(f"{self.service} reads {MODELS}; say which folder that is")
        kept += [f"--host={host}", f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
        if self.component == "transformer":
            if predictor_host is None:
                raise ConfigurationError(f"the transformer of {self.service} needs a predictor")
            kept.append(f"--predictor_host={predictor_host}")
        return [sys.executable if program == "python" else program, *kept]


def service_containers(documents: Sequence[Mapping[str, Any]]) -> tuple[ServiceContainer, ...]:
    """The containers of all InferenceServices, predictors before their transformers.

    As KServe does it, a model's container is its runtime's: arguments are put behind the
    runtime's, variables replace those of the same name, a command replaces the runtime's, and
    ``{{.Name}}`` is the service's name.

    Args:
        documents: rendered manifests.

    Raises:
        ConfigurationError: a runtime that is not there, no command, or an unknown placeholder.
    """
    runtimes = {
        one["metadata"]["name"]: one["spec"]["containers"][0]
        for one in documents
        if one.get("kind") == "ServingRuntime"
    }
    found = []
    for one in documents:
        if one.get("kind") != "InferenceService":
            continue
        name = one["metadata"]["name"]
        model = one["spec"]["predictor"].get("model")
        if model is None or model.get("runtime") not in runtimes:
            raise ConfigurationError(
                f"InferenceService {name}: its predictor names no ServingRuntime of these "
                f"manifests; there are {', '.join(runtimes) or 'none'}"
            )
        merged = _merged(runtimes[model["runtime"]], model)
        found.append(_container(name, one["spec"], "predictor", merged))
        if "transformer" in one["spec"]:
            container = one["spec"]["transformer"]["containers"][0]
            found.append(_container(name, one["spec"], "transformer", container))
    return tuple(found)


def _merged(runtime: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    variables = {one["name"]: one for one in (*runtime.get("env", ()), *model.get("env", ()))}
    return {
        "command": model.get("command") or runtime.get("command"),
        "args": [*runtime.get("args", ()), *model.get("args", ())],
        "env": list(variables.values()),
    }


def _container(
    service: str, spec: Mapping[str, Any], component: str, container: Mapping[str, Any]
) -> ServiceContainer:
    where = f"the {component} of InferenceService {service}"
    if not container.get("command"):
        raise ConfigurationError(f"{where} has no command; name the program in the manifest")
    environment = {
        one["name"]: str(one["value"]) for one in container.get("env", ()) if "value" in one
    }
    words = [*container["command"], *container.get("args", ())]
    command = tuple(
        _VARIABLE.sub(
            lambda match: environment.get(match[1], match[0]),
            str(word).replace("{{.Name}}", service),
        )
        for word in words
    )
    unknown = [word for word in command if "{{" in word]
    if unknown:
        raise ConfigurationError(f"{where}: {unknown[0]} has a placeholder that is not known here")
    storage = spec[component].get("model", {}).get("storageUri")
    logs = any(one["name"] == PAYLOAD_LOG for one in container.get("env", ()))
    return ServiceContainer(service, component, command, environment, storage, logs)
