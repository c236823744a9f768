"""The CronJob that checks for drift: confined, one at a time, with options that the command has."""

from __future__ import annotations

from pathlib import Path

from overlays import named
from typer.testing import CliRunner

import gearshift
from inference_graph.control.manifests import ManifestOptions, render, write_manifests


def test_the_job_runs_the_command_as_it_is(tmp_path: Path) -> None:
    write_manifests(tmp_path, ManifestOptions(image="shop/gearshift", version="7"))
    job = named(render(tmp_path / "overlays" / "kind"), "CronJob")["drift-check"]
    assert job["spec"]["schedule"].split()[1] == "*/6"
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "shop/gearshift-python:7"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["restartPolicy"] == "Never"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    program, *verbs = container["command"]
    assert program == "gearshift"
    text = CliRunner().invoke(gearshift.app, [*verbs, "--help"]).stdout
    for argument in container["args"]:
        assert argument.partition("=")[0] in text
