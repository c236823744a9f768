"""A cluster and the machine that installs on it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from api_server import ApiServer, served
from cluster_controllers import Controllers, equip
from typer.testing import CliRunner

import gearshift
from feature_transformer.observation import OBSERVATION_SIZE
from inference_graph.contract import LADDER
from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import written_overlay
from inference_graph.control.installer.steps import Plan, weight_files
from inference_graph.control.manifests import ManifestOptions


@dataclass
class World:
    """A cluster, and what is on the operator's machine."""

    server: ApiServer
    controllers: Controllers
    kubeconfig: Path
    folder: Path
    commands: list[str] = field(default_factory=list)

    @property
    def ladder(self) -> dict[str, Path]:
        return {rung: self.folder / "ladder" / f"{rung}.onnx" for rung in LADDER}

    @property
    def policy(self) -> Path:
        return self.folder / "policy.onnx"

    def kubectl(self, on_command: Callable[[str], None] | None = None) -> Kubectl:
        return Kubectl("gearshift", "", self.kubeconfig, on_command or self.commands.append)

    def plan(self, target: str = "kind", options: ManifestOptions | None = None) -> Plan:
        out = self.folder / "deploy"
        overlay = written_overlay(target, options or ManifestOptions(), out)
        return Plan(overlay, weight_files(self.ladder, self.policy), out, seconds=20)

    def words(self, *verb: str, target: str = "kind") -> list[str]:
        """Arguments of ``gearshift cluster``."""
        return ["cluster", *verb, "--target", target, f"--kubeconfig={self.kubeconfig}"]

    @property
    def weights(self) -> list[str]:
        """Options of an installation that name this machine's files."""
        return [
            f"--ladder={self.folder / 'ladder'}",
            f"--policy={self.policy}",
            f"--out={self.folder / 'deploy'}",
        ]


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """A cluster that has all that Gearshift needs, and nothing of it.

    Args:
        folder: for this and further ones.
    """
    from tiny_models import save_policy

    local = folder / "local"
    if not local.exists():
        (local / "ladder").mkdir(parents=True)
        for rung in LADDER:
            (local / "ladder" / f"{rung}.onnx").write_bytes(f"weights of {rung}".encode() * 1000)
        save_policy(local / "policy.onnx", np.zeros((OBSERVATION_SIZE, 3), np.float32))
        (local / "reference.parquet").write_bytes(b"reference")
    models = Path(tempfile.mkdtemp(prefix="models-", dir=folder))
    server, controllers = ApiServer(models), Controllers()
    server.controllers.append(controllers)
    equip(server)
    with served(server, models.with_suffix(".kubeconfig")) as kubeconfig:
        yield World(server, controllers, kubeconfig, local)


def cli(*words: str) -> tuple[int, list[str], str]:
    """Exit code, lines of standard output, and standard error of the command line."""
    result = CliRunner().invoke(gearshift.app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout.splitlines(), result.stderr
