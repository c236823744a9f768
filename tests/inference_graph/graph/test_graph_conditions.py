"""GJSON existence: paths, documents, and whether KServe's router finds something there.

Every case was asked of the Go library that the router uses (github.com/tidwall/gjson v1.18.0).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_graph.graph.conditions import Condition
from inference_graph.graph.query import matches_pattern

# The document of GJSON's own SYNTAX.md.
FRIENDS: Any = {
    "name": {"first": "Tom", "last": "Anderson"},
    "age": 37,
    "children": ["Sara", "Alex", "Jack"],
    "fav.movie": "Deer Hunter",
    "friends": [
        {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb", "tw"]},
        {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"]},
        {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]},
    ],
}
ROUTED: Any = {
    "instances": [{"image": {"b64": "AAAA"}}],
    "route": {"model": "nano", "shadow": False, "at": None, "p": [0.9, 0.1, 0], "n": 0},
    "country": "IN",
}

CASES: list[tuple[str, Any, bool]] = [
    # Syntax by syntax, as documented.
    ("name.last", FRIENDS, True),
    ("name.middle", FRIENDS, False),
    ("name.last.x", FRIENDS, False),
    ("age", FRIENDS, True),
    ("children.2", FRIENDS, True),
    ("children.3", FRIENDS, False),
    ("friends.1.first", FRIENDS, True),
    ("child*.2", FRIENDS, True),
    ("c?ildren.0", FRIENDS, True),
    ("x*", FRIENDS, False),
    (r"fav\.movie", FRIENDS, True),
    ("fav.movie", FRIENDS, False),
    ("friends.#", FRIENDS, True),
    ("name.#", FRIENDS, False),
    ("friends.#.age", FRIENDS, True),
    ("friends.#.age|2", FRIENDS, True),
    ("friends.#.age|3", FRIENDS, False),
    ("friends|0|first", FRIENDS, True),
    ("children.@reverse.0", FRIENDS, True),
    ("children.@reverse.5", FRIENDS, False),
    ("{name.first,age}.first", FRIENDS, True),
    ("[name.first,age].1", FRIENDS, True),
    ('friends.#(last=="Murphy").first', FRIENDS, True),
    ('friends.#(last="Murphy")#|first', FRIENDS, False),
    ('friends.#(last="Murphy")#.first', FRIENDS, True),
    ('friends.#(last="Murphy")#|1', FRIENDS, True),
    ('friends.#(last="Murphy")#|2', FRIENDS, False),
    ('friends.#(last="Murphy")#.first|1', FRIENDS, True),
    ('friends.#(last="Murphy")#.first|2', FRIENDS, False),
    ("friends.#(age>45)#|1", FRIENDS, True),
    ("friends.#(age>45)#|2", FRIENDS, False),
    ('friends.#(first%"D*").last', FRIENDS, True),
    ('friends.#(first%"X*").last', FRIENDS, False),
    ('friends.#(first!%"D*").nets.2', FRIENDS, False),
    ('children.#(!%"*a*")', FRIENDS, True),
    ('children.#(%"*a*")#|1', FRIENDS, True),
    ('children.#(%"*a*")#|2', FRIENDS, False),
    ('friends.#(nets.#(=="fb"))#|1', FRIENDS, True),
    ('friends.#(nets.#(=="fb"))#|2', FRIENDS, False),
    ('friends.#(nets.#(=="xx"))', FRIENDS, False),
    ("friends.#(nets)", FRIENDS, True),
    ("friends.#(pets)", FRIENDS, False),
    # The graph's own conditions.
    ("@this", ROUTED, True),
    ("@this", 5, True),
    ("@this.route", ROUTED, True),
    ("route.shadow", ROUTED, True),
    ("route.at", ROUTED, True),
    ("route.p.2", ROUTED, True),
    ("[@this].0.route", ROUTED, True),
    ('[@this].#(route.model=="nano")', ROUTED, True),
    ('[@this].#(route.model=="small")', ROUTED, False),
    ('[@this].#(route.model!="small")', ROUTED, True),
    ("[@this].#(route.shadow==true)", ROUTED, False),
    ("[@this].#(route.shadow==false)", ROUTED, True),
    ("[@this].#(route.p.0>0.5)", ROUTED, True),
    ("[@this].#(route.p.1>0.5)", ROUTED, False),
    ("[@this].#(country==IN)", ROUTED, True),
    ("[@this].#(country==US)", ROUTED, False),
    ("instances.#(image.b64)", ROUTED, True),
    ("instances.#(image.url)", ROUTED, False),
    ("route.#(model)", ROUTED, False),
    # A query on a list inside a mapped list.
    ('a.#.b.#(c=="x")', {"a": [{"b": [{"c": "x"}]}, {"b": []}]}, True),
    ('a.#.b.#(c=="x")|1', {"a": [{"b": [{"c": "x"}]}, {"b": []}]}, False),
    # Types do not mix: true is no 1, a text is no number, but an unquoted word is a text.
    ("#(x==true)", [{"x": 1}], False),
    ("#(x==1)", [{"x": True}], False),
    ("#(x==1)", [{"x": 1.0}], True),
    ("#(x==1)", [{"x": "1"}], True),
    ('#(x=="1")', [{"x": 1}], True),
    ("#(x==null)", [{"x": None}], False),
    ("#(x!=null)", [{"x": None}], False),
    ("#(x)", [{"x": None}], True),
    ("#(x!=5)", [{"x": {}}], False),
    ("#(x!=5)", [{"y": 1}], False),
    ("#(x>=true)", [{"x": True}], True),
    ("#(x>false)", [{"x": True}], True),
    ("#(x<true)", [{"x": True}], False),
    ("#(x<true)", [{"x": False}], True),
    ("#(x<=zebra)", [{"x": False}], True),
    ("#(x<=true)", [{"x": True}], False),
    ("#(x!=zebra)", [{"x": True}], True),
    ("#(x<b)", [{"x": "a"}], True),
    ("#(x<a)", [{"x": "b"}], False),
    ("#(x<=2)", [{"x": 2}], True),
    ("#(x==abc)", [{"x": 0}], True),
    ("#(x==1_0)", [{"x": 10}], True),
    # Like true, false and null.
    ("#(x==~true)", [{"x": 1}], True),
    ("#(x==~true)", [{"x": "T"}], True),
    ("#(x==~true)", [{"x": "yes"}], False),
    ("#(x==~false)", [{"y": 1}], True),
    ("#(x==~false)", [{"x": 0}], True),
    ("#(x==~false)", [{"x": "false"}], True),
    ("#(x==~false)", [{"x": []}], False),
    ("#(x!=~true)", [{"x": 0}], True),
    ("#(x==~null)", [{"x": None}], True),
    ("#(x==~null)", [{}], True),
    ("#(x==~null)", [{"x": 0}], False),
    ("#(x==~*)", [{"x": 0}], True),
    ("#(x==~*)", [{}], False),
    ("#(x==~maybe)", [{"x": 0}], False),
    # Quotes, brackets and signs inside a query.
    (r'#(x=="a\"b")', [{"x": 'a"b'}], True),
    ('#(x=="a)b")', [{"x": "a)b"}], True),
    ('#(x==")").y', [{"x": ")", "y": 1}], True),
    ('#( x == "a" )', [{"x": "a"}], True),
    (r'#(a\.b=="x")', [{"a.b": "x"}], True),
    ("#(x%a?c)", [{"x": "abc"}], True),
    (r'#(x%"a\\*")', [{"x": "a*"}], True),
    (r'#(x%"a\\*")', [{"x": "ab"}], False),
    ("#(>2)", [1, 2, 3], True),
    ("#(>3)", [1, 2, 3], False),
    ("#(==1)", [[1], {"a": 1}], False),
    # Modifiers.
    ("children.@reverse.@reverse.2", FRIENDS, True),
    ("@reverse.name", FRIENDS, True),
    ("name.@keys.1", FRIENDS, True),
    ("name.@keys.2", FRIENDS, False),
    ("name.@values|#(=Tom)", FRIENDS, True),
    ("age.@values.0", FRIENDS, True),
    ("age.@keys", FRIENDS, True),
    ("age|@keys.0", FRIENDS, True),
    ("missing|@keys", FRIENDS, True),
    ("missing|@this", FRIENDS, False),
    ("missing.@keys", FRIENDS, True),
    ("friends.#.nets.@flatten", FRIENDS, True),
    ("friends.#.nets|@flatten|6", FRIENDS, True),
    ("friends.#.nets|@flatten|7", FRIENDS, False),
    ('@flatten:{"deep":true}|3', [1, [2, [3, [4]]]], True),
    ("@flatten|3", [1, [2, [3, [4]]]], False),
    ("friends.@join.last", FRIENDS, True),
    ("@join|#(a)", [{"a": 1}], False),
    ('@join:{"preserve":true}|[@this]|#(a=1)', [{"a": 1}, {"a": 2}], True),
    ("@join|[@this]|#(a=1)", [{"a": 1}, {"a": 2}], False),
    ("@group.1.b", {"a": [1, 2], "b": [3, 4]}, True),
    ("@group.2", {"a": [1, 2], "b": [3, 4]}, False),
    ("@group", [1], False),
    ("@fromstr.a", '{"a": 1}', True),
    ("@fromstr.b", '{"a": 1}', False),
    ("@fromstr", None, False),
    ("@tostr", None, True),
    ("[@tostr]|#(=5)", 5, True),
    ("@dig:first|4", FRIENDS, False),
    ("@dig:first|3", FRIENDS, True),
    ('@dig:#(last="Craig")|0.age', FRIENDS, True),
    ("@pretty.age", FRIENDS, True),
    ('@pretty:{"sortKeys":true}|age', FRIENDS, True),
    ("@valid.@ugly.age", FRIENDS, True),
    ("@this:x|age", FRIENDS, True),
    ("@nothing.age", FRIENDS, False),
    ("name.@first", {"name": {"@first": 1}}, True),
    # Multipaths and literals.
    ('{"x":name.first,age}.x', FRIENDS, True),
    ("{x:name.first,age}.x", FRIENDS, True),
    ("{name.first,age}.name", FRIENDS, False),
    ("{friends.#}._", FRIENDS, True),
    ("{friends.#(age>45)}._.last", FRIENDS, True),
    ("[missing,age].1", FRIENDS, False),
    ("[missing]", FRIENDS, True),
    ("name.[first,last].1", FRIENDS, True),
    ("friends.#.[first,age]|2.1", FRIENDS, True),
    ("friends.1.{first,nets}.nets.1", FRIENDS, True),
    ('[friends.#(last="Murphy")#|#]|#(=2)', FRIENDS, True),
    ('!"text"', FRIENDS, True),
    ("!null", FRIENDS, True),
    ("!maybe", FRIENDS, False),
    ("!TRUE", FRIENDS, False),
    ('!{"a":[1]}.a.0', FRIENDS, True),
    ("{a:!7}.a", FRIENDS, True),
    ("age|!1", FRIENDS, True),
    # JSON lines: the document is one line.
    ("..#", FRIENDS, True),
    ("..0.age", FRIENDS, True),
    ("..1", FRIENDS, False),
    # Wildcards go on to the next key where the first leads nowhere.
    ("*.last", FRIENDS, True),
    ("*.2.nets", FRIENDS, True),
    ("*.first.x", FRIENDS, False),
    (r"\*", {"*": 1}, True),
    (r"\*", {"a": 1}, False),
    ("a#", [1], False),
    ("#a", {"#a": 1}, True),
    # Null where a container is asked for.
    ("@this", None, True),
    ("[@this].0", None, True),
    # No path at all.
    ("", {"a": 1}, False),
    (".", {"a": 1}, False),
    ("a.", {"a": {}}, False),
    (".a", {"a": 1}, False),
    ("#(a", [{"a": 1}], False),
    ("#(a)b", [{"a": 1, "b": 1}], True),
    ("[@this", {"a": 1}, False),
    ("@nothing", {"a": 1}, False),
    ("a.b", {"a": "text"}, False),
    ("a", "text", False),
    ("a", None, False),
]


@pytest.mark.parametrize(("path", "document", "exists"), CASES, ids=[case[0] for case in CASES])
def test_a_path_exists(path: str, document: Any, exists: bool) -> None:
    assert Condition(path).exists(document) is exists


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab.", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(document=JSON, path=st.text('ab01.|#()=>"~@*?\\[]{}!,:', max_size=14))
def test_no_path_and_no_document_fail(document: Any, path: str) -> None:
    assert Condition(path).exists(document) in (True, False)


@settings(max_examples=200, deadline=None)
@given(document=JSON, keys=st.lists(st.sampled_from(["a", "b", "ab", "0", "1"]), min_size=1))
def test_a_plain_path_is_a_walk(document: Any, keys: list[str]) -> None:
    here, there = document, True
    for key in keys:
        if isinstance(here, dict) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdigit() and int(key) < len(here):
            here = here[int(key)]
        else:
            there = False
            break
    assert Condition(".".join(keys)).exists(document) is there


@settings(max_examples=300, deadline=None)
@given(text=st.text("ab", max_size=6), pattern=st.text("ab*?", max_size=6))
def test_a_pattern_matches_as_a_shells_does(text: str, pattern: str) -> None:
    from fnmatch import fnmatchcase

    assert matches_pattern(text, pattern) is fnmatchcase(text, pattern)


def test_a_hostile_text_cannot_make_a_pattern_slow() -> None:
    # By backtracking this would take longer than the universe has.
    assert not matches_pattern("a" * 3000, "*a" * 30 + "b")
