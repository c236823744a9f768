"""What the terminal shows of the platform while it runs, and of a stream while it is sent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.live import Live

from components.tracking import database_beside
from foundation.command_line import read_pairs
from inference_graph.clients.gateway import StreamOptions, StreamSummary, stream_video
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.platform import Platform
from inference_graph.control.embedded.running import only_platform
from inference_graph.control.embedded.status import status_table
from inference_graph.control.embedded.supervisor import ServiceState
from pipelines.cli.answers_file import answers_file
from pipelines.cli.console import note, notes, progress_bar
from pipelines.cli.interrupts import until_interrupted
from pipelines.experiments.session_recorder import SessionRecorder
from pipelines.retraining.trigger_watch import TriggerWatch
from pipelines.rollout import FOLDER, RolloutWatch


@dataclass(frozen=True)
class PlatformOptions(UpConfig):
    """What is started, and where its sessions are recorded; see UpConfig for the rest.

    Attributes:
        tracking_uri: MLflow's tracking URI, where every stream session becomes a run; empty means
            `mlflow.db` in the folder around the state folder, which all runs share.
        experiment: MLflow experiment of those runs; empty records none.
    """

    tracking_uri: str = ""
    experiment: str = "gearshift-sessions"


def run_platform(options: PlatformOptions, as_json: bool = False) -> None:
    """Run everything on this machine until it is interrupted or stopped.

    Args:
        options: what is started.
        as_json: print the addresses as one JSON object as soon as everything answers.

    Raises:
        GateRefused: another platform runs on the state folder, or a port is in use.
        ConfigurationError: no such overlay, or one that cannot run here.
        InvalidInput: the policy or a rung's weights are missing.
        Unavailable: a service ended while starting, or took too long.
    """
    with contextlib.ExitStack() as stack:
        note_gateway = stack.enter_context(only_platform(options.state))
        platform = Platform(options)
        note_gateway(platform.gateway)
        rollouts = RolloutWatch(
            options.state / FOLDER, platform.log_url, platform.rollouts, note, platform.audit
        )
        beside: list[SessionRecorder | TriggerWatch] = []
        if options.experiment.strip():
            tracking_uri = options.tracking_uri or database_beside(options.state)
            beside.append(SessionRecorder(platform.log_url, tracking_uri, options.experiment, note))
        if platform.triggers is not None:
            beside.append(TriggerWatch(platform.triggers, options.triggers_seconds, note))
        # The gateway's end finishes the sessions that are open, so the recorder ends after it.
        for one in beside:
            stack.enter_context(one)
        stack.enter_context(platform)
        stack.enter_context(rollouts)  # and ends before what it moves
        stack.callback(note, "stopping: streams get their last answers, then every service ends")

        def start() -> None:
            for one in beside:
                one.start()
            rollouts.start()

        watch(platform, as_json, start)


def watch(
    platform: Platform, as_json: bool = False, on_up: Callable[[], None] = lambda: None
) -> None:
    """Start the platform and show how it is until it is interrupted or stopped.

    Args:
        platform: entered, not started.
        as_json: print the addresses as one JSON object as soon as everything answers.
        on_up: called when everything answers.

    Raises:
        Unavailable: a service ended while starting, or took too long.
    """
    with contextlib.suppress(KeyboardInterrupt), until_interrupted() as ending, _table() as show:
        platform.start(show)
        if as_json:
            addresses = {"gateway": platform.gateway, "graph": platform.graph}
            addresses_shown = addresses | {"rungs": platform.rungs, "log": platform.log_url}
            if platform.prometheus is not None:
                addresses_shown["prometheus"] = platform.prometheus
            print(json.dumps(addresses_shown), flush=True)
        on_up()
        notes.print(f"gateway {platform.gateway} (docs at /docs), graph {platform.graph}")
        while not ending.is_set():
            show(platform.states())
            ending.wait(1.0)


def stream_to(
    source: str,
    url: str,
    token: str | None,
    options: StreamOptions,
    tags: Sequence[str],
    answers: Path | None,
) -> StreamSummary:
    """Stream a source to a gateway with a bar, and keep the answers.

    Args:
        source: file, camera number or URL.
        url: of the gateway.
        token: access token.
        options: how to send.
        tags: ``NAME=VALUE`` texts.
        answers: file for one JSON object per message; none is written without it.

    Raises:
        ConfigurationError: a tag without ``=`` or a side of it, or a name given twice.
        VideoError: the source cannot be opened.
        Unavailable: no server answers at the URL.
    """
    pairs = read_pairs(tags, "tag")
    with contextlib.ExitStack() as stack:
        move = stack.enter_context(progress_bar("frames"))
        keep = stack.enter_context(answers_file(answers, note)) if answers is not None else None
        done = 0

        def on_message(message: Mapping[str, Any]) -> None:
            nonlocal done
            done += len(message["frames"]) if message["type"] == "dropped" else 1
            move(done, None)
            if keep is not None:
                keep(json.dumps(message))

        return stream_video(source, url, token, on_message, options, pairs)


class _Lines:
    """Without a terminal: a line whenever a service's state changes."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def __call__(self, states: Sequence[ServiceState]) -> None:
        for one in states:
            if self._before.get(one.name) != one.state:
                notes.print(f"{one.name}: {one.state} {one.address}")
        self._before = {one.name: one.state for one in states}


@contextlib.contextmanager
def _table() -> Iterator[Any]:
    """Yields what shows the states: a live table in a terminal, else lines."""
    if not notes.is_terminal:
        yield _Lines()
        return
    with Live(console=notes, auto_refresh=False) as live:
        yield lambda states: live.update(status_table(states), refresh=True)
