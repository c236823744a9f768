"""A rung is killed while a stream runs: what the stream's client sees of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from components.bench.serving.clips import EncodedClip, endless
from components.bench.serving.turns import Turn, turns
from components.parallel import Progress
from foundation.errors import Unavailable
from foundation.event_loop import run
from inference_graph.clients.gateway import StreamOptions
from inference_graph.contract import LADDER
from inference_graph.control.embedded.platform import Platform
from inference_graph.control.embedded.supervisor import READY

_KILL_AT = 0.2
"""Share of the stream's frames after which the rung is killed."""
_LONGEST_RECOVERY = 60.0
_POLL_SECONDS = 0.05


@dataclass
class _Watched:
    """A stream that goes on in a thread of its own.

    Attributes:
        turns: answers so far, with the time at which each came.
        stop: set when it shall end.
        failure: why it ended by itself.
    """

    turns: list[tuple[float, Turn]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None


def kill_rungs(
    platform: Platform,
    gateway_to: Callable[[str], AbstractContextManager[str]],
    clips: Sequence[EncodedClip],
    frames: int,
    deadline_ms: float,
    progress: Progress,
) -> dict[str, Any]:
    """Kill every rung once, each in a stream of its own.

    Every frame of the stream is the killed rung's. It goes on beyond its frames until the rung has
    come back and answers again.

    Args:
        platform: runs, and starts again what falls.
        gateway_to: starts a gateway that sends every frame to a rung, and gives its URL.
        clips: what is streamed, again and again.
        frames: length of each stream.
        deadline_ms: of its frames.
        progress: called with rungs done and in all.

    Returns:
        ``kill_answers``, ``kill_late_ms``, ``kill_recovery_s``, the worst of the rungs, and
        ``detail`` by rung.

    Raises:
        Unavailable: the stream broke, or the rung does not come back.
    """
    detail = {}
    for place, rung in enumerate(LADDER):
        with gateway_to(rung) as url:
            detail[rung] = _kill(platform, url, rung, clips, frames, deadline_ms)
        progress(place + 1, len(LADDER))
    rows = detail.values()
    return {
        "kill_answers": min(row["answers"] for row in rows),
        "kill_late_ms": max(row["late_ms"] for row in rows),
        "kill_recovery_s": max(row["recovery_s"] for row in rows),
        "detail": detail,
    }


def _kill(
    platform: Platform,
    url: str,
    rung: str,
    clips: Sequence[EncodedClip],
    frames: int,
    deadline_ms: float,
) -> dict[str, float]:
    watched = _Watched()
    thread = threading.Thread(target=_stream, args=(url, clips, deadline_ms, watched), daemon=True)
    thread.start()
    try:
        _wait(watched, lambda: len(watched.turns) >= frames * _KILL_AT)
        pid = _pid(platform, rung)
        os.kill(pid, signal.SIGKILL)
        killed_after, killed_at = len(watched.turns), time.monotonic()

        def back() -> bool:
            states = {one.name: one for one in platform.states()}
            return states[rung].state == READY and states[rung].pid != pid

        _wait(watched, back)
        back_at = time.monotonic()
        used_at: list[float] = []

        def used() -> bool:
            platform.states()
            used_at[:] = [
                at
                for at, turn in watched.turns[killed_after:]
                if at > back_at and turn.answered and turn.message["answered_by"] == rung
            ]
            return bool(used_at)

        _wait(watched, used)
        _wait(watched, lambda: len(watched.turns) >= frames)
    finally:
        watched.stop.set()
        thread.join()
    turns_of_stream = [turn for _, turn in watched.turns[:frames]]
    return {
        **seen_of_kill(turns_of_stream, killed_after, deadline_ms),
        "down_s": back_at - killed_at,
        "recovery_s": used_at[0] - back_at,
    }


def seen_of_kill(stream: Sequence[Turn], killed_after: int, deadline_ms: float) -> dict[str, float]:
    """What a client sees of a rung that is killed during its stream.

    Args:
        stream: its frames, each with the answer or the error it got.
        killed_after: how many of them had had theirs when the rung was killed.
        deadline_ms: of every frame.

    Returns:
        ``answers``; ``late_ms``, the slowest answer's milliseconds beyond the deadline, of those
        after the first that can have met the fault; ``first_ms``, that first one's; ``fallbacks``.
    """
    after = [turn.milliseconds for turn in stream[killed_after:]]
    answers = [turn for turn in stream if turn.answered]
    return {
        "answers": len(answers),
        "late_ms": max(after[1:], default=0.0) - deadline_ms,
        "first_ms": after[0] if after else 0.0,
        "fallbacks": sum(bool(turn.message["fallback"]) for turn in answers),
    }


def _stream(url: str, clips: Sequence[EncodedClip], deadline_ms: float, watched: _Watched) -> None:
    async def stream() -> None:
        async with turns(url, StreamOptions(deadline_ms=deadline_ms)) as open_stream:
            for frame in endless(clips):
                if watched.stop.is_set():
                    return
                turn = await open_stream.ask(frame)
                watched.turns.append((time.monotonic(), turn))

    try:
        run(stream())
    except BaseException as error:  # raised in the thread that waits
        watched.failure = error


def _wait(watched: _Watched, until: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _LONGEST_RECOVERY
    while not until():
        if watched.failure is not None:
            raise Unavailable(f"the stream broke: {watched.failure}") from watched.failure
        if time.monotonic() > give_up:
            raise Unavailable(
                f"after {_LONGEST_RECOVERY:.0f} s the stream is not further than "
                f"{len(watched.turns)} answers, or the killed rung is not used again"
            )
        time.sleep(_POLL_SECONDS)


def _pid(platform: Platform, rung: str) -> int:
    pid = next(one.pid for one in platform.states() if one.name == rung)
    if pid is None:
        raise Unavailable(f"{rung} does not run; its log says why")
    return pid
