"""A stage's configuration, seen from outside: its options, their texts, and values from text.

Each stage has one frozen dataclass. The command line's options, the pipeline's parameters and
their documentation are all read off it here, so a default stands in one place only.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

from foundation.command_line import class_texts
from foundation.errors import ConfigurationError
from foundation.nearest import unknown

_Config = TypeVar("_Config")

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_NONE = ("", "none", "null")


@dataclasses.dataclass(frozen=True)
class FromEnvironment:
    """Stands in the annotation of a field that an environment variable sets, too."""

    name: str


class Option(NamedTuple):
    """One field of a configuration.

    Attributes:
        name: the field's name.
        annotation: its type, resolved.
        environment: variable that sets it on the command line; empty without one.
        default: its default as the dataclass has it.
        help: its text from the docstring's "Attributes" section, on one line.
    """

    name: str
    annotation: Any
    environment: str
    default: Any
    help: str


def options_of(config: type) -> tuple[Option, ...]:
    """Options of a configuration class, in the order of its fields."""
    hints = typing.get_type_hints(config)
    marked = typing.get_type_hints(config, include_extras=True)
    texts = class_texts(config)
    return tuple(
        Option(
            field.name,
            hints[field.name],
            _environment_of(marked[field.name]),
            _default_of(field),
            texts.get(field.name, ""),
        )
        for field in dataclasses.fields(config)
    )


def defaults_of(config: type) -> dict[str, Any]:
    """Every default of a configuration, in types that JSON knows."""
    return {option.name: to_json(option.default) for option in options_of(config)}


def describe(config: type) -> str:
    """One paragraph that names each option with its text, for a pipeline parameter."""
    return " ".join(f"{option.name}: {option.help}" for option in options_of(config))


def build(config: type[_Config], values: Mapping[str, Any], where: str) -> _Config:
    """Make a configuration from values that may be text, or numbers that lost their type.

    KFP hands every number over as a float; a command line hands over text.

    Args:
        config: the dataclass to make.
        values: by option name; options left out keep their default.
        where: what the values belong to, named in errors.

    Raises:
        ConfigurationError: an unknown option, or a value of another type.
    """
    known = {option.name: option for option in options_of(config)}
    converted = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigurationError(f"{where}: the option {unknown(name, known)}")
        converted[name] = _convert(value, known[name].annotation, f"{where}.{name}")
    return config(**converted)


def parse_settings(settings: Iterable[str], stages: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read ``stage.option=value`` settings into values by stage; a later one wins.

    An option that is a configuration itself is written ``stage.option.inner=value``.

    Raises:
        ConfigurationError: a setting of another form, or an unknown stage.
    """
    known = tuple(stages)
    found: dict[str, dict[str, Any]] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        stage, *names = path.strip().split(".")
        if not equals or not names or not all(names):
            raise ConfigurationError(
                f"setting {setting!r} is not understood; write stage.option=value"
            )
        if stage not in known:
            raise ConfigurationError(f"the stage {unknown(stage, known)}")
        inner: Any = value.strip()
        for name in reversed(names):
            inner = {name: inner}
        found[stage] = merge(found.get(stage, {}), inner)
    return found


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one; the second wins, except that mappings inside are merged in turn."""
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def to_json(value: Any) -> Any:
    """Turn a value of a configuration or a summary into types that JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return to_json(value.model_dump())
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return value.tolist()
    return value


def _environment_of(annotation: Any) -> str:
    parts = (*getattr(annotation, "__metadata__", ()), *typing.get_args(annotation))
    for part in parts:
        found = part.name if isinstance(part, FromEnvironment) else _environment_of(part)
        if found:
            return found
    return ""


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        raise TypeError(f"option {field.name} has no default; every option of a stage has one")
    return field.default


def _convert(value: Any, annotation: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in _NONE):
            return None
        (annotation,) = (argument for argument in arguments if argument is not types.NoneType)
        return _convert(value, annotation, where)
    if origin is Literal:
        for choice in arguments:
            if str(value) == str(choice):
                return choice
        choices = ", ".join(str(choice) for choice in arguments)
        raise ConfigurationError(f"{where} is {value!r}; choose from {choices}")
    if origin is tuple:
        items = [part for part in value.split(",") if part] if isinstance(value, str) else value
        kinds = arguments[:1] * len(items) if arguments[-1] is ... else arguments
        if len(kinds) != len(items):
            raise ConfigurationError(f"{where} is {value!r}; give {len(kinds)} values")
        return tuple(_convert(item, kind, where) for item, kind in zip(items, kinds, strict=True))
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where} is {value!r}; set its options one by one")
        return build(annotation, value, where)
    return _convert_plain(value, annotation, where)


def _convert_plain(value: Any, annotation: Any, where: str) -> Any:
    try:
        if annotation is bool:
            text = str(value).lower()
            if text not in _TRUE + _FALSE:
                raise ValueError
            return text in _TRUE
        if annotation is int:
            # A float is a number that went through JSON; a fraction is a mistake.
            if isinstance(value, float) and not value.is_integer():
                raise ValueError
            return int(value.replace("_", "") if isinstance(value, str) else value)
        if annotation is float:
            return float(value)
    except (TypeError, ValueError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[annotation]
        raise ConfigurationError(f"{where} is {value!r}; give {kind}") from None
    if annotation is Path:
        return Path(value)
    if annotation is str:
        return str(value)
    return value
