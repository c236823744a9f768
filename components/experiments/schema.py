"""What an experiment may set: every option of every stage, with its type and its default.

The types are those of the stages' own configuration dataclasses, so a new option of a stage is one
of experiments at once. Each value is checked by pydantic's ``TypeAdapter`` in its strict mode,
where ``"5"`` is no number and ``true`` is none either; the whole stage is then built once, for the
ranges that its ``__post_init__`` checks.

OmegaConf's structured configurations, on which Hydra stands, merge typed dataclasses as well. They
were not taken: they know neither ``Literal`` nor ``tuple[int, ...]``, which the stages use, they
turn ``"5"`` into 5 silently, and a merged value does not show which file it came from, which
is what ``show`` is for. dacite builds dataclasses, but neither knows where a value came from nor
turns it back into JSON. pydantic is here already, for the gateway.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from foundation import yaml_text
from foundation.errors import ConfigurationError
from foundation.nearest import unknown

Values = Mapping[str, Any]
"""Values by path, ``refine.learning_rate`` for example, in types that JSON knows."""


class ExperimentLoader(yaml_text.Loader):
    """YAML as people write it: ``5e-4`` is a number, and no name stands twice in a mapping."""


ExperimentLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", yaml_text.FLOAT, yaml_text.FLOAT_BEGINS
)


def read_yaml(text: str | bytes) -> Any:
    """What a text of YAML holds.

    Raises:
        yaml.YAMLError: it is none, may grow to any size, or has a value that does not exist.
    """
    return yaml_text.read_yaml(text, ExperimentLoader)


def _mapping(loader: ExperimentLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if isinstance(key, str) and key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"{key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


ExperimentLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True)
class Key:
    """One option.

    Attributes:
        path: ``stage.option``; an option of a configuration inside has a further name.
        annotation: its type.
        default: its default, in types that JSON knows.
    """

    path: str
    annotation: Any
    default: Any

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation, config=ConfigDict(strict=True, allow_inf_nan=False))

    def typed(self, value: Any) -> Any:
        """The value in its type.

        Raises:
            ConfigurationError: it is of another one.
        """
        try:
            # JSON has no tuple and no path; in this mode a list and a text stand for them.
            return self._adapter.validate_json(json.dumps(value, allow_nan=False))
        except ValidationError as error:
            first = error.errors()[0]
            inner = ".".join(str(part) for part in first["loc"] if isinstance(part, int))
            where = f"{self.path}[{inner}]" if inner else self.path
            expected = str(first["msg"]).removeprefix("Input should be ").replace("a valid", "a")
            raise ConfigurationError(f"{where} is {_shown(value)}; give {expected}") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"{self.path} is {_shown(value)}; give another one") from error

    def checked(self, value: Any) -> Any:
        """The value as JSON holds it: 1 is 1.0 where a float is asked for; raises as ``typed``."""
        return self._adapter.dump_python(self.typed(value), mode="json")

    def parsed(self, text: str) -> Any:
        """The value of a text of the command line, read as in the YAML file; raises as ``typed``.

        A list needs no brackets there: ``1,4,8``.
        """
        listed = typing.get_origin(self.annotation) is tuple and not text.startswith("[")
        try:
            value = read_yaml(f"[{text}]" if listed else text)
        except yaml.YAMLError:
            value = text
        try:
            return self.checked(value)
        except ConfigurationError as error:
            try:
                return self.checked(text)  # the text itself, where one is asked for
            except ConfigurationError:
                raise error from None


class Schema:
    """All options there are."""

    def __init__(
        self, stages: Mapping[str, type], defaults: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Read the options off the stages' configurations.

        Args:
            stages: configuration dataclass by the stage's name.
            defaults: by stage, where they differ from the class's own.
        """
        self._stages = dict(stages)
        own = defaults or {}
        self.keys: Mapping[str, Key] = {
            key.path: key for name, kind in stages.items() for key in _keys(kind, name)
        }
        for stage, values in own.items():
            for path, value in _leaves(values, stage, self.keys):
                key = self.keys[path]
                self.keys = {
                    **self.keys,
                    path: dataclasses.replace(key, default=key.checked(value)),
                }

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Every default by path."""
        return {path: key.default for path, key in self.keys.items()}

    def key(self, path: str) -> Key:
        """The option at a path.

        Raises:
            ConfigurationError: there is none; names the nearest one.
        """
        if path not in self.keys:
            raise ConfigurationError(f"the option {unknown(path, self._candidates(path))}")
        return self.keys[path]

    def flat(self, document: Any) -> dict[str, Any]:
        """Values by path of a nested mapping, each checked.

        Raises:
            ConfigurationError: an unknown option or a value of another type; names it.
        """
        if not isinstance(document, Mapping):
            raise ConfigurationError("`set` is no mapping of stages to options")
        return {
            path: self.key(path).checked(value) for path, value in _leaves(document, "", self.keys)
        }

    def check(self, values: Values) -> None:
        """Build every stage once, so that values out of range are refused.

        Args:
            values: all of them, by path.

        Raises:
            ConfigurationError: as the stage raises it.
        """
        typed: dict[str, Any] = {}
        for path, value in values.items():
            typed[path] = self.key(path).typed(value)
        document = nested(typed)
        for stage, kind in self._stages.items():
            try:
                _build(kind, document.get(stage, {}))
            except ConfigurationError as error:
                message = str(error)
                raise ConfigurationError(
                    message if message.startswith(f"{stage}.") else f"{stage}: {message}"
                ) from error

    def _candidates(self, path: str) -> list[str]:
        stage = path.partition(".")[0]
        if stage not in self._stages:
            if "." not in path:
                return list(self._stages)
            option = path.rpartition(".")[2]
            same = [one for one in self.keys if one.rpartition(".")[2] == option]
            return same or list(self.keys)
        return [one for one in self.keys if one.startswith(f"{stage}.")] or list(self.keys)


def nested(values: Values) -> dict[str, Any]:
    """Paths taken apart: ``{"a.b": 1}`` as ``{"a": {"b": 1}}``."""
    document: dict[str, Any] = {}
    for path, value in values.items():
        place = document
        *rooms, name = path.split(".")
        for room in rooms:
            place = place.setdefault(room, {})
        place[name] = value
    return document


def _keys(kind: type, where: str) -> Iterator[Key]:
    """The options of a configuration; its defaults alone need not make one that can be built."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        path, annotation = f"{where}.{field.name}", hints[field.name]
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            yield from _keys(annotation, path)
            continue
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        if default is dataclasses.MISSING:
            raise TypeError(f"{path} has no default; every option of a stage has one")
        yield Key(path, annotation, TypeAdapter(annotation).dump_python(default, mode="json"))


def _leaves(
    document: Mapping[Any, Any], where: str, keys: Mapping[str, Key]
) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        path = f"{where}.{name}" if where else str(name)
        if isinstance(value, Mapping) and path not in keys:
            yield from _leaves(value, path, keys)
        else:
            yield path, value


def _build(kind: type, document: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    values = {
        name: _build(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
        for name, value in document.items()
    }
    return kind(**values)


def _shown(value: Any) -> str:
    return "empty" if value is None else repr(value)[:60]
