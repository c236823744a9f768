"""What the commands share in the terminal: options from a configuration, progress, plain errors.

Data go to standard output; bars, notes and errors go to standard error, so a pipe or ``--json``
sees data only.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from foundation.errors import GearshiftError
from foundation.path_roles import (
    RESULT_FILE,
    RESULT_FOLDER,
    PathRole,
)
from pipelines.cli.terminal import PlainConsole, give_up_output, plain_output
from pipelines.cli.verb_paths import LADDER_ROLE, checking_paths
from pipelines.options import Option, build, options_of, to_json

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

_CONFIG = "config"
_WAITING: dict[Callable[..., Any], tuple[str, Callable[..., Any]]] = {}
"""By the verb without options: where its configuration class is, and the verb itself."""
_EXPLAINED: dict[Callable[..., Any], str] = {}
"""By the verb: where the function is that makes the rest of its help."""

notes = PlainConsole(stderr=True, highlight=False)

argument, option = typer.Argument, typer.Option
"""What verbs say of their parameters; nobody else has to know who reads the command line."""

Json = Annotated[bool, option("--json", help="Print the result as JSON, and nothing else.")]
OutFile = Annotated[Path, option("--out", help="The result, a file."), RESULT_FILE]
OutFolder = Annotated[Path, option("--out", help="The result, a folder."), RESULT_FOLDER]
_RUN = ("run.json", '{\n "result": {')
Workplace = Annotated[
    Path,
    option("--out", help="Folder of the results; what is there already is gone on with."),
    PathRole("workplace", sign=_RUN),
]
RunFolder = Annotated[
    Path,
    option("--out", help="Folder of the results; unchanged ones are not made again."),
    PathRole("workplace", shared_by="pipeline run", sign=_RUN),
]
"""A run of the training pipeline; the demo's is one as well."""


class Verbs(TyperGroup):
    """A group of commands that turns failures into one line and reads options late.

    A verb's configuration class lies beside its stage, and importing a stage may mean importing
    torch. So ``--help`` of the group must not need it; only the verb that is called reads it.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called, and give it the options of its configuration.

        A name may have two words, so that `demo` is a verb and `demo drift` another one.
        """
        if " ".join(args[:2]) in self.commands:
            args = [" ".join(args[:2]), *args[2:]]
        name, command, rest = super().resolve_command(ctx, args)
        verb = inspect.unwrap(command.callback) if command and command.callback else None
        waiting = _WAITING.get(verb) if verb else None
        if waiting is not None:
            command = _with_options(name or "", *waiting)
        if command and command.callback and verb:
            command.callback = checking_paths(
                _words(ctx, name), parameters_of(verb), command.callback, fetched_ladder
            )
        if command and verb in _EXPLAINED and "--help" in rest:
            command.help = f"{command.help}\n\n{_find(_EXPLAINED[verb])()}"
        return name, command, rest

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; what the system refuses is one line and exit code 1, too."""
        try:
            return super().main(*args, **options)
        except OSError as error:  # that nobody reads the output is handled within
            give_up_output()
            about = f": {error.filename!r}" if error.filename else " (standard output?)"
            _say_error(f"{error.strerror or error}{about}; check the disk and the path")
            sys.exit(1)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a failure that is meant for a user is one line and exit code 1."""
        try:
            with plain_output():
                return super().invoke(ctx)
        except GearshiftError as error:
            for note in getattr(error, "__notes__", ()):
                notes.print(note, style="dim", markup=False, soft_wrap=True)
            _say_error(" ".join(str(error).splitlines()))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            notes.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None


def _say_error(sentence: str) -> None:
    with contextlib.suppress(OSError):  # standard error may be full as well
        notes.print(f"error: {sentence}", style="red", markup=False, soft_wrap=True)


def _words(ctx: Any, name: str | None) -> str:
    """What a verb is called, as people type it behind ``gearshift``."""
    words = [name or ""]
    while ctx.parent is not None:
        words.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return " ".join(words)


