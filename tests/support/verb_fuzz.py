"""Calls verbs of the command line with random paths and options; run in a process of its own.

``python verb_fuzz.py SEED COUNT FOLDER`` prints a line of JSON for each fault: a traceback, an exit
code other than 0, 1 and 2, a file of the user's that was altered or removed, or a run that computes
for a minute or waits for ten. Verbs work until what they would serve for ever, compute for minutes
or start beside them; none of them reaches another process or the network.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

_SECONDS, _WAITING = 60, 600
"""Of computing, and of waiting, for one run; a busy machine adds to the latter alone."""

_ONLY_CHECKED = frozenset(
    (
        "scenes", "route", "dashboard", "up", "demo", "demo drift", "demo streams", "retrain",
        "ladder train", "ladder export", "ladder card", "ladder check", "ladder resize",
        "data validate", "pipeline run", "pipeline compile", "graph serve", "drift run",
        "drift watch", "drift schedule", "experiment run", "experiment queue", "experiment resume",
        "experiment sweep", "experiment serve", "experiment tensorboard", "triggers run",
        "rollout run", "bench observe", "bench env", "bench serving", "bench drift",
        "bench dashboard", "bench floods", "bench ledger", "bench rollout", "bench streams",
        "batch",
    )
)  # fmt: skip
"""Verbs that end, here, where their paths and options are checked."""

_PATHS = (
    "", ".", "..", "./", "thesis", "thesis/", "./thesis/../thesis", "thesis/a.tex",
    "thesis/a.tex/below", "thesis/new", "new", "new/deep/er", "notes.txt", "empty", "empty.txt",
    "data.json", "list.json", "a.yaml", "a.zip", "a.onnx", "a.avi", "a.jsonl", "tokens.jsonl",
    "fifo", "socket", "to-file", "to-folder", "to-nothing", "loop", "loop/x", "set",
    "set/annotations.json",
    "set.zip", "x" * 300, "x/" * 3000, "a b", "ä", "-", "--", "-x", "*", "~", "$HOME",
    "a\nb", "a%20b", "a?b#c", "a;b", "a'b\"c", "\udcff", "\u202e", "http://", "http://x", "file://",
    "file:thesis", "s3://b/k", "nonsense://x", "gs://", "gone/x", "C:\\x", "\\\\x\\y", "coco",
    "sample",
)  # fmt: skip
_NUMBERS = (
    "0", "1", "-1", "2", "3.5", "1e3", "1e309", "nan", "inf", "-inf", "9" * 30, "-" + "9" * 400,
    "x", "", "0x10", "1_0", "1,2", " 1", "65535", "65536", "1e-300", "true", str(2**63),
    str(-(2**31)),
)  # fmt: skip
_TEXTS = (
    "", " ", "x", "a=b", "=", "a.b=c", "refine.timesteps=1", "refine.timesteps=" + "9" * 40,
    "name=x", "retained>0.9", "now", "1h", "2026-01-01", "2026-01-01T00:00:00Z", "9999-12-31",
    "-" + "9" * 30, "http://127.0.0.1:1", "http://[", "https://a b", "nonsense://x", "sqlite:///x",
    "./mlruns", "[", "{", "!!python/name:os.system", "x" * 5000, "\n", "\x1b[2J", "\udcff", "ä",
    "../x", "a/b", "*", "%s", "{0}", "all", "nano", "small", "night", "operate", "error",
)  # fmt: skip


class _Slow(BaseException):
    """A run takes too long."""


def make_files(folder: Path) -> None:
    """What a user has: texts, data, links, and things that are neither files nor folders."""
    for name, content in {
        "thesis/a.tex": b"a" * 100,
        "thesis/b.mp4": b"b",
        "thesis/.hidden": b"c",
        "notes.txt": b"n",
        "empty.txt": b"",
        "data.json": b"{}",
        "list.json": b"[[[1]]]",
        "a.yaml": b"a: [1, {b: c}]",
        "a.zip": b"PK\x03\x04",
        "a.onnx": b"\x08\x07",
        "a.avi": b"RIFF",
        "a.jsonl": b'{"a": 1}\nx',
        "tokens.jsonl": b'{"name": 1}\n',
        "set/images/1.png": b"\x89PNG\r\n\x1a\n",
        "set/annotations.json": json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.png", "width": 1, "height": 1}],
                "categories": [{"id": 1, "name": "person"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
            }
        ).encode(),
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (folder / "empty").mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        place = os.getcwd()
        os.chdir(folder)  # an address of a socket is short
        made.bind("socket")
        os.chdir(place)
    for link, target in {
        "to-file": "notes.txt",
        "to-folder": "thesis",
        "to-nothing": "gone",
        "loop": "loop",
    }.items():
        (folder / link).symlink_to(target)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file, folder and link with its content."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            what = f"link to {os.readlink(path)}"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = oct(path.lstat().st_mode)
        found[str(path.relative_to(folder))] = what
    return found


def verbs(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Words of every verb."""
    for name, inner in sorted(command.commands.items()):
        if hasattr(inner, "commands"):
            yield from verbs(inner, (*words, name))
        else:
            yield (*words, name)


