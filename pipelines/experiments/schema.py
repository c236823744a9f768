"""What experiments may set: the options of every stage of the pipeline, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass

from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.schema import Schema

PLACES = frozenset(
    (
        "inputs.data",
        "inputs.ladder",
        "ingest.cache",
        "ingest.coco_address",
        "clone.start",
        "register.tracking_uri",
    )
)
"""Options that name a file or an address which the machine of a launch reads or writes."""


@dataclass(frozen=True)
class InputsConfig:
    """What the pipeline reads.

    Attributes:
        data: COCO-format folder, zip or URL, or ``coco2017``; empty renders the sample scenes.
        ladder: folder of the rungs' weights, or ``coco``; empty takes the sample ladder.
    """

    data: str = ""
    ladder: str = ""


def experiment_schema() -> Schema:
    """The schema, from the configurations that are the pipeline's parameters too."""
    # Importing the stages imports torch; a ledger whose files are unchanged does without.
    from pipelines.training.stages import STAGES, stage_config, stage_defaults

    return Schema(
        {"inputs": InputsConfig, **{stage: stage_config(stage) for stage in STAGES}},
        {stage: stage_defaults(stage) for stage in STAGES},
    )


def open_ledger(config: LedgerConfig) -> Ledger:
    """A ledger of this pipeline's experiments, up to date with its files.

    Raises:
        ConfigurationError: two files have the same name.
        StorageError: the ledger's folder cannot be written.
    """
    ledger = Ledger(config, experiment_schema)
    ledger.refresh()
    return ledger
