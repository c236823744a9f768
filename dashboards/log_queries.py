"""Figures of the prediction log, of its parts and of the rows that are in no part yet."""

from __future__ import annotations

from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import SUFFIX
from inference_graph.prediction_log.place import open_place


class LogQueries:
    """An opened log; may be used from several threads."""

    def __init__(self, url: str, memory_rows: int, threads: int) -> None:
        """Look at nothing yet.

        Args:
            url: the log's folder or bucket.
            memory_rows: rows kept in memory, the newest.
            threads: threads that answer queries.

        Raises:
            ConfigurationError: the url is none.
        """
        self.place = open_place(url)
        self._memory_rows = memory_rows
        self._threads = threads

    def is_empty(self) -> bool:
        """Whether nothing was logged.

        Raises:
            StorageError: the log cannot be listed.
        """
        journals = (self.place.journal / PREDICTIONS.name).glob(f"*{SUFFIX}")
        return not any(journals) and next(self.place.parts(PREDICTIONS.name), None) is None

    def close(self) -> None:
        """Give the memory back."""
