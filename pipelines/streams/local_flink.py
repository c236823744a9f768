"""Apache Flink's mini cluster on this machine, with the job that prepares frames.

``python -m pipelines.streams.local_flink`` makes its environment, once, in
``~/.cache/gearshift/flink``: PyFlink in a virtual environment of its own, since its dependencies do
not fit the rest, and the Kafka connector's jar.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from foundation.errors import ConfigurationError, InvalidInput
from pipelines.streams.maven import cache, fetch_jars

ROOT = Path(__file__).resolve().parents[2]
_REQUIREMENTS = ROOT / "flink" / "requirements"
_CONNECTOR = ("org.apache.flink", "flink-sql-connector-kafka", "5.0.0-2.2")
_SMALL = "-Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def folder() -> Path:
    """Where the environment is, or will be: another one for other requirements."""
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    return cache("flink", digest[:12])


def is_installed() -> bool:
    """Whether the job can be started without fetching anything."""
    return shutil.which("java") is not None and (folder() / "complete").is_file()


def install() -> Path:
    """Make the environment where it is not there.

    Raises:
        ConfigurationError: Java or Maven is not installed, or this Python is too new for PyFlink.
        InvalidInput: something cannot be fetched.
    """
    place = folder()
    if is_installed():
        return place
    if sys.version_info >= (3, 13):
        raise ConfigurationError("PyFlink has no build for Python 3.13; run this with Python 3.11")
    shutil.rmtree(place, ignore_errors=True)
    fetch_jars(*_CONNECTOR, place / "jars")
    python = place / "env" / "bin" / "python"
    steps = (
        [sys.executable, "-m", "venv", str(place / "env")],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(_REQUIREMENTS)],
    )
    for step in steps:
        ran = subprocess.run(step, capture_output=True, text=True, check=False)
        if ran.returncode:
            last = (ran.stderr.strip() or "no output").splitlines()[-1]
            raise InvalidInput(f"PyFlink cannot be installed in {place}: {last[:300]}")
    (place / "complete").touch()
    return place


def start_job(
    options: Mapping[str, object], log: Path, task_processes: bool = False
) -> subprocess.Popen[bytes]:
    """Start the job in a mini cluster of its own process; end it with SIGTERM.

    Started again with the same ``checkpoints``, it goes on where the last one ended.

    Args:
        options: of ``python -m flink.job``, by name.
        log: file that takes what it prints; Flink's own log lies beside it.
        task_processes: run tasks in processes of their own, as a cluster does.

    Raises:
        ConfigurationError: Java or Maven is not installed.
        InvalidInput: its environment cannot be made.
    """
    place = install()
    (jar,) = (place / "jars").glob("*.jar")
    given = {"jar": jar, **options}
    command = [str(place / "env" / "bin" / "python"), "-m", "flink.job"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'transformers'}",
        "JAVA_TOOL_OPTIONS": _SMALL,
        "FLINK_LOG_DIR": str(log.parent.resolve()),
        "_python_worker_execution_mode": "process" if task_processes else "loopback",
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)


if __name__ == "__main__":
    if "--cached" in sys.argv:
        sys.exit(0 if is_installed() else 1)
    print(install())
