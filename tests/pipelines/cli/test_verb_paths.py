"""Every path of every verb has a role, and no verb writes over what it did not write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import gearshift
from pipelines.cli.option_binding import parameters_of
from pipelines.cli.verb_paths import role_of

_TEXTS = """
access_token always anchor annotations author bootstrap bucket claim claim_mode classes client
coco_address condition context dead_letters detections device events_url expect experiment
extends fail_on feedback field first frames gateway gateway_class gateway_url gpu_image gpu_type
graph group host hostname hosts hypothesis image item items kafka kafka_bootstrap kafka_cluster
kafka_dead_letters kafka_detections kafka_feedback kafka_frames kafka_mechanism kafka_namespace
kafka_security keys kubeflow_experiment kubeflow_namespace kubeflow_url launched level link log_url
maximize mesh message
minimize model model_name name names namespace note objective oidc_algorithms oidc_audience
oidc_issuer oidc_name_claim oidc_role_prefix oidc_roles_claim on origins pipeline_champion
pipeline_id pipeline_reference pods_tracking_uri probe_image prometheus_namespace
prometheus_release prometheus_url propagate_header protect providers reason reference_since
reference_until references registry rename replaces results reviewer role root runbooks rung
second service service_account session settings sha256 shard since sort stage state step storage
swap tag target text title to token tracking_uri until url user vary version what where who
words worker world
"""
"""Texts that are no paths of this machine: names, expressions, addresses, places in a cluster."""
NO_PATHS = set(_TEXTS.split())


def verbs(
    app: typer.Typer = gearshift.app, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    for command in app.registered_commands:
        verb = command.callback
        assert verb is not None
        yield (*words, command.name or verb.__name__.replace("_", "-")), verb
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from verbs(group.typer_instance, (*words, str(group.name)))


VERBS = dict(verbs())
OUTPUTS = {
    (words, name): role
    for words, verb in VERBS.items()
    for name, (annotation, _) in parameters_of(verb).items()
    if (role := role_of(annotation)) is not None and role.use in ("file", "folder", "workplace")
}


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_path_has_a_role(words: tuple[str, ...]) -> None:
    for name, (annotation, _) in parameters_of(VERBS[words]).items():
        if role_of(annotation) is None:
            assert "Path" not in str(annotation), f"{name}: say what it is for (path_roles)"
            text = re.search(r"\bstr\b", str(annotation))
            assert not text or name in NO_PATHS, f"{name}: give it a role, or add it to NO_PATHS"


def test_no_text_is_excepted_that_is_none() -> None:
    known = {
        name
        for verb in VERBS.values()
        for name, (annotation, _) in parameters_of(verb).items()
        if role_of(annotation) is None and re.search(r"\bstr\b", str(annotation))
    }
    assert set(NO_PATHS) == known


def command_line(words: tuple[str, ...], **values: str) -> list[str]:
    """A call of a verb: the values, and something for every parameter that has to be given."""
    command: Any = typer.main.get_command(gearshift.app)
    for word in words:
        command = command.resolve_command(typer.Context(command), [word])[1]
    kinds, arguments = parameters_of(VERBS[words]), list(words)
    for parameter in command.params:
        if parameter.name not in values and not parameter.required:
            continue
        number = str(kinds[parameter.name][0]).startswith("typing.Annotated[int")
        value = values.get(parameter.name, "64" if number else "given")
        named = parameter.param_type_name == "option"
        arguments += [f"{parameter.opts[0]}={value}"] if named else [value]
    return arguments


def snapshot(root: Path) -> dict[Path, tuple[int, ...]]:
    """Every file and folder with what changes when it is written to or replaced."""
    found = {path: path.lstat() for path in root.rglob("*")}
    return {
        path: (one.st_mode, one.st_ino, one.st_size, one.st_mtime_ns) for path, one in found.items()
    }


@pytest.mark.parametrize(("words", "name"), OUTPUTS, ids=str)
def test_no_verb_writes_over_what_the_user_has(
    words: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("thesis").mkdir()
    Path("thesis/a.tex").write_text("a")
    Path("thesis/text.mp4").write_text("b")
    Path("given").write_text("c")
    wrong = ["thesis", "./thesis/", "thesis/../thesis", "thesis/a.tex/below", "given"]
    if OUTPUTS[words, name].use == "file":
        wrong.append("thesis/text.mp4")
    before = snapshot(tmp_path)
    for out in wrong:
        done = CliRunner().invoke(gearshift.app, command_line(words, **{name: out}))
        assert done.exit_code == 1, (out, done.output, done.exception)
        assert re.fullmatch(r"error: [^\n]+\n", done.stderr), done.stderr
        assert done.stdout == ""
        assert snapshot(tmp_path) == before
