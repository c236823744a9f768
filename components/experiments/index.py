"""The index of a ledger: one SQLite file, built from the YAML files and MLflow, made anew at will.

It answers what the files and MLflow would take seconds for: lists, full-text search over intent,
parameters and outcome, filters, and any two configurations side by side. Nothing is kept here that
does not stand elsewhere too. SQLite is Python's own, its FTS5 ranks by BM25 and knows word stems.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from components.experiments.attempt import Attempt
from components.experiments.document import Contract, Experiment
from foundation.errors import InvalidInput, NotFound, StorageError

INDEX_FILE = "index.db"
_VERSION = 2
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE experiments (
    name TEXT PRIMARY KEY, file TEXT NOT NULL, stamp TEXT NOT NULL, extends TEXT NOT NULL,
    changes TEXT NOT NULL, objective TEXT NOT NULL, hypothesis TEXT NOT NULL,
    expected TEXT NOT NULL, author TEXT NOT NULL, under TEXT NOT NULL, tags TEXT NOT NULL,
    notes TEXT NOT NULL, error TEXT NOT NULL, attempt TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX by_parent ON experiments (extends);
CREATE TABLE effective (
    name TEXT, path TEXT, value, PRIMARY KEY (name, path)
) WITHOUT ROWID;
CREATE TABLE attempts (
    attempt TEXT PRIMARY KEY, experiment TEXT NOT NULL, number INTEGER NOT NULL,
    state TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, ended TEXT NOT NULL,
    figures TEXT NOT NULL, whole TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_experiment ON attempts (experiment, number);
CREATE INDEX by_state ON attempts (state);
CREATE VIRTUAL TABLE texts USING fts5 (name UNINDEXED, words, tokenize = 'porter unicode61');
"""
_SHOWN = (
    "(SELECT attempt FROM attempts WHERE experiment = ? ORDER BY "
    "(verdict IN ('met', 'missed') OR state IN ('queued', 'running', 'interrupted')) DESC, "
    "number DESC LIMIT 1)"
)
"""The launch that stands for an experiment: the last one, unless it failed or was cancelled and an
earlier one was judged; a start that failed is no evidence about the hypothesis."""
_ADVICE = {
    sqlite3.SQLITE_FULL: "free some space and run it again",
    sqlite3.SQLITE_IOERR: "free some space, or check the disk, and run it again",
    sqlite3.SQLITE_BUSY: "another process writes it for long; run it again",
    sqlite3.SQLITE_READONLY: "let it be written",
}
_CONTRACT = tuple(one.name for one in fields(Contract))


