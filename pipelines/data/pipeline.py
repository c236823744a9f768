"""The data pipeline: any source up to a version, its shards in parallel.

::

    for each shard:  acquire ─ validate ─┬─ anomalies ─┐
                                         ├─ convert ───┼─ split ─┬─ report
                                         └─ observe ───┘         └─ version

A shard is a pod on a cluster. What comes of it has the same bytes for any number of shards, and is
what ``gearshift data prepare`` makes on one machine. Its data set and parts are inputs of the
training pipeline.
"""

from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.data.observe import ObserveConfig
from components.data.shards.acquire import AcquireConfig
from components.data.split import SplitConfig
from components.data.validate import ValidateConfig
from foundation.errors import ConfigurationError
from pipelines.data import steps
from pipelines.definition import described
from pipelines.options import defaults_of, describe
from pipelines.placement import PlacementConfig, place

NAME = "gearshift-data"

_DESCRIPTION = "From a source of any size to a versioned, divided and reported data set."
_ACQUIRE, _VALIDATE = defaults_of(AcquireConfig), defaults_of(ValidateConfig)
_SPLIT, _OBSERVE = defaults_of(SplitConfig), defaults_of(ObserveConfig)
_PARAMETERS = {
    "source": "folder, zip, URL or bucket prefix of annotated data, or coco2017.",
    "store": "folder or bucket of the versions; nothing is stored without one.",
    "message": "why there is a new version.",
    "code_version": "names the code that runs.",
    "data_version": "names what the source holds.",
    "acquire": f"how the source is read and cut. {describe(AcquireConfig)}",
    "validate": f"what is demanded and what counts as odd. {describe(ValidateConfig)}",
    "split": f"the shares. {describe(SplitConfig)}",
    "observe": f"how images are observed. {describe(ObserveConfig)}",
}


class DataOutputs(NamedTuple):
    """What a run hands back."""

    dataset: dsl.Dataset
    parts: dsl.Artifact
    yolo: dsl.Dataset
    observations: dsl.Dataset
    validation: dsl.Artifact
    version: str


def data_pipeline(placement: PlacementConfig, shards: int, parallelism: int = 0) -> BaseComponent:
    """Define the pipeline for a place to run.

    Args:
        placement: images and retries of the steps.
        shards: how many shards there are.
        parallelism: shards worked on at once; 0 for all.

    Raises:
        ConfigurationError: no shards.
    """
    if shards < 1:
        raise ConfigurationError(f"shards is {shards}; give a number of pods")

    def step(task: Any, name: str) -> Any:
        return place(task, name, placement)

    def data(
        source: str,
        store: str = "",
        message: str = "",
        code_version: str = "",
        data_version: str = "",
        acquire: dict = _ACQUIRE,
        validate: dict = _VALIDATE,
        split: dict = _SPLIT,
        observe: dict = _OBSERVE,
    ) -> DataOutputs:
        with dsl.ParallelFor(items=list(range(shards)), parallelism=parallelism) as shard:
            taken = steps.acquire(
                source=source,
                shard=shard,
                shards=shards,
                options=acquire,
                code_version=code_version,
                data_version=data_version,
            )
            step(taken, "acquire")
            checked = steps.validate(
                acquired=taken.outputs["acquired"], options=acquire, code_version=code_version
            )
            step(checked, "ingest").set_display_name("validate")
            validated = {
                "validated": checked.outputs["validated"],
                "code_version": code_version,
            }
            odd = step(steps.anomalies(options=validate, **validated), "anomalies")
            converted = step(steps.convert(**validated), "convert")
            observed = step(steps.observe(options=observe, **validated), "observe")
        divided = steps.split(
            validated=dsl.Collected(checked.outputs["validated"]),
            labels=dsl.Collected(converted.outputs["labels"]),
            observed=dsl.Collected(observed.outputs["observed"]),
            options=split,
            code_version=code_version,
        )
        step(divided, "split")
        dataset = divided.outputs["dataset"]
        reported = steps.report(
            dataset=dataset,
            parts=divided.outputs["parts"],
            found=dsl.Collected(odd.outputs["found"]),
            options=validate,
            code_version=code_version,
        )
        step(reported, "report")
        versioned = steps.version(
            dataset=dataset, store=store, message=message, code_version=code_version
        )
        step(versioned, "version")
        return DataOutputs(
            dataset=dataset,
            parts=divided.outputs["parts"],
            yolo=divided.outputs["yolo"],
            observations=divided.outputs["observations"],
            validation=reported.outputs["validation"],
            version=versioned.outputs["Output"],
        )

    return described(data, NAME, _DESCRIPTION, _PARAMETERS)
