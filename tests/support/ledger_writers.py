"""Five processes that write to one ledger: four like command lines, and the API's server.

Started as a program of its own, because it forks: ``python ledger_writers.py FOLDER MLFLOW_DB``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from experiment_samples import CONTRACT
from fastapi.testclient import TestClient
from launch_samples import Pipeline, ledger_in

from components.experiments.ledger import LedgerConfig
from pipelines.experiments.api import ExperimentsApiConfig, build_app
from pipelines.experiments.launch import seal_launch
from pipelines.experiments.schema import open_ledger

EXPERIMENTS, LAUNCHES = 20, 5
"""Records of each process."""
NAMES = ("a", "b", "c", "d", "web")


def command_lines(config: LedgerConfig, name: str) -> None:
    """What so many commands do, each of which opens the ledger anew."""
    for number in range(EXPERIMENTS):
        ledger = open_ledger(config)
        ledger.new(f"{name}-{number}", "base", contract=CONTRACT)
        if number < LAUNCHES:
            seal_launch(ledger, "base")
        ledger.close()


def server(config: LedgerConfig, name: str) -> None:
    """The same over HTTP."""
    served = ExperimentsApiConfig(config.experiments, config.ledger, open_access=True)
    promise = {"objective": "o", "hypothesis": "h", "expected": "retained > 0"}
    with TestClient(build_app(served), base_url="http://127.0.0.1") as client:
        for number in range(EXPERIMENTS):
            body = {"name": f"{name}-{number}", "extends": "base", "contract": promise}
            answer = client.post("/v1/experiments", json=body)
            assert answer.status_code == 201, answer.text
            if number < LAUNCHES:
                answer = client.post("/v1/experiments/base/launches")
                assert answer.status_code == 202, answer.text


def write_at_once(folder: Path, mlflow: Path) -> int:
    """How many of the processes failed; their tracebacks go to standard error."""
    first = ledger_in(folder, mlflow)
    first.close()
    pipeline, fork = Pipeline(), multiprocessing.get_context("fork")
    start = fork.Barrier(len(NAMES))

    def begin(work: Callable[[LedgerConfig, str], None], name: str) -> None:
        code = 1
        try:
            start.wait()
            work(first.config, name)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    with (
        mock.patch("pipelines.experiments.schema.experiment_schema", first._make_schema),
        mock.patch("pipelines.experiments.launch.inputs_here", pipeline.inputs),
        mock.patch("pipelines.experiments.api_launches.start_worker"),
    ):
        writers = [
            fork.Process(target=begin, args=(server if name == "web" else command_lines, name))
            for name in NAMES
        ]
        for one in writers:
            one.start()
        for one in writers:
            one.join()
    return sum(one.exitcode != 0 for one in writers)


if __name__ == "__main__":
    with mock.patch("components.experiments.ledger.SHIPPED", Path(sys.argv[1]) / "none"):
        sys.exit(write_at_once(Path(sys.argv[1]), Path(sys.argv[2])))
