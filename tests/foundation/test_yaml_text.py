from __future__ import annotations

import pytest
import yaml

from foundation.yaml_text import check_yaml, read_documents, read_yaml, write_yaml

NINE = range(1, 9)
LISTS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in NINE)
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{f'*a{n - 1},' * 9}]}}\n" for n in NINE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LISTS, "refers to another part"),
        (MERGES, "refers to another part"),
        ("&a [*a]", "refers to another part"),
        ("[" * 20_000 + "]" * 20_000, "deep"),
        ("{a: " * 51 + "1" + "}" * 51, "nested deeper than 50"),
        ("a: [", "expected"),
    ],
)
def test_what_may_grow_is_refused(text: str, reason: str) -> None:
    with pytest.raises(yaml.YAMLError, match=reason):
        check_yaml(text)


@pytest.mark.parametrize("text", ["", "a: 1", "names: {0: car, 1: &unused dog}", b"a: '*b'\n"])
def test_the_rest_is_read(text: str | bytes) -> None:
    check_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "? [a]\n: 1",
        "!!timestamp x",
        "a: !!int ''",
        "a: !!bool maybe",
        "a: !!float x",
        "!!map [1]",
        "2020-02-30",
        "0x" + "f" * 5000,
        "[" * 5000,
        "a: 1\n---\nb: 1",
        "!!python/object/apply:os.system [ls]",
    ],
)
def test_whatever_is_wrong_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)
    with pytest.raises(yaml.YAMLError):
        read_yaml(text, references=True)


def test_documents_may_refer_to_their_parts() -> None:
    text = "a: &a [1]\nb: *a\n---\n{}"
    assert read_documents(text) == [{"a": [1], "b": [1]}, {}]
    assert read_yaml("a: &a [1]\nb: *a", references=True) == {"a": [1], "b": [1]}
    assert read_yaml("") is None


def test_texts_that_are_numbers_in_yaml_1_2_are_quoted() -> None:
    """Its core schema as kubectl reads it: 1e3 and 123456e78901 are floats, 0o17 is 15."""
    for text in ("1e3", "5E-4", "-.5e1", "1.e+3", "123456e78901", "0o17", "1", "no", "0x1f"):
        assert write_yaml({"value": text}) == f"value: '{text}'\n"
    assert write_yaml({"value": [1e3, 5e-4, 1, "e3", "a1e3"]}, width=80) == (
        "value:\n- 1000.0\n- 0.0005\n- 1\n- e3\n- a1e3\n"
    )
