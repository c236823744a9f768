"""``gearshift cluster install`` on a real node: from an empty namespace to an answered frame."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from control_plane import Cluster
from frames import frame
from rollout_process import ROOT
from tools import program

_SPACE = "alone"
_SECONDS = 900.0


def run(cluster: Cluster, *words: str) -> tuple[int, list[str], list[str]]:
    """A verb of ``gearshift cluster``: exit code, and the lines of both outputs."""
    command = (sys.executable, "-c", "import gearshift; gearshift.main()", "cluster", *words)
    where = ("--target=edge", f"--namespace={_SPACE}", f"--kubeconfig={cluster.kubeconfig}")
    path = os.pathsep.join((str(Path(program("kubectl")).parent), os.environ["PATH"]))
    done = subprocess.run(
        (*command, *where),
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.timeout(2 * _SECONDS)
def test_one_command_installs_and_another_takes_away(
    real_cluster: Cluster, volumes: Path, tmp_path: Path
) -> None:
    models = volumes / "gearshift-models"
    install = (
        "install",
        f"--ladder={models / 'ladder'}",
        f"--policy={models / 'policy' / 'policy.onnx'}",
        f"--out={tmp_path / 'deploy'}",
        "--no-check",  # its probe of NetworkPolicies needs an image that this node cannot pull
    )
    code, lines, notes = run(real_cluster, *install)
    assert code == 0, notes
    assert len(lines) + len(notes) <= 6, (lines, notes)
    assert "serves in the namespace alone" in lines[0]
    assert lines[1].startswith("one frame  gateway ")
    token = notes[-1].split()[-1]

    service = real_cluster.ask(f"/api/v1/namespaces/{_SPACE}/services/gateway")["spec"]
    url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1/detect"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}
    answer = httpx.post(url, content=frame(), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text

    code, lines, notes = run(real_cluster, *install)
    assert (code, notes) == (0, [])
    assert "nothing to change" in lines[0]
    code, lines, notes = run(real_cluster, "status")
    assert code == 0, notes

    code, lines, notes = run(real_cluster, "uninstall", "--data", "--yes")
    assert code == 0, notes
    for plural in ("pods", "secrets", "persistentvolumeclaims", "services"):
        assert real_cluster.ask(f"/api/v1/namespaces/{_SPACE}/{plural}")["items"] == []
    real_cluster.kubectl("delete", "namespace", _SPACE, "--timeout=120s")
