"""``gearshift audit``: who did what, and whether that account of it was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from foundation.path_roles import READ
from pipelines.cli.console import Json, argument, group, option, show

audit = group("The audit log: who did what, when, and whether it was changed.")

File = Annotated[
    Path | None,
    argument(help="The audit log; $GEARSHIFT_AUDIT or runs/audit.jsonl without it."),
    READ,
]


@audit.command()
def verify(
    file: File = None,
    anchor: Annotated[
        list[str] | None,
        option(metavar="NUMBER:DIGEST", help="An entry's anchor, kept elsewhere; repeatable."),
    ] = None,
    anchors: Annotated[
        Path | None, option(help="File of anchors, one a line; # begins a remark."), READ
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute the whole chain; exit code 1 and a line for each place where it does not hold.

    A log that is missing or has no entry does not hold.

    An entry that was edited, taken out, put in or moved is always found. That the end is missing,
    or that the whole log was written anew, only an anchor shows: keep what `gearshift audit
    anchor` prints on another machine. Every append also writes its anchor to the service's log.

    Example: `gearshift audit verify runs/audit.jsonl --anchors /mnt/other/anchors.txt`
    """
    from foundation.audit_log import verify as run
    from foundation.errors import InvalidInput

    found = run(_file(file), [*(anchor or ()), *_anchors(anchors)])
    if as_json:
        show(found, as_json)
    else:
        for breach in found.breaches:
            print(breach)
        cut = f"; {found.cut} bytes behind them were never finished" if found.cut else ""
        print(f"{found.path}: {found.entries} entries{cut}; head {found.head or 'none'}")
    if not found.sound:
        raise InvalidInput(
            f"{found.path} does not hold ({len(found.breaches)} places); compare it with a copy"
        )


@audit.command("show")
def show_(
    file: File = None,
    last: Annotated[int, option(min=1, help="Show so many, the newest.")] = 20,
    what: Annotated[str, option(help="Only this, and what begins with it and a dot.")] = "",
    as_json: Json = False,
) -> None:
    """Show who did what, the newest last; `audit verify` reports whether it may be believed.

    Example: `gearshift audit show --what rollout --last 5`
    """
    from foundation.audit_log import read_entries
    from foundation.errors import InvalidInput

    if file is not None and not file.is_file():
        raise InvalidInput(f"there is no audit log {file}; check the path")
    entries = [
        one
        for one in read_entries(_file(file))
        if not what or one.what == what or one.what.startswith(f"{what}.")
    ][-last:]
    if as_json:
        show({"entries": [one.line() for one in entries]}, as_json)
        return
    for one in entries:
        figures = ", ".join(f"{name} {value}" for name, value in one.figures.items())
        entry = f"{one.number} {one.time:%Y-%m-%d %H:%M:%S} {one.who}: {one.what} {one.about}"
        print(f"{entry} ({figures})" if figures else entry)
    if not entries:
        print("nothing was recorded yet")


@audit.command("anchor")
def anchor_(file: File = None, as_json: Json = False) -> None:
    """Print the anchor of the newest entry, which proves it and all before it; keep it elsewhere.

    Example: `gearshift audit anchor | ssh other 'cat >> anchors.txt'`
    """
    from foundation.audit_log import verify as run
    from foundation.errors import InvalidInput

    found = run(_file(file))
    if not found.sound:
        raise InvalidInput(f"{found.path} does not hold: {found.breaches[0]}; see audit verify")
    if as_json:
        show({"anchor": found.head}, as_json)
    else:
        print(found.head)


def _file(file: Path | None) -> Path:
    from foundation.audit_log import audit_of_environment

    return audit_of_environment().path if file is None else file


def _anchors(file: Path | None) -> list[str]:
    from foundation.errors import ConfigurationError

    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"cannot read the anchors {file}; check the path") from error
    texts = [line.partition("#")[0].strip() for line in lines]
    if not any(texts):
        raise ConfigurationError(f"{file} holds no anchor; add what gearshift audit anchor prints")
    return [text for text in texts if text]
