"""The folder that models are loaded from, as Seldon's agent leaves it for MLServer.

::

    models/nano_1/1/model-settings.json      models/router_3/3/model-settings.json
                    nano.onnx                                    policy.onnx

The agent copies what a Model's ``storageUri`` names into a folder of the model's name and version,
writes both into ``model-settings.json``, and asks the server to load that name. The settings are
those of MLServer, of which four fields are read::

    {"implementation": "gearshift.Rung",
     "parameters": {"uri": "./nano.onnx",
                    "extra": {"init_parameters": {"rung": "nano", "sha256": "…"}}}}

``implementation`` is ``gearshift.Rung`` or ``gearshift.Policy``; ``sha256`` may be left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foundation.errors import InvalidInput, NotFound
from inference_graph.detector.batching import BatchOptions
from inference_graph.detector.providers import Tolerance, open_detector
from inference_graph.detector.rung import DetectorConfig
from inference_graph.detector.service import DetectorService, ImageOptions
from inference_graph.repository.options import RepositoryOptions
from inference_graph.repository.pipeline_router import PipelineRouter
from inference_graph.router.policy import Policy
from serving_kit.loaded_models import LoadedModels
from serving_kit.model_service import ModelService

SETTINGS = "model-settings.json"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,200}")
_DIGEST = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Read(BaseModel):
    # The agent writes fields of its own beside these.
    model_config = ConfigDict(frozen=True, extra="ignore")


class _InitParameters(_Read):
    rung: Literal["nano", "small", "large"] | None = None
    sha256: _DIGEST | None = None


class _Extra(_Read):
    init_parameters: _InitParameters = _InitParameters()


class _Parameters(_Read):
    uri: str
    extra: _Extra = _Extra()


class ModelSettings(_Read):
    """The fields of ``model-settings.json`` that are read."""

    implementation: Literal["gearshift.Rung", "gearshift.Policy"]
    parameters: _Parameters


class ModelRepository(LoadedModels):
    """Rungs and policies of a folder, loaded by their names."""

    def __init__(
        self,
        options: RepositoryOptions,
        batching: BatchOptions | None = None,
        images: ImageOptions | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        """Start without models.

        Args:
            options: the folder, and how its rungs are run.
            batching: how requests for a rung are gathered.
            images: what images are accepted.
            tolerance: of a provider other than the CPU.
        """
        super().__init__("gearshift")
        self._options = options
        self._batching = batching or BatchOptions()
        self._images = images or ImageOptions()
        self._tolerance = tolerance or Tolerance()

    def open(self, name: str) -> ModelService:
        """A rung's or a policy's service.

        Raises:
            NotFound: there is no such model.
            InvalidInput: its settings are wrong.
            ModelError: its file is.
        """
        settings, file = _settings(self._options.models_dir, name)
        given, options = settings.parameters.extra.init_parameters, self._options
        if settings.implementation == "gearshift.Policy":
            policy = Policy(file, sha256=given.sha256, trust=options.trust)
            return PipelineRouter(policy, name)
        if given.rung is None:
            raise InvalidInput(
                f"{SETTINGS} of {name} names no rung; add parameters.extra.init_parameters.rung"
            )
        config = DetectorConfig(
            file, given.rung, threads=options.threads, sha256=given.sha256, trust=options.trust
        )
        if options.provider == "cpu":
            config = replace(config, threads_beside=options.threads_beside)
        detector = open_detector(config, options.provider, self._tolerance, None)
        return DetectorService(detector, self._batching, self._images.limits(), name)


def _settings(folder: Path, name: str) -> tuple[ModelSettings, Path]:
    """Settings of a model, of the highest version where there are several, and its file."""
    if not _NAME.fullmatch(name):
        raise NotFound(f"{name[:80]!r} is no name of a model")
    root = folder / name
    found = [root / SETTINGS, *root.glob(f"*/{SETTINGS}")]
    found = [path for path in found if path.is_file()]
    if not found:
        raise NotFound(f"there is no {SETTINGS} in {root}; load a model that is there")
    path = max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else -1)
    try:
        settings = ModelSettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"{path}: {field or 'the file'}: {first['msg']}; correct it") from error
    file = (path.parent / settings.parameters.uri).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise InvalidInput(f"{path}: parameters.uri leads out of the model's folder; correct it")
    if not file.is_file():
        raise InvalidInput(f"{path}: parameters.uri: there is no file {file.name}; correct it")
    return settings, file
