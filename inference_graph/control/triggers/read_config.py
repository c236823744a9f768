"""Reading ``triggers.yaml``: every key is known and every value has its type; else an error."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from foundation.errors import ConfigurationError
from foundation.nearest import unknown
from foundation.yaml_text import read_yaml
from inference_graph.control.triggers.config import RULES, Rule, TriggersConfig

_Kind = TypeVar("_Kind")
_LONGEST = 1024 * 1024
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def read_triggers(path: Path, log: str = "") -> TriggersConfig:
    """Read a file of triggers.

    Args:
        path: the file.
        log: the prediction log, where the file names none.

    Raises:
        ConfigurationError: it cannot be read, or something in it is not understood; names the
            place and, for a key, the nearest one that exists.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ConfigurationError(f"{path} is longer than {_LONGEST} bytes; that is no triggers")
        document = read_yaml(text, references=True)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}; check the path") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"{path} is no YAML: {reason}") from error
    try:
        config = _build(TriggersConfig, document, "")
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return replace(config, log=log) if log and not config.log else config


def _build(kind: type[_Kind], document: Any, where: str) -> _Kind:
    """A dataclass from a mapping."""
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{where or 'the file'} is no mapping of names to values")
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(typing.cast(Any, kind))
    known = [field.name for field in fields]
    values: dict[str, Any] = {}
    for key, value in document.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise ConfigurationError(f"{place}: {unknown(str(key), known)}")
        values[key] = _value(hints[key], value, place)
    for field in fields:
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and field.name not in values:
            raise ConfigurationError(f"{where + ': ' if where else ''}{field.name} is missing")
    try:
        return kind(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}" if where else str(error)) from error


def _rule(document: Any, where: str) -> Rule:
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{where} is no mapping of names to values")
    when = document.get("when")
    if not isinstance(when, str):
        raise ConfigurationError(f"{where}: when is missing; choose of {', '.join(RULES)}")
    if when not in RULES:
        raise ConfigurationError(f"{where}.when: {unknown(when, RULES)}")
    rest = {key: value for key, value in document.items() if key != "when"}
    return _build(RULES[when], rest, where)


def _value(annotation: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not types.NoneType)
        return None if value is None else _value(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigurationError(f"{where} is {_shown(value)}; give a list")
        return tuple(_value(arguments[0], one, f"{where}[{n}]") for n, one in enumerate(value))
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigurationError(f"{where}: {unknown(str(value), arguments)}")
        return value
    if annotation is Rule:
        return _rule(value, where)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _build(annotation, value, where)
    if origin is not None:  # a mapping of anything
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ConfigurationError(f"{where} is {_shown(value)}; give names and values")
        return dict(value)
    return _plain(annotation, value, where)


def _plain(annotation: Any, value: Any, where: str) -> Any:
    if annotation is Path:
        return Path(_plain(str, value, where))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is float and number and math.isfinite(value):
        return float(value)
    if annotation is int and number and float(value).is_integer():
        return int(value)
    if annotation in (str, bool) and isinstance(value, annotation):
        return value
    raise ConfigurationError(f"{where} is {_shown(value)}; give {_WORDS[annotation]}")


def _shown(value: Any) -> str:
    return "empty" if value is None else repr(value)[:60]
