"""The real parts of a cluster, built once from their Go modules and kept outside the repository.

``python tests/cluster/tools.py`` builds what is missing and prints the folder; with ``--cached`` it
builds nothing, and exits with 1 where something is missing; with ``--node`` it adds what real pods
need. It needs Go. Nothing of these projects
is kept in the repository: programs, CRDs and KServe's own manifests come out of the Go module
cache, in the versions that Kubernetes and KServe name in their own ``go.mod``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KUBERNETES = "v1.36.3"
KSERVE = "v0.20.0"
COREDNS = "v1.14.6"
_KUBERNETES_MODULE, _KSERVE_MODULE = "k8s.io/kubernetes", "github.com/kserve/kserve"
_COREDNS_MODULE = "github.com/coredns/coredns"
_MODULES = {_KUBERNETES_MODULE: KUBERNETES, _KSERVE_MODULE: KSERVE, _COREDNS_MODULE: COREDNS}
_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
PROGRAMS = {
    "etcd": (_KUBERNETES_MODULE, "go.etcd.io/etcd/server/v3"),
    **{name: (_KUBERNETES_MODULE, f"{_KUBERNETES_MODULE}/cmd/{name}") for name in _COMMANDS},
    **{name: (_KSERVE_MODULE, f"{_KSERVE_MODULE}/cmd/{name}") for name in ("manager", "router")},
}
"""Program, the module whose versions it is built with, and its package."""
NODE_PROGRAMS = {
    "kubelet": (_KUBERNETES_MODULE, f"{_KUBERNETES_MODULE}/cmd/kubelet"),
    "kube-proxy": (_KUBERNETES_MODULE, f"{_KUBERNETES_MODULE}/cmd/kube-proxy"),
    "coredns": (_COREDNS_MODULE, _COREDNS_MODULE),
}
"""Those that a node with real pods needs besides."""
_FILES = {
    "kserve": (_KSERVE_MODULE, "config"),
    "crds/gateway": ("sigs.k8s.io/gateway-api", "config/crd/standard"),
    "crds/keda": ("github.com/kedacore/keda/v2", "config/crd/bases"),
    "crds/istio": ("istio.io/api", "kubernetes"),
    "crds/prometheus": (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd",
    ),
}
"""Folder of the cache, and what it holds: of the versions that KServe itself is built with."""
_VERSION = "k8s.io/component-base/version"


def folder() -> Path:
    """Where the tools of these versions lie, or will lie."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gearshift" / "cluster" / f"kubernetes-{KUBERNETES}-kserve-{KSERVE}"


def missing(node: bool = False) -> list[str]:
    """What is not there yet, by name; with what a node needs, if asked."""
    there = folder()
    programs = [*PROGRAMS, *(NODE_PROGRAMS if node else ())]
    found = [name for name in programs if not (there / "bin" / name).is_file()]
    return found + [name for name in _FILES if not (there / name).is_dir()]


def program(name: str) -> str:
    """Path of a program."""
    return str(folder() / "bin" / name)


def build(node: bool = False) -> None:
    """Make what is missing; a program takes minutes."""
    lacking = missing(node)
    if not lacking:
        return
    if shutil.which("go") is None:
        raise SystemExit("Go is not installed; install Go 1.26 or newer, then run this again")
    work = folder() / "build"
    for module, version in _MODULES.items():
        _write_module(work / module, module, version)
    for name, (module, inside) in _FILES.items():
        if name in lacking:
            fetched = json.loads(_go(work / _KSERVE_MODULE, "mod", "download", "-json", module))
            partial = folder() / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(Path(fetched["Dir"]) / inside, partial)
            for path in partial.rglob("*"):  # the module cache is read-only
                path.chmod(0o755 if path.is_dir() else 0o644)
            partial.rename(folder() / name)
    for name, (module, package) in (PROGRAMS | NODE_PROGRAMS).items():
        if name in lacking:
            _build(work / module, package, folder() / "bin" / name)


def _write_module(here: Path, module: str, version: str) -> None:
    """A module that needs one other, with that one's replacements.

    ``go install`` refuses modules with replacements; those of Kubernetes lead into its own tree,
    and are published as modules of their own, ``v0`` for its ``v1``.
    """
    here.mkdir(parents=True, exist_ok=True)
    fetched = json.loads(_go(here, "mod", "download", "-json", f"{module}@{version}"))
    described: dict[str, Any] = json.loads(_go(here, "mod", "edit", "-json", fetched["GoMod"]))
    lines = ["module cluster", f"go {described['Go']}", f"require {module} {version}"]
    for one in described.get("Replace") or ():
        old, new = one["Old"]["Path"], one["New"]
        inside = new["Path"].startswith("./")
        target = (
            f"{old} v0.{version.partition('.')[2]}"
            if inside
            else (f"{new['Path']} {new['Version']}")
        )
        lines.append(f"replace {old} => {target}")
    (here / "go.mod").write_text("\n".join(lines) + "\n")
    both = PROGRAMS | NODE_PROGRAMS
    packages = [package for owner, package in both.values() if owner == module]
    imports = "\n".join(f'import _ "{package}"' for package in packages)
    (here / "tools.go").write_text(f"package tools\n\n{imports}\n")
    # Only what the programs need is added to go.mod; `go mod tidy` would fetch what the tests of
    # all of it need, for the better part of an hour. Programs cannot be imported, hence -e.
    _go(here, "list", "-e", "-mod=mod", "-deps", ".")


def _build(here: Path, package: str, target: Path) -> None:
    begun = time.monotonic()
    target.parent.mkdir(exist_ok=True)
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    values = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    link = " ".join(f"-X {_VERSION}.{key}={value}" for key, value in values.items())
    partial = target.with_suffix(".partial")
    options = ("-trimpath", "-ldflags", f"-s -w {link}", "-o", str(partial))
    _go(here, "build", *options, package)
    partial.rename(target)
    print(f"{package} is built; it took {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _go(here: Path, *words: str) -> str:
    ran = subprocess.run(["go", *words], cwd=here, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"go {' '.join(words)} in {here} failed: {ran.stderr.strip()[-2000:]}")
    return ran.stdout


if __name__ == "__main__":
    with_node = "--node" in sys.argv
    if "--cached" in sys.argv:
        sys.exit(1 if missing(with_node) else 0)
    build(with_node)
    print(folder())
