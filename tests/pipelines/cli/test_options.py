"""Configurations seen from outside: texts, defaults, and values that lost their type."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from components.evaluation.report_schema import Estimate
from foundation.errors import ConfigurationError
from pipelines.options import (
    build,
    defaults_of,
    describe,
    merge,
    options_of,
    parse_settings,
    to_json,
)


@dataclass(frozen=True)
class Inner:
    """Inner.

    Attributes:
        share: a share.
    """

    share: float = 0.5


@dataclass(frozen=True)
class Base:
    """Base.

    Attributes:
        threads: threads of one
            inference.
    """

    threads: int = 2


@dataclass(frozen=True)
class Config(Base):
    """Config.

    Attributes:
        rate: a rate.
        deep: whether deep.
        mode: how.
        sizes: several sizes.
        pair: exactly two.
        limit: a limit; none without it.
        place: a place.
        inner: more options.

    Raises:
        nothing: this is no attribute.
    """

    rate: float = 0.1
    deep: bool = False
    mode: Literal["error", "drop"] = "error"
    sizes: tuple[int, ...] = (1, 4)
    pair: tuple[int, float] = (1, 0.5)
    limit: int | None = None
    place: Path = Path("here")
    inner: Inner = field(default_factory=Inner)


def test_texts_come_from_the_docstrings_of_the_class_and_its_bases() -> None:
    texts = {option.name: option.help for option in options_of(Config)}
    assert texts["threads"] == "threads of one inference."
    assert texts["limit"] == "a limit; none without it."
    assert "nothing" not in texts
    assert "rate: a rate." in describe(Config)


def test_defaults_are_plain_json() -> None:
    assert defaults_of(Config) == {
        "threads": 2,
        "rate": 0.1,
        "deep": False,
        "mode": "error",
        "sizes": [1, 4],
        "pair": [1, 0.5],
        "limit": None,
        "place": "here",
        "inner": {"share": 0.5},
    }


def test_defaults_make_the_default_configuration() -> None:
    assert build(Config, defaults_of(Config), "stage") == Config()


def test_numbers_that_went_through_json_become_integers_again() -> None:
    made = build(Config, {"threads": 4.0, "sizes": [1.0, 8.0], "limit": 3.0}, "stage")
    assert (made.threads, made.sizes, made.limit) == (4, (1, 8), 3)
    assert isinstance(made.threads, int) and isinstance(made.sizes[1], int)


def test_text_of_a_command_line_is_converted() -> None:
    made = build(
        Config,
        {
            "threads": "1_000",
            "rate": "2e-3",
            "deep": "yes",
            "mode": "drop",
            "sizes": "2,3",
            "limit": "none",
            "place": "/there",
            "inner": {"share": "0.25"},
        },
        "stage",
    )
    assert made == Config(
        1000, 2e-3, True, "drop", (2, 3), limit=None, place=Path("/there"), inner=Inner(0.25)
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"thread": 1}, "did you mean 'threads'"),
        ({"threads": 1.5}, "stage.threads is 1.5"),
        ({"threads": "many"}, "whole number"),
        ({"rate": None}, "a number"),
        ({"deep": "perhaps"}, "true or false"),
        ({"mode": "ignore"}, "error, drop"),
        ({"pair": [1]}, "give 2 values"),
        ({"inner": 3}, "one by one"),
        ({"inner": {"part": 1}}, "stage.inner: the option 'part' is not known"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        build(Config, values, "stage")
    assert "\n" not in str(caught.value)


def test_settings_are_read_by_stage_and_a_later_one_wins() -> None:
    found = parse_settings(
        ["clone.steps=5", "clone.steps=7", "refine.env.fleets=2", "refine.env.name=a=b"],
        ("clone", "refine"),
    )
    assert found == {"clone": {"steps": "7"}, "refine": {"env": {"fleets": "2", "name": "a=b"}}}


@pytest.mark.parametrize("setting", ["clone", "clone.=1", ".x=1", "steps=5", "other.steps=1"])
def test_settings_of_another_form_are_refused(setting: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_settings([setting], ("clone",))


def test_merging_goes_into_mappings_and_leaves_its_inputs_alone() -> None:
    first = {"a": 1, "b": {"c": 2, "d": 3}}
    assert merge(first, {"b": {"d": 4}, "a": {"e": 5}}) == {"a": {"e": 5}, "b": {"c": 2, "d": 4}}
    assert first == {"a": 1, "b": {"c": 2, "d": 3}}


def test_models_within_a_summary_become_json() -> None:
    figure = Estimate(value=0.5, low=None, high=0.75)
    assert to_json({"lift": (figure,)}) == {"lift": [{"value": 0.5, "low": None, "high": 0.75}]}


def test_numpy_values_and_paths_become_json() -> None:
    assert to_json({"a": np.float32(0.5), "b": np.arange(2), "c": (Path("x"),)}) == {
        "a": 0.5,
        "b": [0, 1],
        "c": ["x"],
    }
