from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from foundation.configuration import configuration
from foundation.errors import ConfigurationError


@configuration
class Options:
    port: Annotated[int, Field(ge=0, le=65535)] = 8600
    weight: Annotated[float, Field(ge=0)] | None = None
    least: float = 1.0
    most: float = 2.0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ConfigurationError("least is above most")


def test_it_is_a_frozen_dataclass_like_any_other() -> None:
    made = Options(port=1, folder="a")  # type: ignore[arg-type]
    assert made.folder == Path("a") and Options.port == 8600
    assert dataclasses.replace(made, port=2) == Options(2, None, 1.0, 2.0, Path("a"))
    assert pickle.loads(pickle.dumps(made)) == made
    assert [field.name for field in dataclasses.fields(Options)][:2] == ["port", "weight"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.port = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 70000}, r"^port is 70000; give 0 to 65535$"),
        ({"port": -1}, r"^port is -1; give 0 to 65535$"),
        ({"port": 1.5}, r"^port is 1.5; give 0 to 65535$"),
        ({"port": "x"}, r"^port is x; give 0 to 65535$"),
        ({"weight": -1}, r"^weight is -1; give at least 0.0$"),
        ({"weight": math.nan}, r"^weight is nan; give a finite number$"),
        ({"least": math.inf}, r"^least is inf; give a finite number$"),
        ({"least": 3.0}, r"^least is above most$"),
        ({"lest": 3.0}, r"^lest: "),
    ],
)
def test_a_wrong_value_is_named_with_its_range(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Options(**given)
    if "lest" not in given:
        with pytest.raises(ConfigurationError, match=message):
            dataclasses.replace(Options(), **given)
