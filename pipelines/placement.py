"""Where a step runs on a cluster: image, CPU, memory, GPU, retries, and whether it may be reused.

The local runner takes no notice of images and resources; it repeats nothing, because on one
machine a second try meets what the first one met.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from foundation.configuration import configuration
from foundation.errors import ConfigurationError


@configuration
class PlacementConfig:
    """What the cluster offers.

    Attributes:
        image: container image of every step; it holds this version of Gearshift.
        gpu_image: image of the steps that may use a GPU, when there are GPUs; without it, `image`
            with -gpu behind its name, or as it is where a digest names it.
        gpus: GPUs of each step that may use one.
        gpu_type: the cluster's name for them.
        retries: further tries of a step that reads or trains; each waits twice as long.
        backoff_seconds: wait before the first of them.
        keys: Secret, in the namespace of the runs, whose AWS_ACCESS_KEY_ID and
            AWS_SECRET_ACCESS_KEY each step gets, for a log in a store of S3's kind; none without.
    """

    image: str = "gearshift-python:0.1.0"
    gpu_image: str = ""
    gpus: Annotated[int, Field(ge=0)] = 0
    gpu_type: str = "nvidia.com/gpu"
    retries: Annotated[int, Field(ge=0)] = 2
    backoff_seconds: Annotated[int, Field(ge=0)] = 30
    keys: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if not self.image:
            raise ConfigurationError("image is empty; name a container image")
        if not self.gpu_image:
            object.__setattr__(self, "gpu_image", _with_gpu(self.image))


@dataclass(frozen=True)
class StepPlacement:
    """What one step asks for.

    Attributes:
        cpu: cores requested, as Kubernetes writes them; also the limit.
        memory: memory requested; also the limit.
        gpu: whether it is faster on a GPU.
        retry: whether another try can help, and does no harm.
        cache: whether an earlier result for the same inputs and versions may stand in.
    """

    cpu: str = "1"
    memory: str = "2G"
    gpu: bool = False
    retry: bool = True
    cache: bool = True


STEPS: Mapping[str, StepPlacement] = MappingProxyType(
    {
        # A seal is of one launch, and so is its score.
        "admit": StepPlacement(cache=False),
        "score": StepPlacement(cache=False),
        "ingest": StepPlacement(cpu="4", memory="4G"),
        "acquire": StepPlacement(),
        "anomalies": StepPlacement(),
        "convert": StepPlacement(),
        "report": StepPlacement(cpu="2"),
        # Whether a version is stored already, only the store knows.
        "version": StepPlacement(cache=False),
        "validate": StepPlacement(cpu="2"),
        "spot_check": StepPlacement(cpu="2", memory="4G", gpu=True),
        "compare_rungs": StepPlacement(cpu="2", memory="8G", gpu=True),
        "split": StepPlacement(),
        "observe": StepPlacement(cpu="4", memory="4G"),
        "profile": StepPlacement(cpu="2", memory="4G", gpu=True),
        # A second try on a busier machine would be another measurement, not the same one.
        "time": StepPlacement(cpu="2", memory="4G", gpu=True, retry=False),
        "label": StepPlacement(cpu="2", memory="8G"),
        "clone": StepPlacement(cpu="2", memory="8G", gpu=True),
        "refine": StepPlacement(cpu="2", memory="8G", gpu=True),
        "reference": StepPlacement(cpu="4", memory="4G"),
        "evaluate": StepPlacement(cpu="2", memory="8G"),
        "gate": StepPlacement(),
        # A second try, or a second run on the same inputs, would register a second version.
        "register": StepPlacement(retry=False),
        "refuse": StepPlacement(retry=False),
        # The log is another one at every run, whatever its name.
        "window": StepPlacement(cpu="2", memory="8G", cache=False),
        "compare": StepPlacement(cpu="2", memory="8G", cache=False),
        "retrain": StepPlacement(cpu="4", memory="8G", gpu=True, retry=False, cache=False),
        "note": StepPlacement(cache=False),
        # A bucket may hold other frames at the next run.
        "shards": StepPlacement(cache=False),
        "detect": StepPlacement(cpu="4", memory="8G", gpu=True, cache=False),
        "collect": StepPlacement(),
    }
)
"""By stage; ``profile`` stands for each of the rungs."""


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys of the Secret, and variables of a step."""
ENVIRONMENT: Mapping[str, str] = MappingProxyType({"MLFLOW_DISABLE_TELEMETRY": "true"})
"""Variables of every step: a run reports nothing about itself to others."""


def place(task: Any, step: str, config: PlacementConfig) -> Any:
    """Give a KFP task its image, resources, retries and cache policy; returns the task."""
    wishes = STEPS[step]
    on_gpu = wishes.gpu and config.gpus > 0
    task.set_container_image(config.gpu_image if on_gpu else config.image)
    task.set_cpu_request(wishes.cpu).set_cpu_limit(wishes.cpu)
    task.set_memory_request(wishes.memory).set_memory_limit(wishes.memory)
    if on_gpu:
        task.set_accelerator_type(config.gpu_type).set_accelerator_limit(config.gpus)
    if wishes.retry and config.retries:
        task.set_retry(
            num_retries=config.retries,
            backoff_duration=f"{config.backoff_seconds}s",
            backoff_factor=2.0,
        )
    task.set_caching_options(enable_caching=wishes.cache)
    for name, value in ENVIRONMENT.items():
        task.set_env_variable(name, value)
    if config.keys:
        task.platform_config["kubernetes"] = {"secretAsEnv": [_from_secret(config.keys)]}
    return task


def _from_secret(name: str) -> dict[str, Any]:
    """As kfp-kubernetes writes it, whose only use this would be."""
    keys = [{"secretKey": key, "envVar": key} for key in KEYS]
    return {"secretName": name, "keyToEnv": keys}


def _with_gpu(image: str) -> str:
    """An image's sibling for GPUs; a registry's port has a colon too, but a slash behind it."""
    if "@" in image:
        return image  # its digest names one image; whoever knows another gives it
    name, colon, tag = image.rpartition(":")
    return f"{name}-gpu:{tag}" if colon and "/" not in tag else f"{image}-gpu"
