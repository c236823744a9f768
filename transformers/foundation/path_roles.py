"""What a path on the command line is for, and which paths a verb may write to.

A verb declares for each of its paths whether it is read, written or kept; before the verb acts,
:func:`claimed` refuses what would destroy something:

- a result replaces only an unchanged result of the same verb;
- a file never replaces a folder, nor a folder a file;
- what a verb reads is never what it writes, and neither lies in the other. Paths are compared by
  what they lead to: through links, ``..``, hard links and spellings.

While the verb runs, :func:`foundation.storage.atomic_path` asks :func:`claim_of` how to
write each path.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.request import url2pathname

from foundation.addresses import split_address
from foundation.errors import ConfigurationError
from foundation.result_marks import (
    MARK,
    Mark,
    first_foreign,
    is_as_written,
    mark_file,
    read_mark,
    write_mark,
)
from foundation.temporary_folder import clear_killed

Use = Literal["read", "file", "folder", "workplace", "kept file", "kept folder"]


@dataclass(frozen=True)
class PathRole:
    """What a path is for; stands in the annotation of a verb's parameter or an option's field.

    Attributes:
        use: "read": an input. "file", "folder": a result, replaced as a whole. "workplace": a
            folder that belongs to the verb, which replaces its own files there and lets others be.
            "kept file", "kept folder": what is added to and never replaced, like a log.
        shared_by: under which name several verbs write the same results; the verb's own without it.
        sign: a file, and how it begins, by which a workplace without a mark is known: that of an
            earlier version, or one that was copied without hidden files.
        in_inputs: whether it may lie in an input of the command, as what belongs beside it.
    """

    use: Use
    shared_by: str = ""
    sign: tuple[str, str] | None = None
    in_inputs: bool = False


READ = PathRole("read")
RESULT_FILE = PathRole("file")
RESULT_FOLDER = PathRole("folder")
KEPT_FILE = PathRole("kept file")
KEPT_FOLDER = PathRole("kept folder")

InputPath = Annotated[Path, READ]
InputText = Annotated[str, READ]
"""A path, or an address or word that is none."""
KeptFile = Annotated[Path, KEPT_FILE]
KeptFolder = Annotated[Path, KEPT_FOLDER]
KeptPlace = Annotated[str, KEPT_FOLDER]
"""A folder, or the address of a bucket."""


@dataclass(frozen=True)
class GivenPath:
    """A path as a verb was given it.

    Attributes:
        option: how the command line calls it, for messages.
        role: what it is for.
        text: what was given: a path, or an address or a word that is none.
    """

    option: str
    role: PathRole
    text: str


@dataclass(frozen=True)
class Claim:
    """A place that the running verb may write to, and what it reads meanwhile."""

    path: Path
    use: Use
    verb: str
    inputs: tuple[Path, ...] = ()


_WHAT = {
    "read": "an input of",
    "kept file": "a file kept by",
    "kept folder": "a folder kept by",
}
_claims: list[Claim] = []
"""Of the verb that runs in this process; there is one at a time."""


@contextlib.contextmanager
def claimed(verb: str, given: Sequence[GivenPath]) -> Iterator[None]:
    """Check all paths of a verb, and let the block write its results.

    Raises:
        ConfigurationError: something would be destroyed, or cannot be written.
    """
    for one in given:
        if one.role.use in ("file", "folder", "workplace") and "://" in one.text:
            raise ConfigurationError(
                f"{one.option} {one.text} is an address; results go to a path of this machine"
            )
    found = [(one, path) for one in given if (path := local_path(one.text)) is not None]
    claims = []
    for one, path in found:
        try:
            claims += _checked(one, path, verb, [other for other in found if other[0] is not one])
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(
                f"{one.option} {one.text!r} cannot be used: {reason}; choose another path"
            ) from error
    places = [claim.path for claim in claims if claim.use == "workplace"]
    made = [place for place in places if not os.path.lexists(place)]
    for claim in claims:
        if claim.use == "workplace":
            _mark_place(claim)
    before = _claims[:]
    _claims.extend(claims)
    try:
        yield
    finally:
        _claims[:] = before
        for place in made:
            _remove_unused(place)


def claim_of(path: Path) -> Claim | None:
    """The claim that a path belongs to; None outside a verb, and for what was not claimed."""
    if not _claims:
        return None
    real = _real(path)
    for claim in _claims:
        if real == claim.path or (claim.use == "workplace" and real.is_relative_to(claim.path)):
            return claim
    return None


def local_path(text: str) -> Path | None:
    """The path that a text names; None where it is empty or an address of something else."""
    if text.startswith("file://"):
        return Path(url2pathname(split_address(text).path))
    return None if not text or "://" in text else Path(text)


def check_no_input(path: Path, claim: Claim) -> None:
    """Refuse to write what the running verb reads.

    Raises:
        ConfigurationError: the path is an input, holds one, or lies in one.
    """
    for one in claim.inputs:
        if path == one or (claim.path != path and one.is_relative_to(path)):
            raise ConfigurationError(f"{path} is an input of this command; choose another place")


def check_replaceable(path: Path, use: Use, verb: str, folder: bool) -> None:
    """Refuse to write a result to a path where something else is.

    Args:
        path: where the result goes, links resolved.
        use: the claim it belongs to.
        verb: who writes it.
        folder: whether the result is a folder.

    Raises:
        ConfigurationError: something else is there.
        OSError: what is there cannot be read.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not folder:
        if stat.S_ISDIR(kind):
            raise ConfigurationError(
                f"{path} is a folder, and a file never replaces one; name a file"
            )
        if not stat.S_ISREG(kind):
            raise ConfigurationError(f"{path} is no regular file; name another one")
        _check_file(path, use, verb)
        return
    if not stat.S_ISDIR(kind):
        raise ConfigurationError(f"{path} is a file, and a folder never replaces one; name another")
    if path in (Path.cwd(), *Path.cwd().parents) or os.path.ismount(path):
        raise ConfigurationError(
            f"{path} cannot be replaced, for it is a mount point or this command runs in it; "
            "name a folder in it"
        )
    mark = _mark_of(path, verb)
    if mark is not None:
        foreign = first_foreign(path, mark)
    else:
        foreign = None if use == "workplace" else _any_in(path)
    if foreign is not None:
        raise _not_written(path, verb, foreign)


