"""The images that a node runs: ours, by its own Containerfile, and KServe's router.

``python tests/cluster/node/node_images.py`` builds them with buildah. Ours stands on a Debian that
mmdebstrap makes, in the place of Docker Hub's Python image; nothing else differs from a released
one.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tools import KSERVE, folder, program

ROOT = Path(__file__).resolve().parents[3]
PAUSE = "docker.io/gearshift/pause:1"
_OURS = "docker.io/library/gearshift:0.1.0"
_BASE = "localhost/gearshift-base:bookworm"
_PACKAGES = "python3,python3-pip,python3-venv,python-is-python3,ca-certificates"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""A proxy between this machine and a registry may have a certificate of its own."""


def archives() -> dict[str, Path]:
    """Name of each image, and the file it is imported from."""
    router = f"docker.io/kserve/router:{KSERVE}"
    return {name: _archive(name) for name in (PAUSE, router, _OURS)}


def build() -> None:
    """Make what is missing, and ours anew where the code changed."""
    (folder() / "images").mkdir(parents=True, exist_ok=True)
    if not _there(_BASE):
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch, "base.tar")
            command = ["mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm"]
            _run(*command, str(tree))
            # Debian's pip otherwise refuses to install beside Debian's packages.
            variables = f"PIP_BREAK_SYSTEM_PACKAGES=1 SSL_CERT_FILE={_CERTIFICATES}"
            lines = ["FROM scratch", "ADD base.tar /", f"ENV {variables}"]
            _build(_BASE, lines, Path(scratch))
    for name, archive in archives().items():
        if name == _OURS:
            _run(
                "buildah",
                "build",
                "--isolation=chroot",
                "--layers",
                f"--build-arg=BASE={_BASE}",
                "--volume=/etc/ssl/certs:/etc/ssl/certs:ro",
                "--tag",
                name,
                f"--file={ROOT / 'images' / 'serve.Containerfile'}",
                str(ROOT),
            )
            _save(name, archive)
        elif not archive.is_file():
            if name == PAUSE:
                _build(name, [f"FROM {_BASE}", 'ENTRYPOINT ["sleep", "infinity"]'], ROOT / "tests")
            else:
                binary = Path(program(archive.stem))
                lines = [
                    f"FROM {_BASE}",
                    f"COPY {binary.name} /program",
                    "USER 65532",
                    'ENTRYPOINT ["/program"]',
                ]
                _build(name, lines, binary.parent)
            _save(name, archive)


def _archive(name: str) -> Path:
    return folder() / "images" / f"{name.rpartition('/')[2].partition(':')[0]}.tar"


def _there(name: str) -> bool:
    command = ["buildah", "inspect", "--type=image", name]
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _build(name: str, lines: list[str], context: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".Containerfile") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        _run(
            "buildah",
            "build",
            "--isolation=chroot",
            f"--file={file.name}",
            "--tag",
            name,
            "--ignorefile=/dev/null",
            str(context),
        )


def _save(name: str, archive: Path) -> None:
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    _run("buildah", "push", "--quiet", name, f"docker-archive:{partial}:{name}")
    partial.rename(archive)


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {(ran.stdout + ran.stderr)[-3000:]}")


if __name__ == "__main__":
    build()
    print("\n".join(map(str, archives().values())))
