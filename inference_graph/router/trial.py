"""A policy that was sent is loaded and tried in a process of its own before it may decide.

Whatever it does there, taking all memory or all time or ending the process, it does to that
process alone, which has limits of all three.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_transformer.observation import OBSERVATION_SIZE
from foundation.errors import GearshiftError, ModelError, SchemaMismatch
from inference_graph.router.policy import Policy

SENT = Path("the policy sent")
"""Stands in messages where a policy that was read from a disk has its path."""
_KINDS: dict[str, type[GearshiftError]] = {"SchemaMismatch": SchemaMismatch}
_DECISIONS = 3
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True)
class TrialLimits:
    """What a trial may take.

    Attributes:
        seconds: of wall time, the start of the process included.
        cpu_seconds: of processor time, likewise.
        memory_bytes: of data.
        decision_seconds: of processor time for one decision; the project's own take half a
            millisecond.
    """

    seconds: float = 60.0
    cpu_seconds: int = 15
    memory_bytes: int = 384 * 1024 * 1024
    decision_seconds: float = 0.1


class Trials:
    """Tries policies, one at a time; :meth:`stop` ends the one at work."""

    def __init__(self, limits: TrialLimits | None = None) -> None:
        """Nothing is started yet."""
        self._limits = limits or TrialLimits()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def try_out(self, data: bytes) -> None:
        """Return if a policy can be loaded and decides within the limits.

        Args:
            data: the ONNX file.

        Raises:
            SchemaMismatch: made for another observation schema or another ladder.
            ModelError: no policy, or one that takes too much; names what.
        """
        with self._lock:
            if self._stopped:
                raise ModelError(f"{SENT} was not tried, for the gateway ends; send it again")
            self._process = process = subprocess.Popen(
                (sys.executable, "-m", __name__, json.dumps(vars(self._limits))),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | _ONE_THREAD,
            )
        try:
            output, _ = process.communicate(data, timeout=self._limits.seconds)
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"{SENT} was not loaded and tried within {self._limits.seconds:g} s, so it is "
                "refused; export it again"
            ) from error
        finally:
            process.kill()
            process.wait()
            self._process = None
        if process.returncode == 0:
            return
        try:
            found = json.loads(output)
            kind, detail = _KINDS.get(found["kind"], ModelError), str(found["detail"])
        except (ValueError, KeyError, TypeError):
            raise ModelError(
                f"{SENT} ended the process that tried it ({_ending(process.returncode)}), so it "
                "is refused; export it again"
            ) from None
        raise kind(detail)

    def stop(self) -> None:
        """End the trial at work, and begin no other."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            process.kill()


def _ending(code: int) -> str:
    if code == -signal.SIGXCPU:
        return "it took too much time"
    if code < 0:
        return f"by {signal.Signals(-code).name}"
    return "it took too much memory, or failed"


def _limit(limits: TrialLimits) -> None:
    """Bound this process; and the kernel shall rather end it than its parent."""
    memory, cpu = limits.memory_bytes, limits.cpu_seconds
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _try(data: bytes, limits: TrialLimits) -> None:
    policy = Policy(SENT, data=data)
    generator = np.random.default_rng(0)
    observations = generator.random((_DECISIONS, 1, OBSERVATION_SIZE), np.float32)
    start = time.process_time()
    for observation in observations:
        policy.decide(observation)
    spent = (time.process_time() - start) / _DECISIONS
    if spent > limits.decision_seconds:
        raise ModelError(
            f"{SENT} takes {spent:.2g} s for a decision; {limits.decision_seconds:g} are allowed, "
            "train a smaller one"
        )


def _main() -> int:
    limits = TrialLimits(**json.loads(sys.argv[1]))
    _limit(limits)
    try:
        _try(sys.stdin.buffer.read(), limits)
    except GearshiftError as error:
        print(json.dumps({"kind": type(error).__name__, "detail": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
