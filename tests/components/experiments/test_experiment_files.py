"""Experiments as files: typed, refused with the nearest right name, inherited, found again."""

from __future__ import annotations

import math
import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from experiment_samples import CONTRACT, CloneConfig, RefineConfig, schema
from hypothesis import given, settings
from hypothesis import strategies as st

from components.experiments.document import (
    Contract,
    Experiment,
    experiment_text,
    parse_experiment,
    read_experiment,
    write_experiment,
)
from components.experiments.resolve import (
    Value,
    chain,
    contract_of,
    differences,
    plain,
    resolve,
    same,
)
from foundation.errors import ConfigurationError, NotFound

SCHEMA = schema()


def test_the_schema_is_the_stages_own() -> None:
    assert SCHEMA.defaults == {
        "refine.timesteps": 100,
        "refine.learning_rate": 3e-4,
        "refine.mode": "fast",
        "refine.sizes": [1, 4],
        "refine.limit": None,
        "refine.deep": False,
        "refine.place": "here",
        "refine.inner.share": 0.5,
        "clone.seeds": 7,
        "clone.name": "bc",
    }
    SCHEMA.check(SCHEMA.defaults)
    assert {RefineConfig, CloneConfig} == set(SCHEMA._stages.values())


def test_a_file_is_read_whole() -> None:
    text = """
extends: base
contract: {objective: cut deadline misses, hypothesis: queues are learned,
           expected: retained >= 0.95, author: anna}
tags: [queues]
notes: one thing
set:
  refine: {learning_rate: 5e-4, sizes: [1, 8], inner: {share: 1}}
  clone.seeds: 3
"""
    one = parse_experiment("child", text, SCHEMA)
    assert (one.extends, one.tags, one.notes, one.contract) == (
        "base",
        ("queues",),
        "one thing",
        CONTRACT,
    )
    assert one.changes == {
        "refine.learning_rate": 5e-4,
        "refine.sizes": [1, 8],
        "refine.inner.share": 1.0,
        "clone.seeds": 3,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("set: {refine: {lerning_rate: 1}}", "did you mean 'refine.learning_rate'"),
        ("set: {refin: {timesteps: 1}}", "did you mean 'refine.timesteps'"),
        ("set: {refine: {timesteps: many}}", "refine.timesteps is 'many'; give a"),
        ("set: {refine: {timesteps: '5'}}", "refine.timesteps is '5'"),
        ("set: {refine: {timesteps: 1.5}}", "refine.timesteps is 1.5"),
        ("set: {refine: {timesteps: true}}", "refine.timesteps is True"),
        ("set: {refine: {deep: 1}}", "refine.deep is 1; give a"),
        ("set: {refine: {mode: medium}}", "'fast' or 'slow'"),
        ("set: {refine: {sizes: [1, x]}}", r"refine.sizes\[1\]"),
        ("set: {refine: {inner: {part: 1}}}", "did you mean 'refine.inner"),
        ("set: {refine: {learning_rate: .nan}}", "refine.learning_rate is nan"),
        ("set: 5", "no mapping of stages"),
        ("extend: base", "did you mean 'extends'"),
        ("extends: base\nextends: other", "'extends' stands twice"),
        ("extends: [base]", "give a text"),
        ("extends: ../other/base.yaml", "give the name of an experiment"),
        ("contract: {objective: a}", "hypothesis, expected, author missing"),
        ("contract: {objective: a, hypothesis: '', expected: retained > 0, author: b}", "is empty"),
        ("tags: queues", "no list of words"),
        ("- a", "no mapping"),
        ("{", "no YAML"),
    ],
)
def test_a_slip_is_named_with_what_was_meant(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_experiment("one", text, SCHEMA)
    assert "\n" not in str(caught.value)


def test_the_command_lines_values_are_those_of_the_file() -> None:
    for path, text, value in (
        ("refine.learning_rate", "5e-4", 5e-4),
        ("refine.timesteps", "1_000", 1000),
        ("refine.sizes", "1,8", [1, 8]),
        ("refine.sizes", "[2]", [2]),
        ("refine.limit", "null", None),
        ("refine.deep", "true", True),
        ("refine.place", "/there", "/there"),
        ("clone.name", "5", "5"),
    ):
        assert SCHEMA.key(path).parsed(text) == value
    with pytest.raises(ConfigurationError, match="refine.timesteps is 'few'"):
        SCHEMA.key("refine.timesteps").parsed("few")


def test_a_value_out_of_its_range_is_the_stages_to_refuse() -> None:
    with pytest.raises(ConfigurationError, match="refine: timesteps is 0; give 1 to"):
        SCHEMA.check({**SCHEMA.defaults, "refine.timesteps": 0})


def family() -> dict[str, Experiment]:
    return {
        "base": Experiment("base", "", {"clone.seeds": 3}, CONTRACT),
        "child": Experiment("child", "base", {"refine.timesteps": 200}),
        "grandchild": Experiment("grandchild", "child", {"clone.seeds": 4}, under="base"),
    }


def test_each_value_tells_which_ancestor_set_it() -> None:
    found = resolve("grandchild", family(), SCHEMA)
    assert found["refine.timesteps"] == Value(200, "child")
    assert found["clone.seeds"] == Value(4, "grandchild")
    assert found["refine.deep"] == Value(False, "defaults")
    assert [one.name for one in chain("grandchild", family())] == ["base", "child", "grandchild"]
    reported = differences(resolve("base", family(), SCHEMA), found)
    assert [(one.path, one.first, one.second, one.second_origin) for one in reported] == [
        ("refine.timesteps", 100, 200, "child"),
        ("clone.seeds", 3, 4, "grandchild"),
    ]


def test_missing_parents_and_circles_are_named() -> None:
    known = family()
    with pytest.raises(NotFound, match="did you mean 'child'"):
        chain("chidl", known)
    known["orphan"] = Experiment("orphan", "bse")
    with pytest.raises(ConfigurationError, match="orphan extends 'bse' is not known; .*'base'"):
        chain("orphan", known)
    known["base"] = Experiment("base", "grandchild")
    with pytest.raises(ConfigurationError, match="base extends grandchild extends child extends"):
        chain("base", known)
    known["own"] = Experiment("own", "own")
    with pytest.raises(ConfigurationError, match="own extends own; end it"):
        chain("own", known)


def test_a_contract_is_not_inherited() -> None:
    assert contract_of("base", family()) == (CONTRACT, "base")
    assert contract_of("grandchild", family()) == (CONTRACT, "base")  # as its file states
    with pytest.raises(ConfigurationError, match="child has no contract and is not launched"):
        contract_of("child", family())


def test_what_was_promised_is_not_written_over(tmp_path: Path) -> None:
    one = Experiment("one", "base", {"refine.learning_rate": 1e-5}, CONTRACT, tags=("a",))
    file = tmp_path / "one.yaml"
    assert write_experiment(one, file, SCHEMA).file == file
    again = read_experiment(file, SCHEMA)
    assert again.changes == one.changes and again.contract == CONTRACT
    with pytest.raises(ConfigurationError, match="there already"):
        write_experiment(one, file, SCHEMA)


@pytest.mark.parametrize("text", ["1e3", "5E-4", ".5e1", "0o17", "no", "2020-01-01", "a\x1bb"])
def test_every_text_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    promise = Contract(text, text, CONTRACT.expected, text)
    changes = {"clone.name": text}
    one = Experiment("one", "1e3", changes, promise, tags=(text,), notes=text)
    file = tmp_path / "one.yaml"
    written = write_experiment(one, file, SCHEMA)
    assert read_experiment(file, SCHEMA) == written
    assert (written.contract, written.tags, written.notes) == (promise, (text,), text)


@pytest.mark.parametrize(
    "change",
    [
        {"notes": "\ud800"},
        {"tags": ("\x85",)},
        {"tags": ("x" * 300_000,)},
        {"notes": "x" * 300_000},
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    file = tmp_path / "one.yaml"
    with pytest.raises(ConfigurationError, match=r"^one (cannot|has|is longer)"):
        write_experiment(Experiment("one", **change), file, SCHEMA)
    assert not file.exists()


@pytest.mark.parametrize(
    "text",
    [
        "set: {[a]: 2}",
        "? {a: 1}\n: 2",
        "notes: !!timestamp x",
        "set: {clone: {seeds: !!int ''}}",
        "set: {clone: {seeds: !!bool maybe}}",
        "!!map [1]",
        "notes: 2020-02-30",
        f"set: {{clone: {{seeds: 0x{'f' * 5000}}}}}",
        f"set: {{clone: {{seeds: 1{':30' * 5000}}}}}",
        "a: 1\n--- {}",
    ],
)
def test_values_that_yaml_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no YAML"):
        parse_experiment("one", text, SCHEMA)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "one.yaml")
    with pytest.raises(ConfigurationError, match="no regular file"):
        read_experiment(tmp_path / "one.yaml", SCHEMA)


_NAMES = st.text(string.ascii_letters + " :#'\"{}[]é,-", max_size=12)
_NUMBERS = st.from_regex(r"[-+]?[0-9]{1,2}\.?[0-9]?[eE][-+]?[0-9]|0o[0-7]", fullmatch=True)
_VALUES = st.fixed_dictionaries(
    {
        "refine.timesteps": st.integers(1, 10**9),
        "refine.learning_rate": st.floats(allow_nan=False, allow_infinity=False),
        "refine.mode": st.sampled_from(["fast", "slow"]),
        "refine.sizes": st.lists(st.integers(-5, 5), max_size=3),
        "refine.limit": st.none() | st.integers(),
        "refine.deep": st.booleans(),
        "refine.place": st.just("here") | st.just("/tmp/x"),
        "refine.inner.share": st.floats(0, 1),
        "clone.seeds": st.integers(1, 9),
        "clone.name": _NAMES | _NUMBERS,
    }
)


@settings(max_examples=150, deadline=None)
@given(parent=_VALUES, child=_VALUES)
def test_resolving_the_changes_of_any_two_gives_the_child_back(
    parent: dict[str, Any], child: dict[str, Any]
) -> None:
    """Through the files, as people keep them: text and back."""

    def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        return {
            path: value
            for path, value in new.items()
            if path not in old or not same(old[path], value)
        }

    known = {
        "parent": Experiment("parent", "", changes(SCHEMA.defaults, parent)),
        "child": Experiment("child", "parent", changes(parent, child)),
    }
    read = {
        name: parse_experiment(name, experiment_text(one), SCHEMA) for name, one in known.items()
    }
    found = plain(resolve("child", read, SCHEMA))
    # A text in a file loses what no reader of a file can see: spaces that are doubled or outside.
    assert found == child
    assert all(type(found[path]) is type(value) for path, value in child.items())
    assert set(read["child"].changes) == {
        path for path, value in child.items() if value != parent[path] and value is not parent[path]
    }
    assert not math.isnan(found["refine.learning_rate"])
