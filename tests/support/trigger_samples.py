"""Triggers, logs and a Kubeflow of the tests' own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from json_server import JsonHandler, json_server

from inference_graph.control.triggers.config import Launch, Limits, Rule, TriggersConfig
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def python(code: str) -> tuple[str, ...]:
    """A command that runs this."""
    return (sys.executable, "-c", code)


def config(
    folder: Path, *rules: Rule, command: Sequence[str] = ("true",), **more: Any
) -> TriggersConfig:
    given: dict[str, Any] = {
        "launch": Launch(tuple(command)),
        "rules": rules,
        "log": str(folder / "log"),
        "drift": folder / "drift",
        "feedback": folder / "decisions.jsonl",
        "state": folder / "state",
        "limits": Limits(cooldown_hours=0, per_day=100),
    }
    return TriggersConfig(**(given | more))


def row(number: int, **fields: Any) -> PredictionRow:
    given: dict[str, Any] = {
        "event_id": f"e{number}",
        "time": NOON,
        "source": "stream",
        "session": "s",
        "answered_by": "nano",
        "rung": "nano",
        "total_ms": 10.0,
    }
    return PredictionRow(**(given | fields))


def write_log(folder: Path, rows: Sequence[PredictionRow]) -> None:
    with PredictionLog(LogConfig(str(folder / "log"))) as log:
        for one in rows:
            log.append(one)


@dataclass
class Kubeflow:
    """A stand-in of Kubeflow Pipelines' API server, as far as runs go."""

    url: str = ""
    states: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    """What a run is, one for each time somebody asks; the last one stays."""
    refuse: int = 0
    created: list[dict[str, Any]] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)


@contextmanager
def kubeflow() -> Iterator[Kubeflow]:
    state = Kubeflow()

    class Handler(JsonHandler):
        def do_POST(self) -> None:  # noqa: N802 # http.server's own name
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.tokens.append(self.headers.get("authorization", ""))
            if state.refuse:
                self.answer({"error": "no such pipeline", "code": 5}, state.refuse)
            elif self.path == "/apis/v2beta1/experiments":
                state.experiments.append(body | {"experiment_id": f"e{len(state.experiments)}"})
                self.answer(state.experiments[-1])
            elif self.path == "/apis/v2beta1/runs":
                state.created.append(body)
                run_id = f"run-{len(state.created)}"
                self.answer({"run_id": run_id, "state": "PENDING", **body})
            else:
                state.terminated.append(self.path)
                self.answer({})

        def do_GET(self) -> None:  # noqa: N802 # http.server's own name
            if self.path.startswith("/apis/v2beta1/experiments?"):
                query = parse_qs(urlsplit(self.path).query)
                (asked,) = json.loads(query["filter"][0])["predicates"]
                space = query.get("namespace", [""])[0]
                self.answer(
                    {
                        "experiments": [
                            one
                            for one in state.experiments
                            if one["display_name"] == asked["string_value"]
                            and one.get("namespace", "") == space
                        ]
                    }
                )
                return
            word = state.states.pop(0) if len(state.states) > 1 else state.states[0]
            body: dict[str, Any] = {"run_id": self.path.rpartition("/")[2], "state": word}
            if word == "FAILED":
                body["error"] = {"code": 13, "message": "the step clone failed"}
            self.answer(body)

    with json_server(Handler) as state.url:
        yield state
