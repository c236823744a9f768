"""Options within their ranges: one check and one sentence for all configuration."""

from __future__ import annotations

import math

from foundation.errors import ConfigurationError


def check_range(options: object, low: float, high: float, *names: str) -> None:
    """Refuse options out of their range; a NaN is in none, and None is not given.

    Args:
        options: what has the attributes, a configuration.
        low: the smallest value allowed.
        high: the largest one; ``math.inf`` where there is no such limit.
        names: the attributes.

    Raises:
        ConfigurationError: names the first option that is out of its range, its value and the
            range.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            allowed = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise ConfigurationError(f"{name} is {value}; give {allowed}")
