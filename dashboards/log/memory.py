"""The log's figures in memory: one thread reads what is new, any thread may ask.

Parts never change, so each is read once, newest hour first: the hours people look at are there
while the older ones are still being read. Rows that are in no part yet come from the journals,
which are read again whenever they have grown. A journal ``<name>.journal`` becomes parts named
``part-<name>.parquet``; while it exists, its parts are left aside, so every row counts once.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from dashboards.log.columns import READ, TABLE, TEXTS, Words, narrow
from foundation.errors import StorageError
from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import SUFFIX, JournalDamaged, read_journal
from inference_graph.prediction_log.place import Place
from inference_graph.prediction_log.row import SCHEMA

_GROUP = 8
"""Parts that are read before they are put in together."""
_LIST_SECONDS = 60.0
_LAST_SECONDS = 30.0
"""What is being read, and what is being asked, has so long at the end."""
_RECENT = timedelta(hours=3)
_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Reading:
    """How far the log is in memory.

    Attributes:
        parts: parts read.
        parts_found: parts there are.
        complete: whether everything was read that memory has room for.
        beyond: parts left out because memory holds the newest rows only.
        problems: what could not be read, one line each.
    """

    parts: int = 0
    parts_found: int = 0
    complete: bool = False
    beyond: int = 0
    problems: tuple[str, ...] = ()


class LogMemory:
    """Columns of ``TABLE`` of every row, in the DuckDB view ``log``.

    Attributes:
        words: the names behind the numbers.
    """

    def __init__(self, place: Place, rows: int, threads: int) -> None:
        """Read nothing yet.

        Args:
            place: where the log lies.
            rows: how many to keep, the newest.
            threads: threads that read parts, and that answer queries.
        """
        self.words = Words()
        self._place = place
        self._rows = rows
        self._threads = threads
        self._database = duckdb.connect(config={"threads": threads})
        self._asking = threading.Condition()  # DuckDB refuses a call to a connection during another
        self._cursors = 0
        columns = ", ".join(f"{name} {kind}" for name, kind in TABLE)
        for table in ("parts", "journals"):
            self._database.execute(f"CREATE TABLE {table} ({columns})")
        self._database.execute("CREATE VIEW log AS FROM parts UNION ALL FROM journals")
        self._turn = threading.Condition()
        self._wanted = self._done = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._known: dict[str, int] = {}
        self._bad: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._listed: list[str] = []
        self._listed_at = -math.inf
        self._reading = Reading()

    @property
    def reading(self) -> Reading:
        """How far it is."""
        return self._reading

    @contextlib.contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for the calling thread."""
        with self._asking:
            made = self._database.cursor()
            self._cursors += 1
        try:
            with made:
                yield made
        finally:
            with self._asking:
                self._cursors -= 1
                self._asking.notify_all()

    def refresh(self, patience: float) -> Reading:
        """Look for what is new, and wait for it.

        Args:
            patience: seconds to wait at most; reading goes on afterwards.

        Raises:
            StorageError: the log cannot be listed, or its journals cannot be read.
        """
        with self._turn:
            if self._closed:
                return self._reading
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-memory", daemon=True)
                self._thread.start()
            self._wanted += 1
            goal = self._wanted
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._done >= goal or self._closed, patience)
            if self._failure is not None:
                raise self._failure
        return self._reading

    def close(self) -> None:
        """Stop reading and give the memory back, when those who ask have their answers."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if self._thread is not None:
            self._thread.join(_LAST_SECONDS)
        with self._asking:
            self._asking.wait_for(lambda: not self._cursors, _LAST_SECONDS)
            self._database.close()

    def _run(self) -> None:
        with ThreadPoolExecutor(self._threads, "log-parts") as pool:
            while True:
                with self._turn:
                    self._turn.wait_for(lambda: self._wanted > self._done or self._closed)
                    if self._closed:
                        return
                    goal = self._wanted
                failure: Exception | None = None
                try:
                    self._read(pool)
                except Exception as error:  # reported by refresh; the next attempt may succeed
                    failure = error
                with self._turn:
                    self._failure, self._done = failure, goal
                    self._turn.notify_all()

    def _read(self, pool: ThreadPoolExecutor) -> None:
        # Journals first: one that becomes parts meanwhile is then counted as a journal.
        sizes, rows = self._journals()
        ended = self._sizes.keys() - sizes.keys()
        found = self._found(anew=bool(ended))
        self._drop({_hour(path) for path in self._known.keys() - set(found)}, anew=True)
        new = [
            path
            for path in reversed(found)
            if path not in self._known and path not in self._bad and _stem(path) not in sizes
        ]
        if rows is not None:
            became = [path for path in new if _stem(path) in ended]
            self._put({path: self._part(path) for path in became}, rows)
            new = [path for path in new if path not in became]
            self._sizes = sizes
        room = self._rows - sum(self._known.values())
        while new and room > 0 and not self._closed:
            group, new = new[:_GROUP], new[_GROUP:]
            self._put(dict(zip(group, pool.map(self._part, group), strict=True)))
            room = self._rows - sum(self._known.values())
            self._note_progress(found, len(new), complete=False)
        if room < -self._rows // 10:
            self._forget()
        self._note_progress(found, len(new), complete=True)

    def _found(self, anew: bool) -> list[str]:
        """Paths of the parts, oldest first; all are listed once a minute, the newest each time."""
        name, now = PREDICTIONS.name, time.monotonic()
        if anew or now - self._listed_at > _LIST_SECONDS:
            self._listed, self._listed_at = list(self._place.parts(name)), now
        else:
            recent = self._place.parts(name, since=datetime.now(UTC) - _RECENT)
            self._listed = sorted({*self._listed, *recent})
        return self._listed

    def _note_progress(self, found: list[str], left: int, complete: bool) -> None:
        problems = tuple(self._bad[path] for path in found if path in self._bad)
        self._reading = Reading(
            len(found) - left, len(found), complete, left if complete else 0, problems
        )

    def _part(self, path: str) -> pa.Table | None:
        """A part's columns; None where it cannot be read, which is kept in mind."""
        try:
            with self._place.opened(path) as source:
                part = pq.ParquetFile(source)
                names = part.schema_arrow.names
                texts = [name for name in TEXTS if name in names]
                part = pq.ParquetFile(source, metadata=part.metadata, read_dictionary=texts)
                table = part.read(columns=_wanted(names), use_threads=False)
            made = narrow(table, self.words)
        except (OSError, pa.ArrowException, StorageError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            self._bad[path] = f"{path} cannot be read ({reason}); restore or remove it"
            return None
        return made

    def _journals(self) -> tuple[dict[str, int], pa.Table | None]:
        """Sizes of the journals by stem, and their rows; None where nothing has changed."""
        folder = self._place.journal / PREDICTIONS.name
        sizes: dict[str, int] = {}
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):  # a part by now
                sizes[path.name.removesuffix(SUFFIX)] = path.stat().st_size
        if sizes == self._sizes:
            return sizes, None
        tables = [narrow(SCHEMA.empty_table(), self.words)]
        for stem in list(sizes):
            batches: list[pa.RecordBatch] = []
            path = folder / f"{stem}{SUFFIX}"
            try:
                for batch in read_journal(path):
                    batches.append(batch)  # one by one: those before some damage count
            except FileNotFoundError:
                del sizes[stem]
                continue
            except JournalDamaged:
                pass  # its writer reports it
            except (OSError, pa.ArrowException) as error:
                raise StorageError(f"the journal {path} cannot be read ({error})") from error
            if batches:
                table = pa.Table.from_batches(batches).combine_chunks()
                tables.append(narrow(table.select(_wanted(table.schema.names)), self.words))
        return sizes, pa.concat_tables(tables)

    def _put(self, parts: Mapping[str, pa.Table | None], journals: pa.Table | None = None) -> None:
        """Add parts, and put the journals' rows anew, in one step for whoever asks."""
        made = {path: table for path, table in parts.items() if table is not None}
        with self.cursor() as cursor:
            cursor.begin()
            if journals is not None:
                cursor.execute("DELETE FROM journals")
                _insert(cursor, "journals", journals)
            if made:
                _insert(cursor, "parts", pa.concat_tables(made.values()))
            cursor.commit()
        self._known |= {path: len(table) for path, table in made.items()}

    def _forget(self) -> None:
        """Drop the oldest hours until no more rows are held than there is room for."""
        rows, hours = sum(self._known.values()), set()
        for path in sorted(self._known):
            if rows <= self._rows:
                break
            rows -= self._known[path]
            hours.add(_hour(path))
        self._drop(hours, anew=False)

    def _drop(self, hours: set[str], anew: bool) -> None:
        """Drop hours; ``anew``: what is still there of them is to be read again."""
        for hour in hours:
            start = datetime.strptime(hour, "date=%Y-%m-%d/hour=%H").replace(tzinfo=UTC)
            first = int(start.timestamp()) * 1_000_000
            with self.cursor() as cursor:
                cursor.execute(
                    "DELETE FROM parts WHERE time >= ? AND time < ?", [first, first + _HOUR_US]
                )
            for path in [path for path in self._known if _hour(path) == hour]:
                if anew:
                    del self._known[path]
                else:
                    self._known[path] = 0


def _wanted(names: Sequence[str]) -> list[str]:
    """Columns to read of those there are; the tags where only they hold the condition."""
    more = () if "condition" in names else ("tags",)
    return [name for name in (*READ, *more) if name in names]


def _insert(cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    cursor.register("new_rows", rows)
    cursor.execute(f"INSERT INTO {table} FROM new_rows")
    cursor.unregister("new_rows")


def _hour(path: str) -> str:
    """``date=.../hour=..`` of a part."""
    return "/".join(PurePosixPath(path).parts[-3:-1])


def _stem(path: str) -> str:
    """What a part's name shares with its journal's."""
    return PurePosixPath(path).stem.removeprefix("part-")
