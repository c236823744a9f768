"""What the gateway asks for detections: a detector service, or the same detector in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from feature_transformer.image import Frame
from foundation.errors import DeadlineExceeded
from inference_graph.contract import Answer
from inference_graph.detector.rung import DetectorConfig
from inference_graph.detector.wire import DetectorFacts
from inference_graph.gateway.targets import read_target
from inference_graph.tasks.rung import Rung, open_rung_file

LOCAL_SUFFIXES = (".onnx", ".json")
"""A target that ends so is a rung's file, every other one a service."""


class AsyncRung(Protocol):
    """One detector, wherever it runs."""

    async def facts(self) -> DetectorFacts:
        """Its classes and input size.

        Raises:
            Unavailable: it does not answer.
        """
        ...

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        """Find objects.

        Args:
            frame: uint8 [height, width, 3], BGR.
            timeout: seconds it may take.
            frame_id: for the detector's own log.

        Raises:
            Unavailable: it does not answer; ``DeadlineExceeded`` when it answers too late.
            InvalidInput: it refuses the frame.
            ModelError: its runtime failed.
        """
        ...

    async def ready(self) -> bool:
        """Whether it is ready to answer."""
        ...

    async def close(self) -> None:
        """Close it."""
        ...


class LocalRung:
    """A detector in this process, one frame at a time on a thread of its own."""

    def __init__(self, detector: Rung) -> None:
        """Serve a loaded detector."""
        self._detector = detector
        self._thread = ThreadPoolExecutor(1, f"rung-{detector.config.rung}")

    async def facts(self) -> DetectorFacts:
        """See :class:`AsyncRung`."""
        detector = self._detector
        return DetectorFacts(
            class_names=detector.class_names,
            category_ids=detector.category_ids,
            input_size=detector.input_size,
            revision=detector.revision,
        )

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        """See :class:`AsyncRung`; a frame whose time passes while it waits is not looked at."""
        asked = time.perf_counter()
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._look, frame, asked)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{self._detector.config.rung} did not answer within {timeout * 1e3:.0f} ms"
            ) from error

    async def ready(self) -> bool:
        """Always ready: the detector is loaded."""
        return True

    async def close(self) -> None:
        """Let the frame in work end, and forget those that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self, frame: Frame, asked: float) -> Answer:
        queue = (time.perf_counter() - asked) * 1e3
        answer = self._detector.detect(frame)
        milliseconds = {**answer.milliseconds, "queue": queue}
        return Answer(answer.detections, milliseconds, answer.rung, answer.revision)


def open_rungs(targets: Mapping[str, str], trust: Path | None = None) -> dict[str, AsyncRung]:
    """A rung for each target; call it where the event loop runs.

    Args:
        targets: for every rung its gRPC service, see :func:`read_target`, or its weights, an ONNX
            file.
        trust: trust file for those weights; not checked without it.

    Raises:
        ConfigurationError: a target that is neither.
        ModelError: weights that cannot be used.
    """
    return {rung: open_rung(rung, target, trust=trust) for rung, target in targets.items()}


def open_rung(rung: str, target: str, threads: int = 2, trust: Path | None = None) -> AsyncRung:
    """One of them; raises as :func:`open_rungs`."""
    if target.endswith(LOCAL_SUFFIXES):
        return LocalRung(
            open_rung_file(DetectorConfig(Path(target), rung, threads=threads, trust=trust))
        )
    service = read_target(rung, target)
    # gRPC is loaded only where a service is asked.
    from inference_graph.detector.client import RungClient

    return RungClient(rung, service.address, model=service.model)
