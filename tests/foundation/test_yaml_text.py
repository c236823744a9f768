from __future__ import annotations

import pytest
import yaml

from foundation.yaml_text import check_yaml

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