def _check_file(path: Path, use: Use, verb: str) -> None:
    """Refuse to replace a file that the verb did not write, or that was changed since."""
    if use == "workplace":
        return
    mark = read_mark(mark_file(path, folder=False))
    known = None if mark is None or mark.verb != verb else (mark.files or {}).get(path.name)
    if known is None or not is_as_written(path, known):
        raise ConfigurationError(
            f"{path} is not what `gearshift {verb}` wrote, or was changed since; move it away, or "
            "choose another place"
        )


def _mark_of(folder: Path, verb: str) -> Mark | None:
    """The mark of a folder; refuses one that another verb wrote."""
    mark = read_mark(mark_file(folder, folder=True))
    if mark is not None and mark.verb != verb:
        raise ConfigurationError(
            f"{folder} was written by `gearshift {mark.verb}`, and `gearshift {verb}` replaces "
            "only what it wrote itself; choose another place"
        )
    return mark


def _any_in(folder: Path) -> str | None:
    return next((inside.name for inside in folder.iterdir()), None)


def _not_written(folder: Path, verb: str, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{folder} holds what `gearshift {verb}` did not write, or what was changed since: {name}; "
        "move it away, or choose another place"
    )


def _checked(
    one: GivenPath, path: Path, verb: str, others: Sequence[tuple[GivenPath, Path]]
) -> list[Claim]:
    """The claim of a path, if it is one to write to."""
    use, real = one.role.use, _real(path)
    if real.is_fifo() or real.is_socket():
        raise ConfigurationError(
            f"{one.option} {one.text} is a named pipe or a socket; give a file or a folder"
        )
    if use == "read":
        return []
    if use.startswith("kept"):
        if os.path.lexists(real) and real.is_dir() != (use == "kept folder"):
            raise ConfigurationError(f"{one.option} {one.text} is no {use.removeprefix('kept ')}")
        return []
    _check_apart(one, real, others)
    folder = use != "file"
    if not folder and one.text.endswith("/"):
        raise ConfigurationError(f"{one.option} {one.text} names a folder; name a file")
    verb = one.role.shared_by or verb
    if use == "workplace":
        _check_place(one, real, verb)
    else:
        clear_killed(real)
        check_replaceable(real, use, verb, folder)
    _check_writable(one, real if folder and use != "folder" else real.parent)
    inputs = tuple(_real(path) for other, path in others if other.role.use == "read")
    return [Claim(real, use, verb, inputs)]


