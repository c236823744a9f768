"""The batch pipeline: the shares of a source, detected side by side, and their results together.

::

    shards ─┬─ detect 1/N ─┐
            ├─ detect 2/N ─┼─ collect
            └─ …          ─┘
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.batch.run import BatchConfig
from pipelines.batch import steps as batch_steps
from pipelines.definition import described
from pipelines.options import defaults_of, describe
from pipelines.placement import PlacementConfig, place

NAME = "gearshift-batch"

_DESCRIPTION = "Every image and video of a place, routed and detected."
_DEFAULTS = {name: one for name, one in defaults_of(BatchConfig).items() if one is not None}
"""A pipeline's parameter cannot hold None; those that are left out have it as their default."""
_PARAMETERS = {
    "source": "folder, zip, video, image, or s3:// or gs:// prefix, as the steps reach it.",
    "policy": "the policy's ONNX file; empty where the options fix the rung.",
    "ladder": "folder with the rungs' weights; empty takes the sample ladder.",
    "shards": "steps that share the work, at most.",
    "code_version": "names the code that runs.",
    "options": f"how the frames are answered. {describe(BatchConfig)}",
}


class BatchOutputs(NamedTuple):
    """What a run hands back."""

    frames: int
    detections: dsl.Dataset


def batch_pipeline(placement: PlacementConfig, parallelism: int = 0) -> BaseComponent:
    """Define the pipeline for a place to run.

    Args:
        placement: images and retries of the steps.
        parallelism: shares that run at the same time; 0 leaves that to the cluster.
    """

    def batch(
        source: str,
        policy: str = "",
        ladder: str = "",
        shards: int = 4,
        code_version: str = "",
        options: dict = _DEFAULTS,
    ) -> BatchOutputs:
        named = batch_steps.shards(source=source, count=shards, options=options)
        place(named, "shards", placement)
        with dsl.ParallelFor(named.output, parallelism=parallelism or None) as shard:
            detected = batch_steps.detect(
                source=source,
                policy=policy,
                ladder=ladder,
                shard=shard,
                options=options,
                code_version=code_version,
            )
            place(detected, "detect", placement)
        together = batch_steps.collect(parts=dsl.Collected(detected.outputs["detections"]))
        place(together, "collect", placement)
        return BatchOutputs(
            frames=together.outputs["Output"], detections=together.outputs["detections"]
        )

    return described(batch, NAME, _DESCRIPTION, _PARAMETERS)
