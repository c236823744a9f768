from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from feature_transformer.__main__ import main
from foundation.command_line import add_options, read_options, read_pairs, run_command
from foundation.errors import ConfigurationError
from serving_kit.model_server import ServerOptions


@dataclass(frozen=True)
class Some:
    """Options of a test.

    Attributes:
        needed: a file that
            must be given.
        share: 50% of them.
        kind: which one.
        limit: none without it.
        with_grpc: whether.
    """

    needed: Path
    share: float = 0.5
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    with_grpc: bool = False


def parse(*arguments: str) -> Some:
    parser = argparse.ArgumentParser()
    add_options(parser, Some, "some")
    return read_options(parser.parse_args(arguments), Some)


def test_defaults_stand_in_the_dataclass() -> None:
    assert parse("--needed", "x") == Some(Path("x"))


def test_both_spellings() -> None:
    reported = ("--share", "1", "--kind", "b", "--limit", "7")
    expected = Some(Path("x"), 1.0, "b", 7, True)
    assert parse("--needed", "x", *reported, "--with_grpc", "true") == expected
    assert parse("--needed=x", *reported, "--with-grpc") == expected
    assert parse("--needed=x", "--with-grpc", "off").with_grpc is False


def test_named_values_of_a_repeated_option() -> None:
    assert read_pairs([], "rung") == {}
    assert read_pairs(["a=1", "b=x=y"], "rung") == {"a": "1", "b": "x=y"}
    for pair in ("a", "a=", "=1", ""):
        with pytest.raises(ConfigurationError, match=f"rung '{pair}': give it as NAME=URL"):
            read_pairs([pair], "rung", "URL")
    with pytest.raises(ConfigurationError, match="rung 'a' is given twice"):
        read_pairs(["a=1", "a=2"], "rung", "URL")


@pytest.mark.parametrize(
    "arguments", [[], ["--needed", "x", "--kind", "c"], ["--needed", "x", "--with-grpc", "maybe"]]
)
def test_what_cannot_be_parsed_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "a file that must be given" in shown
    assert "50% of them (default: 0.5)" in shown
    assert "whether (default: false)" in shown


def test_a_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--predictor_host", "x:1", "--shadow_share", "2"]) == 1
    assert capsys.readouterr().err == "error: shadow_share is 2.0; give 0 to 1\n"
    assert main(["--predictor_host", "http://x", "--http_port", "0"]) == 1
    assert "give host or host:port" in capsys.readouterr().err
    assert run_command(lambda: None) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"http_port": 70_000},
        {"grpc_port": 8080},
        {"max_body_bytes": 5},
        {"body_seconds": 0},
        {"grace_seconds": -1},
        {"workers": 2},
    ],
)
def test_server_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        ServerOptions(**options)
