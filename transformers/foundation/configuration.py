"""Configuration: frozen dataclasses whose fields state their types and ranges."""

from __future__ import annotations

import functools
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from foundation.errors import ConfigurationError

_Config = TypeVar("_Config")

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole, or a probability."""


@dataclass_transform(frozen_default=True)
def configuration(cls: type[_Config]) -> type[_Config]:
    """Make a frozen dataclass that checks its fields.

    Ranges stand in the annotations, ``port: Annotated[int, Field(ge=0, le=65535)] = 8600``; what
    concerns several fields is checked in ``__post_init__``, which sees valid ones. NaN and infinity
    are refused.

    Raises:
        ConfigurationError: on construction; names the first wrong field, its value and its range.
    """
    made: Any = dataclass(frozen=True, config=ConfigDict(allow_inf_nan=False, extra="forbid"))(cls)
    construct = made.__init__

    @functools.wraps(construct)
    def checked(self: Any, *values: Any, **named: Any) -> None:
        try:
            construct(self, *values, **named)
        except ValidationError as error:
            raise ConfigurationError(_sentence(made, error)) from None

    made.__init__ = checked
    return made


def _sentence(made: Any, error: ValidationError) -> str:
    """The first wrong field in words; a range of two bounds is named whole."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] in ("missing", "missing_argument", "unexpected_keyword_argument"):
        return f"{name or made.__name__}: {first['msg']}"
    field = made.__pydantic_fields__.get(name)
    bounds = dict(first.get("ctx", {}))
    for one in field.metadata if field is not None else ():
        bounds |= {bound: getattr(one, bound) for bound in ("ge", "le") if hasattr(one, bound)}
    if "ge" in bounds:
        allowed = (
            f"{bounds['ge']} to {bounds['le']}" if "le" in bounds else f"at least {bounds['ge']}"
        )
    elif "le" in bounds:
        allowed = f"at most {bounds['le']}"
    else:
        allowed = str(first["msg"]).removeprefix("Input should be ")
    return f"{name} is {first['input']}; give {allowed}"
