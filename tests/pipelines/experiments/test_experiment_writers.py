"""Several processes write to one ledger: command lines, and the API's server."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from experiment_samples import CONTRACT
from fastapi.testclient import TestClient
from launch_samples import Pipeline, ledger_in

from components.experiments.journal import read_journal
from components.experiments.ledger import LedgerConfig
from components.experiments.verify import verify
from pipelines.experiments.api import ExperimentsApiConfig, build_app
from pipelines.experiments.launch import seal_launch
from pipelines.experiments.schema import open_ledger

EXPERIMENTS, LAUNCHES = 20, 5
"""Records of each process."""


def command_lines(config: LedgerConfig, name: str) -> None:
    for number in range(EXPERIMENTS):
        ledger = open_ledger(config)  # as each command does
        ledger.new(f"{name}-{number}", "base", contract=CONTRACT)
        if number < LAUNCHES:
            seal_launch(ledger, "base")
        ledger.close()


def server(config: LedgerConfig, name: str) -> None:
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


@pytest.mark.slow
def test_no_record_of_five_writers_is_lost_or_doubled(
    tmp_path: Path, pipeline: Pipeline, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ledger_in(tmp_path, empty_mlflow)
    first.close()
    monkeypatch.setattr("pipelines.experiments.schema.experiment_schema", first._make_schema)
    monkeypatch.setattr("pipelines.experiments.api_launches.start_worker", lambda ledger: None)
    processes = multiprocessing.get_context("fork")
    start = processes.Barrier(5)

    def begin(work: Callable[[LedgerConfig, str], None], name: str) -> None:
        code = 1
        try:
            start.wait()
            work(first.config, name)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    writers = [
        processes.Process(target=begin, args=(server if name == "web" else command_lines, name))
        for name in ("a", "b", "c", "d", "web")
    ]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [one.exitcode for one in writers] == [0] * 5
    ledger = open_ledger(first.config)
    mine = Counter(name.rpartition("-")[0] for name in ledger.known if "-" in name)
    assert mine == dict.fromkeys(("a", "b", "c", "d", "web"), EXPERIMENTS)
    expected = {f"base.{number}" for number in range(1, 5 * LAUNCHES + 1)}
    kept = [
        [one.attempt for one in read_journal(ledger.folder)],  # every link checked
        [one.attempt for one in ledger.index.attempts()],
        [one.attempt for one in ledger.records.all()],
    ]
    for names in kept:
        assert len(names) == len(expected) and set(names) == expected
    assert {one.verdict for one in verify(ledger, ledger.index.attempts())} == {"intact"}
    ledger.close()
