"""Stream sessions become MLflow runs while the platform runs, and once more when it has stopped."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from foundation.errors import GearshiftError
from inference_graph.prediction_log.session_files import session_names

_log = logging.getLogger(__name__)

_LAST_SECONDS = 60.0
"""The end waits so long for the last sessions; MLflow's first use of a database takes a while."""
_PATIENT_SECONDS = 2.0
"""An end that takes longer logs what it waits for."""


class SessionRecorder:
    """Looks for finished sessions every few seconds, on a thread that nothing waits for.

    Use it as a context manager around the platform: with its end come the sessions that only the
    gateway's end finished. MLflow is imported with the first session. What fails is reported and
    tried again; a recording that was cut short is finished by the next one, or by
    `gearshift sessions`.
    """

    def __init__(
        self,
        log_url: str,
        tracking_uri: str,
        experiment: str,
        report: Callable[[str], None],
        every_seconds: float = 5.0,
        last_seconds: float = _LAST_SECONDS,
    ) -> None:
        """Prepare a recorder; it does nothing before :meth:`start`.

        Args:
            log_url: folder or bucket of the prediction log.
            tracking_uri: MLflow's tracking URI.
            experiment: MLflow experiment of the runs.
            report: called with what was recorded and what failed, from the recorder's thread.
            every_seconds: pause between two looks.
            last_seconds: how long the end waits for the last look.
        """
        self._log_url = log_url
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._report = report
        self._every_seconds = every_seconds
        self._last_seconds = last_seconds
        self._recorded: set[str] = set()
        self._failure = ""
        self._ending = threading.Event()
        # A server that hangs must not keep the command from ending, so it is not joined for ever.
        self._thread = threading.Thread(target=self._run, name="sessions", daemon=True)

    def __enter__(self) -> SessionRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        """Look once more, and wait for that; nothing is raised."""
        if not self._thread.is_alive():
            return
        self._ending.set()
        self._thread.join(_PATIENT_SECONDS)
        if self._thread.is_alive():
            self._report("recording the last sessions in MLflow")
            self._thread.join(self._last_seconds)
        if self._thread.is_alive():
            self._report(f"warning: MLflow took too long for the last sessions; {self._later()}")

    def start(self) -> None:
        """Begin to look; call it when the platform is up, whose start needs the cores."""
        self._thread.start()

    def _run(self) -> None:
        # Whoever waits here asks again soon; MLflow's own retries would hide a dead server for
        # minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        while not self._ending.wait(self._every_seconds):
            self._look()
        self._look()
        if self._failure:
            self._report(f"warning: the last sessions are not in MLflow; {self._later()}")

    def _look(self) -> None:
        try:
            recorded = self._record()
        except GearshiftError as error:
            self._fail(str(error))
        except Exception as error:
            # MLflow's stores raise what their drivers raise; streams go on without their runs.
            _log.exception("stream sessions could not be recorded")
            self._fail(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}")
        else:
            self._failure = ""
            if recorded:
                runs = "1 stream session" if recorded == 1 else f"{recorded} stream sessions"
                self._report(
                    f"recorded {runs} as MLflow runs of {self._experiment} at {self._tracking_uri}"
                )

    def _record(self) -> int:
        names = session_names(self._log_url)
        if names <= self._recorded:
            return 0
        from components.evaluation.stream_sessions import record_sessions  # imports MLflow

        # The store's notes on its tables would run through the live table.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        recorded = record_sessions(self._log_url, self._tracking_uri, self._experiment)
        self._recorded |= names
        return recorded

    def _fail(self, reason: str) -> None:
        if reason != self._failure:
            self._report(f"warning: sessions are not recorded now: {reason}")
        self._failure = reason

    def _later(self) -> str:
        return (
            f"`gearshift sessions --log {self._log_url} --tracking-uri {self._tracking_uri}` "
            "records them"
        )
