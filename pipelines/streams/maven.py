"""Jars that Maven fetches once, into a folder of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from foundation.errors import ConfigurationError, InvalidInput

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>gearshift</groupId><artifactId>jars</artifactId>
<version>1</version><packaging>pom</packaging><dependencies><dependency>
<groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>
</dependency></dependencies></project>
"""


def cache(name: str, version: str) -> Path:
    """Folder of a program's files, or where they will lie."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gearshift" / name / version


def fetch_jars(group: str, artifact: str, version: str, folder: Path) -> None:
    """Fetch an artifact and what it needs; the folder appears whole or not at all.

    Raises:
        ConfigurationError: Java or Maven is not installed.
        InvalidInput: Maven cannot fetch them.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise ConfigurationError(
                f"{artifact} needs {program}; install Java 17 or newer and Maven, or name a "
                "running broker with --bootstrap"
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        (Path(work) / "pom.xml").write_text(_POM.format(group, artifact, version), "utf-8")
        wanted = ("-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars")
        ran = subprocess.run(
            ["mvn", *wanted], cwd=work, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            last = (ran.stdout.strip() or "no output").splitlines()[-1]
            raise InvalidInput(f"Maven cannot fetch {artifact} {version}: {last[:300]}")
        shutil.rmtree(folder, ignore_errors=True)
        (Path(work) / "jars").rename(folder)