class Index:
    """The index of one ledger; may be used from several threads and processes."""

    def __init__(self, file: Path, reading: bool = False) -> None:
        """Open it, and make it where it is missing or of another version.

        Args:
            file: the index.
            reading: write nothing, and make nothing where it is missing.

        Raises:
            StorageError: the file cannot be opened or made.
        """
        self.file = file
        self._lock = threading.RLock()
        try:
            if reading:
                address = f"{file.resolve().as_uri()}?mode=ro"
                self._db = sqlite3.connect(address, timeout=60, check_same_thread=False, uri=True)
                if self._one("PRAGMA user_version") != _VERSION:
                    raise sqlite3.Error("it is of another version of this program")
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(file, timeout=60, check_same_thread=False)
            self._db.isolation_level = None
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            with self.writing():
                if self._one("PRAGMA user_version") != _VERSION:
                    self._make()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"cannot open {file}: {error}; {_advice(error)}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """All that the block writes, or nothing of it; others wait meanwhile.

        Raises:
            StorageError: the file cannot be written.
        """
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:  # a full disk ends it
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StorageError(
                    f"cannot write {self.file}: {error}; {_advice(error)}"
                ) from error

    def ask(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query.

        Raises:
            InvalidInput: SQLite cannot hold one of the values.
            StorageError: the file cannot be read.
        """
        try:
            with self._lock:
                return self._db.execute(query, values).fetchall()
        except OverflowError as error:
            raise InvalidInput(
                f"a whole number is beyond {-(2**63)} to {2**63 - 1}; give a smaller one"
            ) from error
        except UnicodeEncodeError as error:
            raise InvalidInput("a text is no valid Unicode; give it in UTF-8") from error
        except sqlite3.Error as error:
            raise StorageError(f"cannot read {self.file}: {error}; {_advice(error)}") from error

    def clear(self) -> None:
        """Forget everything, for it is to be built anew."""
        with self.writing():
            self._make()

    # What the files state.

    def stamps(self) -> dict[str, str]:
        """Stamp of every file as it was read last, by path."""
        return {
            str(file): str(stamp) for file, stamp in self.ask("SELECT file, stamp FROM experiments")
        }

    def meta(self, key: str) -> str:
        """A note; empty where there is none."""
        found = self.ask("SELECT value FROM meta WHERE key = ?", (key,))
        return str(found[0][0]) if found else ""

    def note(self, key: str, value: str) -> None:
        """Keep a note; raises ``StorageError`` as ``writing``."""
        with self.writing():
            self._do("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def put(self, experiments: Iterable[tuple[Experiment, str]], errors: Mapping[str, str]) -> None:
        """Take in files that are new or changed.

        Args:
            experiments: each with its stamp; of a broken one only name and file count.
            errors: by name, what is wrong with a broken one.
        """
        rows = []
        for one, stamp in experiments:
            contract = asdict(one.contract) if one.contract else dict.fromkeys(_CONTRACT, "")
            rows.append(
                (
                    one.name,
                    str(one.file),
                    stamp,
                    one.extends,
                    json.dumps(dict(one.changes)),
                    *(contract[name] for name in ("objective", "hypothesis", "expected", "author")),
                    one.under,
                    json.dumps(one.tags),
                    one.notes,
                    errors.get(one.name, ""),
                )
            )
        with self.writing():
            self._db.executemany(
                "INSERT INTO experiments (name, file, stamp, extends, changes, objective, "
                "hypothesis, expected, author, under, tags, notes, error) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "file = excluded.file, stamp = excluded.stamp, extends = excluded.extends, "
                "changes = excluded.changes, objective = excluded.objective, "
                "hypothesis = excluded.hypothesis, expected = excluded.expected, "
                "author = excluded.author, under = excluded.under, tags = excluded.tags, "
                "notes = excluded.notes, error = excluded.error",
                rows,
            )
            self._db.executemany(
                f"UPDATE experiments SET attempt = COALESCE({_SHOWN}, '') WHERE name = ?",
                [(row[0], row[0]) for row in rows],
            )

    def remove(self, names: Iterable[str]) -> None:
        """Forget files that are gone; what was launched stays."""
        with self.writing():
            for name in names:
                for query in (
                    "DELETE FROM experiments WHERE name = ?",
                    "DELETE FROM effective WHERE name = ?",
                    "DELETE FROM texts WHERE name = ?",
                ):
                    self._do(query, (name,))

    def family(self, names: Iterable[str]) -> list[str]:
        """Experiments and all that inherit from them."""
        found = dict.fromkeys(names)
        waiting = list(found)
        children: dict[str, list[str]] = {}
        for name, parent in self.ask("SELECT name, extends FROM experiments WHERE extends != ''"):
            children.setdefault(parent, []).append(name)
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in found:
                    found[child] = None
                    waiting.append(child)
        return list(found)

    def put_effective(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what differs from the defaults, by experiment; searched and filtered by."""
        with self.writing():
            self._db.executemany(
                "DELETE FROM effective WHERE name = ?", [(name,) for name in values]
            )
            self._db.executemany(
                "INSERT INTO effective VALUES (?, ?, ?)",
                [
                    (name, path, stored(value))
                    for name, changed in values.items()
                    for path, value in changed.items()
                ],
            )
            self.write_texts(values)

    def write_texts(self, names: Iterable[str]) -> None:
        """Make anew what full-text search finds experiments by."""
        chosen = list(names)
        with self.writing():
            # FTS5 has no index on a name; a scan for each of thousands would take minutes.
            rowids = dict(self.ask("SELECT name, rowid FROM texts"))
            self._db.executemany(
                "DELETE FROM texts WHERE rowid = ?",
                [(rowids[name],) for name in chosen if name in rowids],
            )
            self._db.executemany(
                "INSERT INTO texts (name, words) VALUES (?, ?)",
                [(name, words) for name in chosen if (words := self._words(name))],
            )

    def known(self) -> IndexedExperiments:
        """The experiments as a mapping that reads those it is asked for."""
        return IndexedExperiments(self)

    # What MLflow reports.

    def put_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Take in where launches stand."""
        with self.writing():
            concerned: dict[str, None] = {}
            for one in attempts:
                self._do(
                    "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        one.attempt,
                        one.experiment,
                        one.number,
                        one.state,
                        one.verdict,
                        one.reason,
                        one.ended_at,
                        json.dumps(dict(one.figures)),
                        json.dumps(asdict(one)),
                    ),
                )
                concerned[one.experiment] = None
            for name in concerned:
                self._do(f"UPDATE experiments SET attempt = {_SHOWN} WHERE name = ?", (name, name))
            self.write_texts(
                name
                for name in concerned
                if self.ask("SELECT 1 FROM experiments WHERE name = ?", (name,))
            )

    def attempts(self, where: str = "", values: Sequence[Any] = ()) -> list[Attempt]:
        """Launches, the oldest first.

        Args:
            where: condition on the columns of ``attempts``; all of them without it.
            values: for its question marks.
        """
        query = "SELECT whole FROM attempts" + (f" WHERE {where}" if where else "")
        rows = self.ask(f"{query} ORDER BY json_extract(whole, '$.sealed_at'), number", values)
        return [Attempt(**json.loads(row[0])) for row in rows]

    def attempt(self, name: str) -> Attempt:
        """A launch by its name.

        Raises:
            NotFound: there is none.
        """
        found = self.attempts("attempt = ?", (name,))
        if not found:
            raise NotFound(
                f"there is no launch {name[:80]!r}; `gearshift experiment show` lists those of an "
                "experiment"
            )
        return found[0]

    def _words(self, name: str) -> str:
        found = self.ask(
            "SELECT objective, hypothesis, author, tags, notes, extends, attempt, error, expected "
            "FROM experiments WHERE name = ?",
            (name,),
        )
        if not found:
            return ""
        *texts, attempt, error, expected = found[0]
        words = [name, *texts, error, expected]
        for path, value in self.ask("SELECT path, value FROM effective WHERE name = ?", (name,)):
            words.append(f"{path} {value}")
        if attempt:
            whole = self.attempts("attempt = ?", (attempt,))[0]
            words += [whole.state, whole.verdict, whole.reason, whole.failing_step]
        text = " ".join(words)
        # A compound is found by its parts as well: deadline_ms by deadline.
        parts = re.findall(r"[A-Za-z]+", re.sub(r"[._-]", " ", text))
        return f"{text} {' '.join(dict.fromkeys(parts))}"

    def _make(self) -> None:
        for kind, name in self._db.execute(
            "SELECT type, name FROM sqlite_master WHERE type = 'table' "
            "AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'texts_%'"
        ).fetchall():
            self._db.execute(f"DROP {kind} {name}")
        for statement in _TABLES.split(";"):
            if statement.strip():
                self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def _do(self, query: str, values: Sequence[Any]) -> None:
        with self._lock:
            self._db.execute(query, values)

    def _one(self, query: str) -> Any:
        return self._db.execute(query).fetchone()[0]


def _advice(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest tells more of the same
    return _ADVICE.get(code, "remove it, it is made anew")


class IndexedExperiments(Mapping[str, Experiment]):
    """Experiments by name, each read when it is asked for; a broken file is not among them."""

    def __init__(self, index: Index) -> None:
        """Nothing is read yet."""
        self._index = index

    def __getitem__(self, name: str) -> Experiment:
        rows = self._index.ask(
            "SELECT file, extends, changes, objective, hypothesis, expected, author, under, tags, "
            "notes FROM experiments WHERE name = ? AND error = ''",
            (name,),
        )
        if not rows:
            raise KeyError(name)
        return experiment_of(name, *rows[0])

    def __iter__(self) -> Iterator[str]:
        found = self._index.ask("SELECT name FROM experiments WHERE error = '' ORDER BY name")
        return iter([str(row[0]) for row in found])

    def __len__(self) -> int:
        return int(self._index.ask("SELECT count(*) FROM experiments WHERE error = ''")[0][0])


def experiment_of(
    name: str,
    file: str,
    extends: str,
    changes: str,
    objective: str,
    hypothesis: str,
    expected: str,
    author: str,
    under: str,
    tags: str,
    notes: str,
) -> Experiment:
    """An experiment from its row."""
    contract = Contract(objective, hypothesis, expected, author) if expected else None
    return Experiment(
        name,
        extends,
        json.loads(changes),
        contract,
        under,
        tuple(json.loads(tags)),
        notes,
        Path(file),
    )


def stored(value: Any) -> Any:
    """A value as a column holds it: numbers and texts as they are, true as 1, lists as JSON."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float | str) else json.dumps(value)
