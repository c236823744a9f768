"""The process of a task of Flink's is the one that is killed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from foundation.errors import Unavailable
from pipelines.streams.bench_kills import kill_task

SLEEP = "import time; time.sleep(60)"
JOB = f"""
import subprocess, sys
tasks = [subprocess.Popen([sys.executable, "-c", {SLEEP!r}, *words])
         for words in (["pyflink.fn_execution.beam"], ["other"], ["pyflink.fn_execution.beam"])]
print("started", flush=True)
tasks[2].wait()
print([one.poll() for one in tasks], flush=True)
for one in tasks: one.kill()
"""


def test_the_newest_task_of_a_job_is_killed_and_nothing_else() -> None:
    with subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE) as job:
        assert job.stdout is not None and job.stdout.readline() == b"started\n"
        kill_task(job)
        assert job.stdout.readline() == b"[None, None, -9]\n"
    with pytest.raises(Unavailable, match="Flink's job ended"):
        kill_task(job)
