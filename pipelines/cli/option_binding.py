"""Options of the command line from configuration classes: one rule for every verb.

A verb names the configuration classes that it takes (``configured_by``). Each field becomes an
option: its name, type, default and text are the field's own, so each stands in one place.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pipelines.options import Option, build, options_of
from pipelines.static_options import Unreadable, read_options


@dataclass(frozen=True)
class ConfiguredVerb:
    """A verb, and the configuration classes that it receives.

    Attributes:
        verb: the function.
        places: "module:Class" by the name of the parameter that receives the configuration.
    """

    verb: Callable[..., Any]
    places: Mapping[str, str]

    def classes(self) -> dict[str, type]:
        """The configuration classes by parameter; imports their modules."""
        return {parameter: _import(place) for parameter, place in self.places.items()}

    def own_parameters(self) -> list[inspect.Parameter]:
        """Parameters of the verb itself, their annotations resolved."""
        hints = typing.get_type_hints(self.verb, include_extras=True)
        return [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in inspect.signature(self.verb).parameters.values()
            if parameter.name not in self.places
        ]


class Verb(TyperCommand):
    """A command that suggests one name where an option is mistyped."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; raises an error of usage as typer does."""
        with one_suggestion():
            return super().parse_args(ctx, args)


@contextlib.contextmanager
def one_suggestion() -> Iterator[None]:
    """Let an error about an unknown option or verb name the nearest one, not all that are near."""
    try:
        yield
    except Exception as error:
        if getattr(error, "possibilities", None):
            nearest, error.possibilities = error.possibilities[0], None  # type: ignore[attr-defined]
            error.message = f"{error.message}. Did you mean {nearest}?"  # type: ignore[attr-defined]
        elif "Did you mean" in (message := getattr(error, "message", "")):
            error.message = re.sub(r"(Did you mean '[^']*').*", r"\1?", message)  # type: ignore[attr-defined]
        raise


_CONFIGURED: dict[Callable[..., Any], ConfiguredVerb] = {}
"""By the stand-in that typer knows."""


def configured_by(place: str = "", **places: str) -> Callable[[Any], Callable[..., Any]]:
    """Give a verb the options of configuration classes.

    Args:
        place: "module:Class" of the verb's parameter ``config``; imported when the verb is called.
        places: further ones, by the name of the parameter.
    """
    if place:
        places = {"config": place, **places}

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in() -> None:
            raise RuntimeError("a verb's options are bound before it is called")

        stand_in.__doc__, stand_in.__name__ = verb.__doc__, verb.__name__
        _CONFIGURED[stand_in] = ConfiguredVerb(verb, places)
        return stand_in

    return decorate


def configured(callback: Callable[..., Any]) -> ConfiguredVerb | None:
    """What ``configured_by`` noted of a callback; None where it takes no configuration."""
    return _CONFIGURED.get(callback)


def parameters_of(callback: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of each parameter of a verb, the options of its configurations too."""
    one = _CONFIGURED.get(callback) or ConfiguredVerb(callback, {})
    found: dict[str, tuple[Any, Any]] = {}
    for config in one.classes().values():
        hints = typing.get_type_hints(config, include_extras=True)
        found |= {field.name: (hints[field.name], field.default) for field in options_of(config)}
    return found | {
        parameter.name: (parameter.annotation, parameter.default)
        for parameter in one.own_parameters()
    }


def bound_command(name: str, one: ConfiguredVerb) -> Any:
    """The command of a verb: its own parameters, then one option per field.

    Help and errors of usage need no configuration class; it is imported when the verb runs.
    """
    fields = {parameter: _fields(place) for parameter, place in one.places.items()}

    def run(**given: Any) -> Any:
        made: dict[str, Any] = {}
        for parameter, config in one.classes().items():
            chosen = {field.name: given.pop(field.name) for field in fields[parameter]}
            changed = {key: value for key, value in chosen.items() if value is not None}
            made[parameter] = build(config, changed, name)
        return one.verb(**made, **given)

    run.__doc__ = one.verb.__doc__
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # inspect reads it
        [
            *one.own_parameters(),
            *(_parameter(field) for group in fields.values() for field in group),
        ]
    )
    run.__annotations__ = {}
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name, cls=Verb)(run)
    return typer.main.get_command(single)


def _fields(place: str) -> tuple[Option, ...]:
    try:
        return read_options(place)
    except Unreadable:
        return options_of(_import(place))


def _import(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _parameter(option: Option) -> inspect.Parameter:
    """An option as typer reads it from a signature; unset options are None."""
    kind, metavar = kind_of(option.annotation)
    flag = f"--{option.name.replace('_', '-')}"
    flags = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    shown = default_text(option.default)
    information = typer.Option(
        *flags,
        help=f"{option.help} [{shown}]" if shown else option.help,
        metavar=metavar,
        show_default=False,
        envvar=option.environment or None,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, information],
    )


def default_text(default: Any) -> str:
    """How ``--help`` shows a default; empty where there is none to show."""
    if isinstance(default, Sequence) and not isinstance(default, str):
        default = ",".join(str(item) for item in default)
    return "" if default is None or default == "" else f"default: {default}"


def kind_of(annotation: Any) -> tuple[type, str | None]:
    """The type typer shall parse to, and the word for the value in ``--help``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (annotation,) = (argument for argument in arguments if argument is not types.NoneType)
        return kind_of(annotation)
    if origin is typing.Literal:
        return str, "|".join(str(choice) for choice in arguments)
    if origin is tuple:
        return str, "A,B,..."
    if annotation in (int, float, bool):
        return annotation, None
    return str, None
