"""Every `gearshift` command in the documents exists, with its options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main

import gearshift
from components.data.validate import ValidateConfig

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("[!C]*.md", "docs/**/*.md", "manifests/**/*.md", "ladder/*.md", "experiments/*.md")
DOCUMENTS = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
"""Not CHANGELOG.md: what it tells of may be gone."""
APP = typer.main.get_command(gearshift.app)
_FENCE = re.compile(r"^( *)```[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(gearshift [^`]+)`")
_BEGIN = re.compile(r"(?<![\w./-])(?<!-n )(?<!namespace )gearshift (?=[a-z])")
_END = re.compile(r"(?<!\S)(?:#|\||&&|&|;|>+|2>|<<|done)(?!\S).*")
_PLACEHOLDER = re.compile(r"…|\.\.\.|[A-Z_]+|.*[…*].*")


def commands(text: str) -> Iterator[str]:
    """What stands behind `gearshift` in blocks of code and between backticks."""
    for _, block in _FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield from behind(line)
    for inline in _INLINE.findall(_FENCE.sub("", text)):
        yield from behind(inline.replace("\n", " "))


def behind(line: str) -> Iterator[str]:
    starts = [found.end() for found in _BEGIN.finditer(line)]
    for start, end in pairwise([*starts, len(line)]):
        yield _END.sub("", line[start:end]).partition("`")[0]


def words_of(command: str) -> list[str]:
    # A substitution of the shell ends where its bracket does.
    depth, kept = 0, ""
    for letter in command:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0:
            break
        kept += letter
    try:
        return shlex.split(kept)
    except ValueError:
        return kept.replace('"', " ").replace("'", " ").split()


def wrong(command: str) -> str:
    """What of a command the command line does not know; empty where it knows all."""
    found: Any = APP
    words = words_of(command)
    while hasattr(found, "commands") and words and not _PLACEHOLDER.fullmatch(words[0]):
        if "|" in words[0]:  # start|status|promote
            names = words[0].split("|")
            return next((f"no {one}" for one in names if one not in found.commands), "")
        if words[0].startswith("-"):
            break
        if not any(word.startswith("--") for word in words):
            # Reading the options of a verb may import torch.
            name = " ".join(words[:2]) if " ".join(words[:2]) in found.commands else words[0]
            found, words = found.commands.get(name), words[1:]
            if found is None:
                return f"no {name}"
            continue
        context = found.make_context("gearshift", [], resilient_parsing=True)
        first = words[0]
        try:
            _, found, words = found.resolve_command(context, words)
        except Exception:
            found = None
        if found is None:
            return f"no {first}"
    if hasattr(found, "commands") and words and _PLACEHOLDER.fullmatch(words[0]):
        return ""  # options of a verb that is not named
    known = {"--help"}
    for parameter in found.params:
        known.update((*parameter.opts, *parameter.secondary_opts))
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name != "--" and name not in known:
            return f"no {name}"
    return ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_exists(path: Path) -> None:
    found = [
        (command, message)
        for command in commands(path.read_text(encoding="utf-8"))
        if (message := wrong(command))
    ]
    assert not found


def test_the_documents_are_read() -> None:
    every = {
        tuple(words_of(command)[:2])
        for path in DOCUMENTS
        for command in commands(path.read_text(encoding="utf-8"))
    }
    assert {
        ("edge", "run"),
        ("rollout", "start"),
        ("token", "add"),
        ("bundle", "--policy"),
    } <= every
    assert len(every) > 60


def test_what_is_not_there_is_seen() -> None:
    text = "```\nx=$(gearshift token add a --rolle b) && gearshift edge fly \\\n    --nought\n```\n"
    text += "Say `gearshift rollout start|stop` or `gearshift up --open-acces`."
    assert [wrong(command) for command in commands(text)] == [
        "no --rolle",
        "no fly",
        "no stop",
        "no --open-acces",
    ]
    assert wrong("up --policy a.onnx --open-access") == ""


def test_every_threat_names_tests_that_exist() -> None:
    """A line of the table or a promise whose test was renamed or removed protects nothing."""
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for name in ("threat-model", "security", "operations"):
        text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
        assert set(re.findall(r"\btest_\w+\.py", text)) <= there, name
    threats = (ROOT / "docs" / "threat-model.md").read_text("utf-8").partition("## Threats")[2]
    rows = [line for line in threats.partition("## What")[0].splitlines() if line[:2] == "| "]
    assert len(rows) > 20
    assert [row[:60] for row in rows[1:] if not re.search(r"test_\w+\.py", row)] == []


def test_every_promise_of_the_security_page_names_its_test() -> None:
    defined = {
        f"{path.name}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    promises, _, table = text.partition("## Which test holds which promise\n")
    rows = [line.split(" | ") for line in table.splitlines() if line[:2] == "| "][1:]
    sections = [words[0].strip("| *") for words in rows if words[0].startswith("| **")]
    assert sections == re.findall(r"^## (.*)", promises, re.MULTILINE)
    named = [re.findall(r"test_\w+\.py::test_\w+", row[1]) for row in rows if "**" not in row[0]]
    assert all(named)
    assert {name for names in named for name in names} - defined == set()


def test_the_least_data_is_what_validate_asks_for() -> None:
    tutorial = (ROOT / "docs" / "tutorials" / "ml-engineer.md").read_text("utf-8")
    assert f"Fewer than {ValidateConfig().min_images} pictures are refused" in tutorial


ROOMS = ("dashboards", "pipelines", "components", "inference_graph", "transformers")


def messages(code: str) -> Iterator[str]:
    """Texts of a program that are no docstrings; what they format is an ellipsis."""
    tree = ast.parse(code)
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped.update(one for one in ast.walk(node) if one is not node)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = node.values
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def suggested(code: str) -> Iterator[str]:
    """Commands in messages, up to the punctuation that ends them; "gearshift wrote" is none."""
    for line in "\n".join(messages(code)).splitlines():
        for command in behind(line):
            words = re.split(r"[,;]|[.:](?:\s|$)", command)[0].split()
            if words and words[0] in APP.commands:  # type: ignore[attr-defined]  # a group's
                yield " ".join(words)


@pytest.mark.parametrize("room", ROOMS)
def test_every_command_that_a_message_suggests_exists(room: str) -> None:
    found = [
        (str(path), command, message)
        for path in sorted((ROOT / room).rglob("*.py"))
        for command in suggested(path.read_text("utf-8"))
        if (message := wrong(command))
    ]
    assert not found


def test_commands_in_messages_are_read() -> None:
    code = (
        '"""`gearshift fly`"""\nx = f"run `gearshift data {verb} --out {out}`, then gearshift up"\n'
    )
    code += 'y = "gearshift wrote it"\nz = "gearshift up --nought; or gearshift drift chek first."'
    assert list(suggested(code)) == ["data … --out …", "up", "up --nought", "drift chek first"]
    assert [wrong(one) for one in suggested(code)] == ["", "", "no --nought", "no chek"]
    pages = "\n".join(path.read_text("utf-8") for path in (ROOT / "dashboards").rglob("*.py"))
    assert {"up --monitoring", "experiment list"} <= set(suggested(pages))
