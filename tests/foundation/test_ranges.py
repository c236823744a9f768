from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from foundation.errors import ConfigurationError
from foundation.ranges import check_range


@pytest.mark.parametrize("value", [0.5, 1, 2.0, None])
def test_within(value: float | None) -> None:
    check_range(SimpleNamespace(share=value), 0.5, 2, "share")


@pytest.mark.parametrize("value", [0.49, 2.01, -math.inf, math.inf, math.nan])
def test_out_of_range(value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"^share is {value}; give 0.5 to 2$"):
        check_range(SimpleNamespace(share=value), 0.5, 2, "share")


def test_the_first_that_is_wrong_is_named() -> None:
    options = SimpleNamespace(lanes=3, threads=0, workers=-1)
    with pytest.raises(ConfigurationError, match="^threads is 0; give at least 1$"):
        check_range(options, 1, math.inf, "lanes", "threads", "workers")
    with pytest.raises(ConfigurationError, match="^lanes is nan; give at least 1$"):
        check_range(SimpleNamespace(lanes=math.nan), 1, math.inf, "lanes")