def parameters(command: Any, words: tuple[str, ...]) -> list[Any]:
    """The options and arguments of a verb, those of its configuration too."""
    for word in words:
        command = command.resolve_command(typer.Context(command), [word])[1]
    return list(command.params)


def arguments(rng: random.Random, words: tuple[str, ...], known: list[Any]) -> list[str]:
    """A random call of a verb."""
    arguments = [part for word in words for part in word.split(" ")]
    share = rng.choice((0.05, 0.1, 0.4))
    for one in known:
        if one.name == "help" or rng.random() > (0.98 if one.required else share):
            continue
        named = one.param_type_name == "option"
        if named and one.is_flag:
            arguments.append(rng.choice([*one.opts, *one.secondary_opts]))
            continue
        for _ in range(rng.choice((1, 1, 2)) if one.multiple or one.nargs == -1 else 1):
            value = _value(rng, one)
            arguments += [f"{one.opts[0]}={value}"] if named else [value]
    if rng.random() < 0.03:
        arguments.append(rng.choice(("--no-such-option", "--help", "extra", "--", "--json")))
    return arguments


def _value(rng: random.Random, one: Any) -> str:
    if rng.random() < 0.1:
        return rng.choice(rng.choice((_PATHS, _NUMBERS, _TEXTS)))
    annotation = one.type_descriptor.annotation
    if typing.get_origin(annotation) is typing.Literal:
        return str(rng.choice(typing.get_args(annotation)))
    if annotation in (int, float):
        return rng.choice(("1", "2", rng.choice(_NUMBERS)))
    return rng.choice(_PATHS if annotation is Path or rng.random() < 0.6 else _TEXTS)


def stop_at_the_work() -> None:
    """Have what would compute for minutes, serve for ever or leave this process end at once."""
    from pipelines.cli import console

    checking, bound_command = console.checking_paths, console.bound_command

    def nothing(verb: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(verb)(lambda **given: None)

    def checking_paths(name: str, known: Mapping[str, Any], verb: Any, fetched: Any) -> Any:
        # A verb with a configuration ends behind it, so that its ranges are checked.
        configured = verb.__qualname__.startswith("bound_command")
        if name in _ONLY_CHECKED and not configured:
            verb = nothing(verb)
        return checking(name, known, verb, fetched)

    heavy = {words.split()[-1] for words in _ONLY_CHECKED}

    def bound(name: str, one: Any) -> Any:
        if name.split()[-1] in heavy:
            one = replace(one, verb=nothing(one.verb))
        return bound_command(name, one)

    console.checking_paths, console.bound_command = checking_paths, bound  # type: ignore[assignment]

    def refused(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError(111, "Connection refused")

    def missing(_: Any, command: Any, *rest: Any, **more: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", str(command)[:80])

    socket.getaddrinfo = refused
    socket.socket.connect = refused  # type: ignore[method-assign]
    subprocess.Popen.__init__ = missing  # type: ignore[method-assign]


def main(seed: int, count: int, home: Path) -> None:
    """Run them, and print what is wrong."""
    import gearshift

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no fault
    stop_at_the_work()
    signal.signal(signal.SIGALRM, _too_slow)
    signal.signal(signal.SIGPROF, _too_slow)
    rng = random.Random(seed)
    every = list(verbs(typer.main.get_command(gearshift.app)))
    known: dict[tuple[str, ...], list[Any]] = {}
    for number in range(count):
        words = every[number % len(every)] if count >= len(every) else rng.choice(every)
        if words not in known:
            known[words] = parameters(typer.main.get_command(gearshift.app), words)
        given = arguments(rng, words, known[words])
        place = home / str(number) / "here"
        place.mkdir(parents=True)
        make_files(place)
        os.chdir(place)
        before = snapshot(place.parent)
        fault = _fault(given, before, place.parent)
        if fault:
            out.write(json.dumps({"run": given, "fault": fault}) + "\n")
            out.flush()
    out.write("done\n")
    out.flush()


def _fault(given: list[str], before: dict[str, str], place: Path) -> str:
    import gearshift

    signal.alarm(_WAITING)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        done = CliRunner().invoke(gearshift.app, given)
    except _Slow:
        return "takes too long: " + traceback.format_exc()[-1500:]
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    error = done.exception
    if error is not None and not isinstance(error, SystemExit):
        return "".join(traceback.format_exception(error))[-1500:]
    if os.environ.get("STAT"):
        print(
            done.exit_code,
            ascii(given)[:300],
            "\n      ",
            ascii(done.output[-250:]),
            file=sys.stderr,
        )
    if done.exit_code not in (0, 1, 2):
        return f"exit code {done.exit_code}: {done.output[-500:]}"
    if done.exit_code == 1 and f"\n{done.stderr}".count("\nerror: ") > 1:
        return f"more than one error: {done.stderr[-500:]}"
    after = snapshot(place)
    lost = [name for name, what in before.items() if after.get(name) != what]
    return (
        f"altered or removed {lost}; exit code {done.exit_code}: {done.output[-300:]}"
        if lost
        else ""
    )


def _too_slow(*_: object) -> None:
    raise _Slow


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).resolve())
