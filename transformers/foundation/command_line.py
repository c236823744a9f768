"""A service's command line, read off its frozen dataclasses: one option per field."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from foundation.errors import ConfigurationError, GearshiftError

_Config = TypeVar("_Config")
_TRUE, _FALSE = ("true", "yes", "y", "t", "on", "1"), ("false", "no", "n", "f", "off", "0")


def add_options(parser: argparse.ArgumentParser, config: type, title: str) -> None:
    """Give a parser one option for each field of a dataclass, under a heading of their own.

    Options are spelled as KServe spells its own (``--http_port``) and with hyphens as well
    (``--http-port``). Their texts are those of the docstring's "Attributes" section; a field
    without a default must be given.
    """
    hints, texts = typing.get_type_hints(config), class_texts(config)
    group = parser.add_argument_group(title)
    for field in dataclasses.fields(config):
        spellings = dict.fromkeys((f"--{field.name.replace('_', '-')}", f"--{field.name}"))
        convert, choices = _reader(hints[field.name])
        required = field.default is dataclasses.MISSING
        shown = "" if required or field.default is None else f" (default: {_shown(field.default)})"
        settings: dict[str, Any] = {"type": convert, "choices": choices}
        if choices is None:
            settings["metavar"] = field.name.rpartition("_")[2].upper()
        if convert is _truth:
            settings |= {"nargs": "?", "const": True, "metavar": "true|false"}
        group.add_argument(
            *spellings,
            dest=field.name,
            required=required,
            default=None if required else field.default,
            help=(texts.get(field.name, "").rstrip(".") + shown).replace("%", "%%"),
            **settings,
        )


def read_options(parsed: argparse.Namespace, config: type[_Config]) -> _Config:
    """The dataclass that a parsed command line describes.

    Raises:
        ConfigurationError: a value out of its range.
    """
    fields = dataclasses.fields(typing.cast(Any, config))
    return config(**{field.name: getattr(parsed, field.name) for field in fields})


def read_pairs(pairs: Iterable[str], what: str, value: str = "VALUE") -> dict[str, str]:
    """``NAME=VALUE`` texts of a repeated option, as a mapping.

    Args:
        pairs: the texts.
        what: what has a name, for the message.
        value: what the value is, likewise.

    Raises:
        ConfigurationError: a text without ``=``, with an empty side, or with a name given before.
    """
    read: dict[str, str] = {}
    for pair in pairs:
        name, _, given = pair.partition("=")
        if not name or not given:
            raise ConfigurationError(f"{what} {pair!r}: give it as NAME={value}")
        if name in read:
            raise ConfigurationError(f"{what} {name!r} is given twice; give each name once")
        read[name] = given
    return read


def announce(service: str, **addresses: str | None) -> None:
    """Print one line of JSON on stdout: a service answers, and where."""
    print(json.dumps({"ready": service, **addresses}), flush=True)


def run_command(command: Callable[[], None]) -> int:
    """Run a service and give its exit code: a refusal is one line on stderr and code 1."""
    try:
        command()
    except GearshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _reader(annotation: Any) -> tuple[Callable[[str], Any], tuple[str, ...] | None]:
    """How to turn text into a field's value, and the choices if they are few."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    if typing.get_origin(annotation) is Literal:
        return str, typing.get_args(annotation)
    if annotation is bool:
        return _truth, None
    if annotation in (int, float, str, Path):
        return annotation, None
    raise TypeError(f"no command-line form for a field of type {annotation}")


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default) or "none"


def class_texts(config: type) -> dict[str, str]:
    """Text of every attribute of a class, its bases' included; see :func:`attribute_texts`."""
    texts: dict[str, str] = {}
    for one in reversed(config.__mro__):
        texts |= attribute_texts(one.__doc__ or "")
    return texts


def attribute_texts(docstring: str) -> dict[str, str]:
    """Text of every attribute in a docstring's "Attributes" section, each on one line."""
    # From 3.13 on Python takes the indentation away itself.
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    texts: dict[str, list[str]] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" " * 4):
            break
        if start := re.match(r" {4}(\w+): (.*)", line):
            name = start[1]
            texts[name] = [start[2].strip()]
        elif line and name:
            texts[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in texts.items()}