def _check_apart(one: GivenPath, real: Path, others: Sequence[tuple[GivenPath, Path]]) -> None:
    """Refuse an output that is another path of the command, lies in it, or holds it."""
    for other, path in others:
        there = _real(path)
        if other.role.use == "read" and not os.path.lexists(path):
            continue  # a word that is no path, or an input that its verb will miss
        what = _WHAT.get(other.role.use, "another output of")
        if _same(real, there):
            raise ConfigurationError(
                f"{one.option} {one.text} is {what} this command ({other.option} {other.text}); "
                "choose another place"
            )
        for inner, outer in ((real, there), (there, real)):
            if inner is real and one.role.in_inputs and other.role.use == "read":
                continue
            above: Sequence[Path] = inner.parents
            if inner is there and one.role.use == "workplace":
                # Files that lie there are the verb's own; for the rest, atomic_path checks.
                above = () if inner.is_dir() else inner.parents[:1]
            if any(_same(folder, outer) for folder in above):
                how = "lies in" if inner is real else "holds"
                raise ConfigurationError(
                    f"{one.option} {one.text} {how} {what} this command ({other.option} "
                    f"{other.text}); choose another place"
                )


def _check_place(one: GivenPath, real: Path, verb: str) -> None:
    """Refuse a folder that holds something and is not the verb's."""
    if not os.path.lexists(real):
        return
    if not real.is_dir():
        raise ConfigurationError(f"{one.option} {one.text} is no folder; name one")
    known = one.role.sign is not None and _begins(real / one.role.sign[0], one.role.sign[1])
    if _mark_of(real, verb) is None and not known and (inside := _any_in(real)) is not None:
        raise _not_written(real, verb, inside)


def _begins(file: Path, text: str) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(text.encode())) == text.encode()


def _check_writable(one: GivenPath, folder: Path) -> None:
    """Refuse a place below a file, or one where nothing can be written, before any work."""
    for place in (folder, *folder.parents):
        if not os.path.lexists(place):
            continue
        if not place.is_dir():
            reason = f"{place} is no folder"
        else:
            try:  # file systems refuse what permissions allow: /proc, a full or read-only disk
                os.rmdir(tempfile.mkdtemp(prefix=".gearshift-", dir=place))
                return
            except OSError as error:
                reason = f"nothing can be written to {place} ({error.strerror})"
        raise ConfigurationError(
            f"{one.option} {one.text} cannot be written, for {reason}; choose another place"
        )


def _mark_place(claim: Claim) -> None:
    """Mark a folder as the verb's before anything is in it."""
    file = claim.path / MARK
    try:
        claim.path.mkdir(parents=True, exist_ok=True)
        if read_mark(file) is None:
            write_mark(file, Mark(claim.verb, None))
    except OSError as error:
        raise ConfigurationError(
            f"{claim.path} cannot be written: {error.strerror}; choose another place"
        ) from error


def _remove_unused(place: Path) -> None:
    """Remove a folder that was made for a verb which then wrote nothing to it."""
    with contextlib.suppress(OSError):
        if os.listdir(place) == [MARK]:
            (place / MARK).unlink()
            place.rmdir()


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _same(one: Path, other: Path) -> bool:
    if one == other:
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
