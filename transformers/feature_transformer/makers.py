"""Who makes the observation of each task.

Every task's observation has one layout (``feature_transformer.observation``): a map of 32x32
numbers of the input, four numbers more, the context. What the map and the four numbers are differs,
and so do the hashes of their schemas: a policy of one task is refused by another task's services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from feature_transformer.context import Features
from feature_transformer.observation import SCHEMA_HASH, frame_features, observation
from feature_transformer.speech_features import SPEECH_SCHEMA_HASH, speech_features
from feature_transformer.text_features import TEXT_SCHEMA_HASH, text_features
from foundation.errors import ConfigurationError, SchemaMismatch

DETECTION = "detection"
"""The default task."""


@dataclass(frozen=True)
class ObservationMaker:
    """How one task looks at an input before it is routed.

    Attributes:
        task: the task's name.
        features: the input's own part of the observation: float32 [1028] in 0..1.
        schema_hash: of the observation's schema; it travels with the policy.
    """

    task: str
    features: Callable[[npt.NDArray[Any]], Features]
    schema_hash: str

    def observation(self, given: npt.NDArray[Any], context: Features) -> Features:
        """All that the policy sees of one input, float32 [1048].

        Args:
            given: the input, such as a frame uint8 [height, width, 3], BGR.
            context: float32 [20] from ``context_features``.

        Raises:
            InvalidInput: the context block has another size.
            ImageError: the array is no frame.
        """
        return observation(given, context, self.features)


MAKERS: Mapping[str, ObservationMaker] = MappingProxyType(
    {
        maker.task: maker
        for maker in (
            ObservationMaker(DETECTION, frame_features, SCHEMA_HASH),
            ObservationMaker("ocr", text_features, TEXT_SCHEMA_HASH),
            ObservationMaker("speech", speech_features, SPEECH_SCHEMA_HASH),
        )
    }
)
"""By the name of the task."""


def maker_of(task: str) -> ObservationMaker:
    """Who makes a task's observations; raises ConfigurationError for an unknown task."""
    try:
        return MAKERS[task]
    except KeyError:
        raise ConfigurationError(
            f"task {task[:40]!r} is none of {', '.join(MAKERS)}; give one of them"
        ) from None


def maker_of_schema(schema_hash: str) -> ObservationMaker:
    """Who makes the observations of a schema; raises SchemaMismatch for an unknown one."""
    for maker in MAKERS.values():
        if maker.schema_hash == schema_hash:
            return maker
    known = ", ".join(f"{maker.schema_hash[:12]} ({task})" for task, maker in MAKERS.items())
    raise SchemaMismatch(f"observation schema {schema_hash[:12]} is none of {known}")
