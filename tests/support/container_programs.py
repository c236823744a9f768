"""The containers of the overlays, and how each program is taken to the point where it serves.

A program gets its exact command line and variables. Paths below a mount lead to a folder of the
test, and whatever would listen, loop or call out is replaced at the last step.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from overlays import Documents, named, pods, rendered
from typer.testing import CliRunner

from inference_graph.control.manifests import service_containers
from inference_graph.gateway.access import add_token
from inference_graph.prediction_log.place import open_place

MODELS = "/mnt/models"
_BUCKET = re.compile(r'(s3|gs)://[^\s"]+')
_ABSOLUTE = re.compile(r"(?<![\w.:/])/[\w.][\w./-]*")


@dataclass
class Container:
    """A container as the kubelet would start it.

    Attributes:
        where: whose it is, for messages.
        name: its name.
        image: what it runs.
        command: program and arguments.
        variables: those with a value in the manifest.
        mounts: folders by the path at which the container sees them.
        bucket: folder in place of a bucket.
    """

    where: str
    name: str
    image: str
    command: tuple[str, ...]
    variables: dict[str, str]
    mounts: dict[str, Path] = field(default_factory=dict)
    bucket: Path = Path()

    def local(self, text: str) -> str:
        """A text with the test's folders in place of the mounts, and of a bucket that is known.

        Raises:
            AssertionError: it names a path that is on no volume.
        """

        def folder(match: re.Match[str]) -> str:
            path = match[0]
            for mount in sorted(self.mounts, key=len, reverse=True):
                if path == mount or path.startswith(f"{mount}/"):
                    return f"{self.mounts[mount]}{path[len(mount) :]}"
            raise AssertionError(f"{self.where}: {path} of {text!r} is on no volume")

        if (bucket := _BUCKET.search(text)) and self.command[0] != "mlflow":
            open_place(bucket[0])  # it understands the url; no server is there to answer
            return text.replace(bucket[0], str(self.bucket))
        return _ABSOLUTE.sub(folder, text)


def containers(overlay: str, root: Path, documents: Documents | None = None) -> Iterator[Container]:
    """Every container of an overlay, init containers first; KServe's own are not among them.

    Args:
        overlay: its name.
        root: folder whose subfolders stand for volumes.
        documents: its documents with other options than the committed ones.
    """
    documents = documents or rendered(overlay)
    for where, spec in pods(documents):
        if where.startswith("InferenceService"):
            continue
        for one in (*spec.get("initContainers", ()), *spec["containers"]):
            yield Container(
                where,
                one["name"],
                one["image"],
                (*one.get("command", ()), *one.get("args", ())),
                {v["name"]: v["value"] for v in one.get("env", ()) if "value" in v},
                _mounts(one, root),
                root / "bucket",
            )
    yield from _of_services(documents, root)


def _of_services(documents: Documents, root: Path) -> Iterator[Container]:
    """The same of InferenceServices, with what KServe adds to them."""
    specs = {where.split(maxsplit=1)[1]: spec for where, spec in pods(documents)}
    for one in service_containers(documents):
        (described,) = specs[f"{one.service} {one.component}"]["containers"]
        command = one.command
        mounts = _mounts(described, root)
        if one.component == "transformer":
            command = (*command, "--predictor_host", f"{one.service}-predictor.gearshift")
        if one.storage_uri is not None:
            mounts[MODELS] = root / "models" / one.storage_uri.rpartition("/")[2]
        where = f"InferenceService {one.service} {one.component}"
        variables = dict(one.environment)
        yield Container(where, one.service, described["image"], command, variables, mounts)


def _mounts(container: dict[str, Any], root: Path) -> dict[str, Path]:
    return {
        one["mountPath"]: root / one["name"] / one.get("subPath", "")
        for one in container["volumeMounts"]
    }


def files(container: Container, overlay: str) -> None:
    """Put a Secret's and a ConfigMap's files where the container sees them."""
    for folder in container.mounts.values():
        folder.mkdir(parents=True, exist_ok=True)
    config_maps = named(rendered(overlay), "ConfigMap")
    for mount, name in (
        ("/etc/gearshift-triggers", "gearshift-triggers"),
        ("/etc/gearshift-trust", "gearshift-trust"),
    ):
        if mount in container.mounts:
            for file, text in config_maps[name]["data"].items():
                (container.mounts[mount] / file).write_text(container.local(text))
    if "/etc/gearshift" in container.mounts:
        tokens = container.mounts["/etc/gearshift"] / "tokens.jsonl"
        if not tokens.exists():
            add_token(tokens, "robot-7", ["stream"])


Starter = Callable[[Sequence[str], pytest.MonkeyPatch], None]


def gateway(arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
    """It opens its policy, tokens, log, triggers and rungs, and would listen."""
    from inference_graph.gateway import __main__ as program
    from inference_graph.gateway import runtime
    from inference_graph.gateway.app import build_app
    from inference_graph.gateway.settings import GatewaySettings

    opened: list[GatewaySettings] = []

    def serve(settings: GatewaySettings, _: Any, more_routes: Any, __: Any) -> None:
        async def start() -> None:
            at_work = build_app(settings, more_routes=more_routes).state.runtime
            await at_work.start()
            opened.append(settings)
            await at_work.close()

        asyncio.run(start())

    patched.setattr(program, "serve_gateway", serve)
    patched.setattr(runtime, "_FIRST_LOOK", 0.05)
    patched.setenv("GEARSHIFT_EVENT_KEY", "of the Secret")
    assert program.main(arguments) == 0 and opened


def detector(arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
    """It loads its weights, on the CPU whatever the provider, and would serve."""
    from inference_graph.detector import __main__ as program

    load = program.open_detector
    patched.setattr(program, "open_detector", lambda config, _, *more: load(config, "cpu", *more))
    _served(program, arguments, patched)


def router(arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
    """It loads the policy, and would serve."""
    from inference_graph.router import __main__ as program

    _served(program, arguments, patched)


def transformer(arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
    """It makes its model, and would serve."""
    from feature_transformer import __main__ as program

    _served(program, arguments, patched)


def _served(program: Any, arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    patched.setattr(program, "serve", lambda *served: asked.append(served))
    assert program.main(arguments) == 0 and len(asked) == 1


def verb(place: str) -> Starter:
    """A verb of the command line up to the call of a function, ``module:name``."""

    def start(arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
        import importlib

        import gearshift

        module, _, name = place.partition(":")
        asked: list[Any] = []

        class Reached(Exception):
            pass

        def reached(*given: Any, **named: Any) -> None:
            asked.append(given)
            raise Reached

        patched.setattr(importlib.import_module(module), name, reached)
        if "dashboard" in arguments:
            patched.setattr("dashboards.app.listen", lambda *_: contextlib.nullcontext())
        if "rollout" in arguments:
            patched.setattr("inference_graph.control.rollout.cluster.connected", lambda _: None)
            patched.setattr(
                "inference_graph.control.rollout.cluster.ClusterTraffic", lambda *_: None
            )
        result = CliRunner().invoke(gearshift.app, list(arguments))
        assert asked and isinstance(result.exception, Reached), result.output

    return start


def mlflow_server(arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
    """Its own command line takes them."""
    from mlflow.cli import cli

    name, *rest = arguments
    command = cli.get_command(None, name)
    assert command is not None
    command.make_context(name, rest)


def make_bucket(arguments: Sequence[str], patched: pytest.MonkeyPatch) -> None:
    """It makes the bucket, and does not mind one that is there."""
    import boto3
    from buckets import s3_server

    with s3_server(patched) as (host, port):
        patched.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://{host}:{port}")
        for _ in range(2):
            exec(compile(arguments[-1], "container", "exec"), {})
        store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        # Other tests of this process may have left buckets in the same store.
        made = [one["Name"] for one in store.list_buckets()["Buckets"]]
        assert made.count(os.environ["BUCKET"]) == 1


PROGRAMS: dict[tuple[str, ...], Starter] = {
    ("python", "-m", "inference_graph.gateway"): gateway,
    ("python", "-m", "inference_graph.detector"): detector,
    ("python", "-m", "inference_graph.router"): router,
    ("python", "-m", "feature_transformer"): transformer,
    ("gearshift", "dashboard"): verb("dashboards.app:open_server"),
    ("gearshift", "drift", "check"): verb("components.drift.check:check_drift"),
    ("gearshift", "triggers", "run"): verb("inference_graph.control.triggers.watch:watch"),
    ("gearshift", "rollout", "run"): verb("pipelines.rollout:run_controller"),
    ("mlflow", "server"): mlflow_server,
    ("python", "-c"): make_bucket,
}
"""By the words before the arguments. A program that is not here makes the test fail."""
FOREIGN = {"postgres", "objects"}
"""Containers of images that this project does not build."""


def starter(container: Container) -> tuple[Starter, tuple[str, ...]]:
    """What starts a container's program, and its arguments."""
    for words, found in PROGRAMS.items():
        if container.command[: len(words)] == words:
            kept = words[1:] if words[0] in ("gearshift", "mlflow") else ()
            return found, (*kept, *container.command[len(words) :])
    raise AssertionError(f"{container.where}: nothing here starts {container.command}")
