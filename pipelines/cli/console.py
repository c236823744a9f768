"""What the commands share in the terminal: options from a configuration, progress, plain errors.

Data go to standard output; bars, notes and errors go to standard error, so a pipe or ``--json``
sees data only.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from foundation.errors import GearshiftError
from foundation.path_roles import RESULT_FILE, RESULT_FOLDER, PathRole
from pipelines.cli.option_binding import (
    Verb,
    bound_command,
    configured,
    one_suggestion,
    parameters_of,
)
from pipelines.cli.option_binding import configured_by as configured_by
from pipelines.cli.terminal import PlainConsole, give_up_output, plain_output
from pipelines.cli.verb_paths import LADDER_ROLE, checking_paths
from pipelines.options import to_json

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


notes = PlainConsole(stderr=True, highlight=False)

argument, option = typer.Argument, typer.Option
"""What verbs declare about their parameters, for the reader of the command line."""

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
    """A group of commands: failures are one line, and options are bound when a verb is called."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the group's own options; raises an error of usage as typer does."""
        with one_suggestion():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called, and give it the options of its configuration.

        A name may have two words, so that `demo` is a verb and `demo drift` another one.
        """
        if " ".join(args[:2]) in self.commands:
            args = [" ".join(args[:2]), *args[2:]]
        with one_suggestion():
            name, command, rest = super().resolve_command(ctx, args)
        if not command or not command.callback:
            return name, command, rest
        callback = inspect.unwrap(command.callback)
        one = configured(callback)
        bound: Any = command if one is None else bound_command(name or "", one)
        bound.callback = checking_paths(
            _words(ctx, name), lambda: parameters_of(callback), bound.callback, fetched_ladder
        )
        return name, bound, rest

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, panel by panel: verbs and groups of a panel stand together."""
        names = super().list_commands(ctx)
        panels = [getattr(self.commands[name], "rich_help_panel", None) for name in names]
        place = {name: panels.index(panel) for name, panel in zip(names, panels, strict=True)}
        return sorted(names, key=place.__getitem__)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Names to complete with; a shell takes a name of two words for two."""
        return [one for one in super().shell_complete(ctx, incomplete) if " " not in one.value]

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; what the system refuses is one line and exit code 1, too."""
        try:
            return super().main(*args, **options)
        except OSError as error:  # an output without a reader is handled within
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


def note(text: str) -> None:
    """Print a line beside the result, a warning in yellow."""
    style = "yellow" if text.startswith("warning") else None
    notes.print(text, style=style, markup=False, soft_wrap=True)


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


class _Group(typer.Typer):
    """A group whose verbs suggest one name where an option is mistyped."""

    def command(self, name: str | None = None, **given: Any) -> Any:
        """Register a verb, as typer does."""
        return super().command(name, **{"cls": Verb, **given})


def group(text: str, add_completion: bool = False) -> typer.Typer:
    """A group of verbs.

    Args:
        text: its help, in Markdown.
        add_completion: offer `--install-completion` and `--show-completion`.
    """
    return _Group(
        cls=Verbs,
        help=text,
        no_args_is_help=True,
        add_completion=add_completion,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


Move = Callable[[int, int | None], None]
"""Moves a bar to so many units done, of so many in all (None where unknown)."""


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


_QUIET_SECONDS = 30.0
"""Without a terminal, progress is printed at least so often."""


def _plain_progress(label: str) -> Move:
    """Print every tenth of the work on a line of its own, and whatever is done every half minute.

    Work whose end is unknown begins with a line.
    """
    shown, printed = 0, time.monotonic()
    began = False

    def move(done: int, total: int | None) -> None:
        nonlocal shown, printed, began
        tenth = 10 * done // total if total else 0
        if tenth < shown:
            shown = tenth  # another part of the work has begun: after the bytes, the pictures
        due = time.monotonic() - printed >= _QUIET_SECONDS or not (total or began)
        if tenth > shown or due:
            shown, printed, began = tenth, time.monotonic(), True
            share = f"{100 * done // total} % ({done} of {total})" if total else f"{done}"
            notes.print(f"{label}: {share}", markup=False)

    return move


def fetched_ladder(ladder: str) -> str:
    """Turn the value of ``--ladder`` into a folder, once paths are checked and before any bar.

    Raises InvalidInput, ModelError and StorageError as ``pipelines.ladder_files`` does.
    """
    if ladder != "coco":
        return ladder
    from pipelines.ladder_files import ladder_folder

    with progress_bar("weights") as progress:
        return str(ladder_folder(ladder, progress))


def read_settings(
    settings: list[str] | None, protect: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    """What ``--set`` and ``--protect`` give, by stage and option; checked already."""
    from pipelines.options import parse_settings
    from pipelines.training.stages import STAGES

    chosen = parse_settings(settings or (), STAGES)
    if protect:
        chosen.setdefault("gate", {})["protect"] = list(protect)
    return chosen


def _checked_settings(settings: list[str] | None) -> list[str] | None:
    """Refuse what ``--set`` cannot mean, before another option has weights or data fetched.

    Raises ConfigurationError as ``parse_settings`` and ``stage_options`` do.
    """
    if settings:
        from pipelines.training.stages import stage_options

        stage_options(read_settings(settings))
    return settings


def _checked_floors(protect: list[str] | None) -> list[str] | None:
    """Refuse a floor that cannot be read, before anything is fetched."""
    if protect:
        from pipelines.training.stages import stage_options

        stage_options(read_settings(None, protect))
    return protect


Ladder = Annotated[
    str,
    option(
        "--ladder",
        "--weights",
        help="Folder with nano.onnx, small.onnx, large.onnx; `coco`: Ultralytics', fetched once; "
        "`ocr`: engines that read text; `speech`: engines that listen.",
    ),
    LADDER_ROLE,
]


def checked_source(context: typer.Context, source: str) -> str:
    """Refuse at once what cannot be ingested, before anything is fetched or imported for it.

    Raises AnnotationError and InvalidInput as ``components.data.source_check`` does.
    """
    if source:
        from components.data.source_check import check_source

        settings = read_settings(context.params.get("settings"))
        check_source(source, str(settings.get("ingest", {}).get("annotations", "")))
    return source


Settings = Annotated[
    list[str] | None,
    option(
        "--set",
        metavar="STAGE.OPTION=VALUE",
        help="Set a stage's option; repeatable. `gearshift pipeline options` lists them.",
        is_eager=True,
        callback=_checked_settings,
    ),
]

Protect = Annotated[
    list[str] | None,
    option(
        "--protect",
        metavar="CLASS=SHARE",
        help="Class that must keep this share of large's AP50-95, such as person=0.99: the "
        "operating point keeps it, and the gate checks it; repeatable.",
        is_eager=True,
        callback=_checked_floors,
    ),
]


def show(data: object, as_json: bool) -> None:
    """Print a summary: as JSON, or one line per value; of a list, one line per item."""
    values = to_json(data)
    if as_json:
        print(json.dumps(values, indent=1, allow_nan=False))
        return
    if isinstance(values, list):
        print("\n".join(map(_readable, values)) or "none")
        return
    for name, value in values.items():
        print(f"{name.replace('_', ' '):<24} {_readable(value)}")


def announcing(what: str, as_json: bool) -> Callable[[str], None]:
    """The callback of a server that listens: it prints the address, as JSON or as a note."""

    def announce(url: str) -> None:
        if as_json:
            print(json.dumps({"address": url}), flush=True)
        else:
            notes.print(f"{what} at {url}", markup=False, soft_wrap=True)

    return announce


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_readable(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_readable(item) for item in value)
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
