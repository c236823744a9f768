"""One rung as the gateway sees it: whether it is trusted, how busy it is, what its classes are."""

from __future__ import annotations

import asyncio
import logging
import time

import numpy as np

from feature_transformer.image import Frame
from foundation.errors import (
    DeadlineExceeded,
    GearshiftError,
    InvalidInput,
    ModelError,
    Unavailable,
)
from inference_graph.contract import Answer
from inference_graph.detector.wire import DetectorFacts
from inference_graph.gateway.breaker import Breaker
from inference_graph.gateway.rungs import AsyncRung

_log = logging.getLogger(__name__)

_SMOOTHING = 0.2
"""Weight of the newest answer in the mean time of a rung."""
_QUEUE_HALF_LIFE = 1.0
"""Seconds after which a wait that a rung reported counts half."""
_PROBE_GREY = 114


class DetectorBackend:
    """The way to one rung.

    Attributes:
        name: the rung.
        rung: who answers.
        breaker: whether frames go there.
        facts: its classes; None until it was seen for the first time.
        waiting: frames asked for and not answered yet.
        holders: frames at work that may still ask it; a backend is let go when there are none.
        service_ms: mean time it works on a frame; None until it answered once.
        answered_at: when it answered last, seconds of ``time.monotonic``.
    """

    def __init__(self, name: str, rung: AsyncRung, failures: int) -> None:
        """A backend that has not been used yet.

        Args:
            name: the rung.
            rung: who answers.
            failures: failures in a row after which it is left alone.
        """
        self.name = name
        self.rung = rung
        self.breaker = Breaker(failures)
        self.facts: DetectorFacts | None = None
        self.waiting = 0
        self.holders = 0
        self.service_ms: float | None = None
        self.answered_at = 0.0
        self._queue_ms = 0.0
        self._queue_seen = 0.0

    async def ask(self, frame: Frame, timeout: float, frame_id: str) -> Answer:
        """Have the rung look at a frame, and update its state by the result.

        Args:
            frame: uint8 [height, width, 3], BGR.
            timeout: seconds.
            frame_id: for the detector's log.

        Raises:
            Unavailable: it failed or was late.
            InvalidInput: it refuses the frame, which does not count as a failure of the rung.
            ModelError: its runtime failed.
        """
        self.waiting += 1
        try:
            answer = await self.rung.detect(frame, timeout, frame_id)
        except InvalidInput:
            raise
        except DeadlineExceeded:
            # Whether it was the rung that was slow or the client in a hurry, the dispatcher knows.
            raise
        except (Unavailable, ModelError) as error:
            self.breaker.failed(str(error))
            raise
        except Exception as error:
            _log.exception("%s failed unexpectedly", self.name)
            self.breaker.failed(f"{type(error).__name__}")
            raise Unavailable(
                f"{self.name} failed ({type(error).__name__}); see the log"
            ) from error
        finally:
            self.waiting -= 1
        self.breaker.succeeded()
        self.answered_at = time.monotonic()
        self._learn(answer)
        return answer

    def expected_wait_ms(self) -> float:
        """Milliseconds a frame asked for now would wait before the rung works on it.

        The frames asked for here count with the mean time of one; what the rung last reported of
        its queue covers the frames of others, and fades.
        """
        own = self.waiting * (self.service_ms or 0.0)
        age = time.monotonic() - self._queue_seen
        return float(max(own, self._queue_ms * 0.5 ** (age / _QUEUE_HALF_LIFE)))

    def fits(self, seconds: float) -> bool:
        """Whether a frame asked for now is likely to be answered within so many seconds."""
        return ((self.service_ms or 0.0) + self.expected_wait_ms()) / 1e3 <= seconds

    async def probe(self, timeout: float) -> bool:
        """Look whether the rung answers, and use it from now on if it does.

        It must report ready and answer for a grey image in time, because a service that is
        stuck accepts connections as well.

        Args:
            timeout: seconds for each of the two.
        """
        self.breaker.probing()
        try:
            async with asyncio.timeout(timeout):
                well = await self.rung.ready()
                if well:
                    # It may have come back with other weights.
                    self.facts = await self.rung.facts()
            if not well or self.facts is None:
                self.breaker.probed(False, "it reports that it is not ready")
                return False
            grey = np.full((*self.facts.input_size, 3), _PROBE_GREY, np.uint8)
            async with asyncio.timeout(timeout):
                self._learn(await self.rung.detect(grey, timeout, "probe"))
        except (TimeoutError, GearshiftError) as error:
            self.breaker.probed(False, str(error) or f"no answer within {timeout:g} s")
            return False
        except Exception as error:
            _log.exception("the probe of %s failed unexpectedly", self.name)
            self.breaker.probed(False, type(error).__name__)
            return False
        except asyncio.CancelledError:
            self.breaker.probed(False, "the probe was given up")
            raise
        self.breaker.probed(True)
        return True

    async def watch(self, pause: float, timeout: float) -> None:
        """Probe the rung whenever its circuit is not closed, for ever.

        Args:
            pause: seconds between probes.
            timeout: seconds of a probe's steps.
        """
        before = True
        while True:
            if not self.breaker.usable:
                well = await self.probe(timeout)
                if well:
                    _log.info("%s answers; it is used", self.name)
                elif before:
                    _log.warning("%s is left alone: %s", self.name, self.breaker.reason)
                before = well
            await asyncio.sleep(pause)

    def _learn(self, answer: Answer) -> None:
        spent = dict(answer.milliseconds)
        self._queue_ms = float(spent.pop("queue", 0.0))
        self._queue_seen = time.monotonic()
        spent.pop("wire", None)
        work = float(sum(spent.values()))
        mean = self.service_ms
        self.service_ms = work if mean is None else mean + _SMOOTHING * (work - mean)
