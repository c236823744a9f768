"""What stands on a page is escaped, whichever part it goes into, unless it is a part itself."""

from __future__ import annotations

import ast
from pathlib import Path

import jinja2
import pytest

from components.page import html, page, paragraph, section, table

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert('x')</script>\"&"
SAFE = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;"


@pytest.mark.parametrize(
    "part",
    [
        paragraph(HOSTILE),
        section(HOSTILE, paragraph("x")),
        table((HOSTILE, "b"), [("a", "b")]),
        table(("a", "b"), [(HOSTILE, "b")]),
        table(("a", "b"), [("a", HOSTILE)], highlighted="a"),
        html('<a href="{{ file }}">x</a>', file=HOSTILE),
    ],
    ids=["paragraph", "title", "header", "name", "cell", "attribute"],
)
def test_text_is_escaped(part: str) -> None:
    assert SAFE in part and HOSTILE not in part
    assert part in page("a page", section("a section", part))  # and not escaped twice


def test_a_plain_text_is_no_part() -> None:
    assert HOSTILE not in page(HOSTILE) + section("x", HOSTILE)  # type: ignore[arg-type]


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="text"):
        html("<p>{{ text }}</p>")


def test_templates_are_constants() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ("components", "pipelines")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "page.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("html", "Markup")
        and not (node.func.id == "html" and isinstance(node.args[0], ast.Constant))
    ]
    assert found == []
