"""The gear below the cheapest rung: a frame answered by moving the tracks on, without a look."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from feature_transformer.context import LOOK_NAMES
from foundation.configuration import configuration

_KNOWN = LOOK_NAMES.index("known")
_DOUBT = LOOK_NAMES.index("doubt")


@configuration
class ReuseConfig:
    """When a frame may reuse the tracks.

    Attributes:
        longest: frames in a row without a look, at most; 0 turns reuse off.
        doubt: largest doubt of the last look, as its feature of that name has it
            (``log1p(sum s (1 - s)) / 2``); with more, a detector looks.
    """

    longest: Annotated[int, Field(ge=0)] = 0
    doubt: Annotated[float, Field(ge=0)] = 0.0

    @classmethod
    def of_settings(cls, longest: int | None, doubt: float) -> ReuseConfig | None:
        """What a service's settings ask for; None leaves it to the policy."""
        return None if longest is None else cls(longest=longest, doubt=doubt)


def may_reuse(
    looks: npt.NDArray[np.float32], reused: npt.NDArray[np.int64], config: ReuseConfig
) -> npt.NDArray[np.bool_]:
    """Whether the next frame of each stream may do without a look.

    Never the first frame of a stream, never too many in a row, never after a look in doubt.

    Args:
        looks: float32 [n, 16], features of each stream's last look; zeros without one.
        reused: int64 [n], frames since that look.
        config: the limits.

    Returns:
        bool [n].
    """
    sure = (looks[:, _KNOWN] > 0) & (looks[:, _DOUBT] <= config.doubt)
    return np.asarray(sure & (reused < config.longest))