def parameters_of(verb: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of each parameter of a verb, the options of its configuration too."""
    found: dict[str, tuple[Any, Any]] = {}
    if verb in _WAITING:
        place, verb = _WAITING[verb]
        config = _find(place)
        hints = typing.get_type_hints(config, include_extras=True)
        found = {one.name: (hints[one.name], one.default) for one in options_of(config)}
    hints = typing.get_type_hints(verb, include_extras=True)
    for name, parameter in inspect.signature(verb).parameters.items():
        if name != _CONFIG:
            found[name] = hints[name], parameter.default
    return found


def group(text: str) -> typer.Typer:
    """A group of verbs.

    Args:
        text: its help, in Markdown.
    """
    return typer.Typer(
        cls=Verbs,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )


def configured_by(place: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a verb the options of a configuration class; it receives them as ``config``.

    Args:
        place: "module:Class", imported when the verb is called.
    """

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        def bare() -> None:
            raise RuntimeError("the verb's options are read before it is called")

        bare.__doc__, bare.__name__ = verb.__doc__, verb.__name__
        _WAITING[bare] = (place, verb)
        return bare

    return decorate


def explained_by(place: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Append what a function returns to a verb's ``--help``, in Markdown.

    Args:
        place: "module:function", imported when the help is asked for.
    """

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        _EXPLAINED[verb] = place
        return verb

    return decorate


Move = Callable[[int, int | None], None]
"""Moves a bar to so many units done, of so many in all (None where nobody knows)."""


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Move]:
    """Show a bar while the block works; yields the callback that moves it."""
    with progress_bars(label) as (move,):
        yield move


@contextlib.contextmanager
def progress_bars(*labels: str) -> Iterator[tuple[Move, ...]]:
    """Show a bar for each label while the block works; lines where there is no terminal."""
    if not notes.is_terminal:
        yield tuple(_plain_progress(label) for label in labels)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=notes) as bars:

        def mover(label: str) -> Move:
            bar = bars.add_task(label, total=None)
            return lambda done, total: bars.update(bar, completed=done, total=total)

        yield tuple(mover(label) for label in labels)


def _plain_progress(label: str) -> Move:
    """Say every tenth of the work on a line of its own."""
    told = 0

    def move(done: int, total: int | None) -> None:
        nonlocal told
        tenth = 10 * done // total if total else 0
        if tenth < told:
            told = tenth  # another part of the work has begun: after the bytes, the pictures
        if tenth > told:
            told = tenth
            notes.print(f"{label}: {10 * tenth} % ({done} of {total})")

    return move


def fetched_ladder(ladder: str) -> str:
    """Turn what ``--ladder`` says into a folder, once paths are checked and before any bar.

    Raises InvalidInput, ModelError and StorageError as ``pipelines.ladder_files`` does.
    """
    if ladder != "coco":
        return ladder
    from pipelines.ladder_files import ladder_folder

    with progress_bar("weights") as progress:
        return str(ladder_folder(ladder, progress))


def checked_settings(settings: list[str] | None) -> list[str] | None:
    """Refuse what ``--set`` cannot mean, before another option has weights or pictures fetched.

    Raises ConfigurationError as ``pipelines.training.pipeline.stage_options`` does.
    """
    if settings:
        from pipelines.options import parse_settings
        from pipelines.training.pipeline import STAGES, stage_options

        stage_options(parse_settings(settings, STAGES))
    return settings


Ladder = Annotated[
    str,
    option(
        "--ladder",
        "--weights",
        help="Folder with nano.onnx, small.onnx, large.onnx; `coco`: Ultralytics', fetched once.",
    ),
    LADDER_ROLE,
]
Settings = Annotated[
    list[str] | None,
    option(
        "--set",
        metavar="STAGE.OPTION=VALUE",
        help="Set a stage's option; repeatable.",
        is_eager=True,
        callback=checked_settings,
    ),
]


def show(data: object, as_json: bool) -> None:
    """Print a summary: as JSON, or one line per value."""
    values = to_json(data)
    if as_json:
        print(json.dumps(values, indent=1, allow_nan=False))
        return
    for name, value in values.items():
        print(f"{name.replace('_', ' '):<24} {_readable(value)}")


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_readable(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_readable(item) for item in value)
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _with_options(name: str, place: str, verb: Callable[..., Any]) -> Any:
    """The verb's command, its ``config`` parameter replaced by one option per field."""
    config = _find(place)
    options = options_of(config)
    hints = typing.get_type_hints(verb, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.name != _CONFIG
    ]

    def complete(**given: Any) -> Any:
        chosen = {option.name: given.pop(option.name) for option in options}
        changed = {name: value for name, value in chosen.items() if value is not None}
        return verb(config=build(config, changed, name), **given)

    complete.__doc__ = verb.__doc__
    complete.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # inspect reads it
        [*own, *(_parameter(option) for option in options)]
    )
    complete.__annotations__ = {}
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name)(complete)
    return typer.main.get_command(single)


def _find(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _parameter(option: Option) -> inspect.Parameter:
    """An option as typer reads it from a signature; unset options are None."""
    kind, metavar = _kind_of(option.annotation)
    default = option.default
    if isinstance(default, Sequence) and not isinstance(default, str):
        default = ",".join(str(item) for item in default)
    flag = f"--{option.name.replace('_', '-')}"
    flags = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    shown = None if default is None or default == "" else f"default: {default}"
    help_text = f"{option.help} [{shown}]" if shown else option.help
    information = typer.Option(*flags, help=help_text, metavar=metavar, show_default=False)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, information],
    )


def _kind_of(annotation: Any) -> tuple[type, str | None]:
    """The type typer shall parse to, and the word for the value in ``--help``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (annotation,) = (argument for argument in arguments if argument is not types.NoneType)
        return _kind_of(annotation)
    if origin is typing.Literal:
        return str, "|".join(str(choice) for choice in arguments)
    if origin is tuple:
        return str, "A,B,..."
    if annotation in (int, float, bool):
        return annotation, None
    return str, None
