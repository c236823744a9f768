from __future__ import annotations

import numpy as np
import pytest

from feature_transformer.observation import LOOK_NAMES
from foundation.errors import ConfigurationError
from inference_graph.tracking import ReuseConfig, may_reuse


@pytest.mark.parametrize(
    ("known", "doubt", "reused", "allowed"),
    [
        (1, 0.3, 0, True),
        (1, 0.3, 1, True),
        (1, 0.3, 2, False),  # too many in a row
        (1, 0.31, 0, False),  # in doubt
        (0, 0.0, 0, False),  # a first frame
    ],
)
def test_when_a_frame_may_do_without_a_look(
    known: float, doubt: float, reused: int, allowed: bool
) -> None:
    looks = np.zeros((1, len(LOOK_NAMES)), np.float32)
    looks[0, LOOK_NAMES.index("known")], looks[0, LOOK_NAMES.index("doubt")] = known, doubt
    config = ReuseConfig(longest=2, doubt=float(np.float32(0.3)))
    assert may_reuse(looks, np.array([reused]), config).tolist() == [allowed]
    assert not may_reuse(looks, np.array([reused]), ReuseConfig()).any()


def test_limits_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="longest is -1"):
        ReuseConfig(longest=-1)
