"""The ledger: the YAML files of a repository, their launches in MLflow, and the index over both."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from components.experiments.attempt import Attempt
from components.experiments.document import (
    Contract,
    Experiment,
    check_name,
    read_experiment,
    write_experiment,
)
from components.experiments.files import experiment_files, name_of, stamp_of
from components.experiments.index import INDEX_FILE, Index
from components.experiments.journal import JOURNAL_FILE
from components.experiments.locks import held
from components.experiments.query import QueryResult, Question, ask
from components.experiments.records import Records
from components.experiments.resolve import (
    DEFAULTS,
    Difference,
    Resolved,
    Value,
    chain,
    differences,
    plain,
    resolve,
    same,
)
from components.experiments.schema import Schema
from components.tracking import database_beside
from foundation.errors import ConfigurationError, GearshiftError, InvalidInput, NotFound
from foundation.json_lines import read_lines
from foundation.nearest import unknown
from foundation.path_roles import KeptFolder

SHIPPED = Path(__file__).resolve().parents[2] / "experiments"
"""Experiments that come with the program: the baseline and its children."""
LAUNCHED_FOLDER = "launched"
"""Below the ledger: files of the experiments that a launch on own data or options wrote."""
_NEW_LOCK = "new.lock"
_LONGEST_STEM = 70
_LEFT_OUT = 10
"""Lines about files left out; of more, only the number."""
_ROOM = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class LedgerConfig:
    """Where experiments are kept.

    Attributes:
        experiments: folder of the experiments' YAML files, in the repository of who works on them.
        ledger: folder of what is made of them: index, journal of the seals, queue, results.
        tracking_uri: MLflow's tracking URI; empty means `mlflow.db` in the folder around the
            ledger's, which all runs share.
    """

    experiments: KeptFolder = Path("experiments")
    ledger: KeptFolder = Path("runs/experiments")
    tracking_uri: str = ""


class Ledger:
    """What there is to ask and to write down; launching is `pipelines.experiments.launch`'s."""

    def __init__(
        self,
        config: LedgerConfig,
        make_schema: Callable[[], Schema] | None = None,
    ) -> None:
        """Open the index; neither files nor MLflow are read yet.

        Args:
            config: where experiments are kept.
            make_schema: reads the stages' options; called when a file has changed. Without it the
                ledger is only looked at, as the index has it.

        Raises:
            StorageError: the ledger's folder cannot be made.
        """
        self.config = config
        self.folder = config.ledger
        self._make_schema = make_schema
        self.index = Index(config.ledger / INDEX_FILE, reading=make_schema is None)

    @cached_property
    def schema(self) -> Schema:
        """The options that experiments may set."""
        if self._make_schema is None:
            raise RuntimeError("this ledger is only looked at")
        return self._make_schema()

    @cached_property
    def records(self) -> Records:
        """The launches in MLflow."""
        uri = self.config.tracking_uri or database_beside(self.folder)
        return Records(uri, self.folder / "artifacts")

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    # Reading.

    def refresh(self) -> int:
        """Bring the index up to date with the files; unchanged ones are not read.

        Returns:
            How many files were read or forgotten.

        Raises:
            ConfigurationError: two files have the same name.
            StorageError: the index cannot be written.
        """
        # Before the folders are looked through: what another process adds from now on is not gone.
        known = seen = self.index.stamps()
        files, left_out = self._files()
        if len(left_out) > _LEFT_OUT:
            left_out[_LEFT_OUT:] = [f"{len(left_out) - _LEFT_OUT:,} more are left out"]
        if self.left_out != left_out:
            self.index.note("left_out", json.dumps(left_out))
        options = _options_stamp()
        anew = self.index.meta("options") != options
        if anew and self.index.meta("defaults") != (present := json.dumps(self.schema.defaults)):
            self.index.note("defaults", present)
            known = {}
        changed = [path for path, stamp in files.items() if known.get(path) != stamp]
        gone = [path for path in seen if path not in files]
        if changed or gone:
            self._read(changed, files, gone)
        if anew:
            self.index.note("options", options)
        if not self.index.meta("launches"):
            # The index is new, or was removed; what was launched stands in MLflow. A process that
            # changes a launch meanwhile waits, for what is read here may be older.
            with self.index.writing():
                if (self.folder / JOURNAL_FILE).is_file():
                    self.index.put_attempts(self._recorded())
                self.index.note("launches", "read")
        return len(changed) + len(gone)

    def rebuild(self) -> int:
        """Make the index anew from the files and MLflow; returns the launches found there.

        Raises:
            StorageError: MLflow cannot be read.
        """
        self.schema  # noqa: B018  # reading it takes seconds, for which nobody shall wait
        with self.index.writing():  # nobody shall see it empty
            self.index.clear()
            self.refresh()
        return len(self.index.attempts())

    @property
    def left_out(self) -> list[str]:
        """A line for each file or folder that the last look at the files left out."""
        return list(json.loads(self.index.meta("left_out") or "[]"))

    def find(self, question: Question) -> QueryResult:
        """Experiments that a question asks for; raises ``ConfigurationError`` for a filter."""
        return ask(self.index, question)

    @property
    def known(self) -> Mapping[str, Experiment]:
        """Experiments by name."""
        return self.index.known()

    def experiment(self, name: str) -> Experiment:
        """One experiment, as its file states it.

        Raises:
            NotFound: there is none of this name.
            ConfigurationError: its file is broken; states how.
        """
        found = self.index.ask("SELECT file, error FROM experiments WHERE name = ?", (name,))
        if found and found[0][1]:
            raise ConfigurationError(str(found[0][1]))
        if not found:
            raise NotFound(f"the experiment {unknown(name, sorted(self.known))}")
        return self.known[name]

    def resolved(self, name: str) -> dict[str, Value]:
        """The whole configuration of an experiment, each value with its origin.

        Raises:
            NotFound: there is none of this name.
            ConfigurationError: its file or an ancestor's is broken or missing, or they run in a
                circle.
        """
        self.experiment(name)
        defaults = json.loads(self.index.meta("defaults"))
        values = {path: Value(value, DEFAULTS) for path, value in defaults.items()}
        for one in chain(name, self.known):
            values |= {path: Value(value, one.name) for path, value in one.changes.items()}
        return values

    def differences(self, first: str, second: str) -> tuple[Difference, ...]:
        """What two experiments do not share; raises as ``resolved``."""
        return differences(self.resolved(first), self.resolved(second))

    def attempts(self, experiment: str) -> list[Attempt]:
        """Launches of an experiment, the oldest first."""
        return self.index.attempts("experiment = ?", (experiment,))

    # Writing.

    def new(
        self,
        name: str,
        extends: str,
        settings: Sequence[str] = (),
        *,
        contract: Contract | None = None,
        under: str = "",
        tags: Sequence[str] = (),
        notes: str = "",
        folder: Path | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Experiment:
        """Write a new experiment.

        Args:
            name: its name.
            extends: its parent; empty for a root.
            settings: ``stage.option=value``, what differs.
            contract: what it promises; it can be written into the file later.
            under: whose contract holds for it instead.
            tags: words to find it by.
            notes: whatever else is worth saying.
            folder: where its file is written; the experiments' folder without it.
            values: what differs too, by path and in its type.

        Raises:
            ConfigurationError: a setting is wrong, the parent is missing, or the name is taken.
            StorageError: the file cannot be written.
        """
        check_name(name)
        changes = {
            **{path: self.schema.key(path).checked(one) for path, one in (values or {}).items()},
            **read_settings(settings, self.schema),
        }
        made = Experiment(name, extends, changes, contract, under, tuple(tags), notes)
        with self._naming():
            return self._write(made, folder or self.config.experiments)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Two processes at once shall not take one name; each knows what the other wrote."""
        with held(self.folder / _NEW_LOCK, wait=True):
            self.refresh()
            yield

    def _write(self, made: Experiment, folder: Path) -> Experiment:
        if taken := self._taken(made.name):
            raise ConfigurationError(f"there is an experiment {taken} already; choose another name")
        line = {**_ancestors(self.known, made.extends), made.name: made}
        self.schema.check(plain(resolve(made.name, line, self.schema)))
        written = write_experiment(made, folder / f"{made.name}.yaml", self.schema)
        self.refresh()
        return written

    def child_for(
        self, parent: str, name: str, values: Mapping[str, Any], tags: Sequence[str]
    ) -> Experiment:
        """The child that stands for launches of a parent with other data or options.

        Its file lies in the ledger's folder, and the parent's contract holds for it. The same
        values are the same child; another name is found where its own is taken.

        Args:
            parent: whose child.
            name: what to call it; characters that no name may have become hyphens.
            values: what differs from the parent, by path.
            tags: words to find it by.

        Raises:
            ConfigurationError, StorageError: as ``new``.
        """
        wanted = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:_LONGEST_STEM] or "run"
        changes = {path: self.schema.key(path).checked(one) for path, one in values.items()}
        with self._naming():
            for number in itertools.count(1):
                chosen = wanted if number == 1 else f"{wanted}-{number}"
                known = self.known.get(chosen)
                if known is not None and known.extends == parent and known.changes == values:
                    return known
                if not self._taken(chosen):
                    break
            made = Experiment(chosen, parent, changes, under=parent, tags=tuple(tags))
            return self._write(made, self._launched)

    def _taken(self, name: str) -> str:
        """The experiment of a name, however it is spelled: some disks know no case."""
        found = self.index.ask(
            "SELECT name FROM experiments WHERE name = ? COLLATE NOCASE", (name,)
        )
        return str(found[0][0]) if found else ""

    def store(self, attempt: Attempt) -> None:
        """Write down where a launch stands, in MLflow and in the index.

        Raises:
            StorageError: one of them cannot be written.
        """
        self.records.update(attempt)
        self.index.put_attempts([attempt])

    def checked(self, name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of a launch, every value in its range.

        Args:
            name: the experiment.
            overrides: what differs, by path.

        Raises:
            NotFound, ConfigurationError: as ``resolved``, and for a value out of its range.
        """
        values = plain(self.resolved(name))
        values |= {path: self.schema.key(path).checked(value) for path, value in overrides.items()}
        self.schema.check(values)
        return values

    @property
    def _launched(self) -> Path:
        return self.folder / LAUNCHED_FOLDER

    def _recorded(self) -> list[Attempt]:
        """Launches as MLflow has them, one of each name.

        A kill between MLflow and the journal leaves a run that was never entered, and the next
        launch takes its name: the one that counts is the journal's.
        """
        try:
            entered = {line.get("run_id") for line in read_lines(self.folder / JOURNAL_FILE)}
        except InvalidInput:  # `verify` names the line; the ledger is shown all the same
            entered = set()
        found: dict[str, Attempt] = {}
        for one in self.records.all():
            known = found.get(one.attempt)
            if known is None or (one.run_id in entered and known.run_id not in entered):
                found[one.attempt] = one
        return list(found.values())

    def _files(self) -> tuple[dict[str, str], list[str]]:
        """Every file with its stamp, and what is left out; one's own go before the shipped ones."""
        places = [self.config.experiments, self._launched]
        if SHIPPED.resolve() != self.config.experiments.resolve():
            places.append(SHIPPED)
        return experiment_files(places)

    def _read(self, changed: Sequence[str], files: Mapping[str, str], gone: Sequence[str]) -> None:
        read: list[tuple[Experiment, str]] = []
        errors: dict[str, str] = {}
        for path in changed:
            try:
                one = read_experiment(Path(path), self.schema)
            except GearshiftError as error:
                one = Experiment(name_of(path), file=Path(path))
                errors[one.name] = str(error)
            read.append((one, files[path]))
        with self.index.writing():
            here = {name_of(path) for path in files}
            lost = [name for name in map(name_of, gone) if name not in here]
            concerned = self.index.family([*lost, *(one.name for one, _ in read)])
            self.index.remove(lost)
            self.index.put(read, errors)
            # A parent that came, or lost its children to another, concerns them all.
            concerned = self.index.family(concerned)
            self.index.put_effective(self._effective(concerned))

    def _effective(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What differs from the defaults, by experiment."""
        defaults = self.schema.defaults
        known = dict(self.known) if len(names) > 100 else self.known
        ready: dict[str, dict[str, Any]] = {}

        def of(name: str) -> dict[str, Any]:
            if name not in ready:
                line = chain(name, known)
                values: dict[str, Any] = {}
                for one in line:
                    values |= one.changes
                ready[name] = {
                    path: value for path, value in values.items() if not same(defaults[path], value)
                }
            return ready[name]

        found = {}
        for name in names:
            try:
                found[name] = of(name)
            except GearshiftError:
                found[name] = {}  # broken, or without a parent; `show` reports it
        return found


def _ancestors(known: Mapping[str, Experiment], parent: str) -> dict[str, Experiment]:
    """The line of a parent; empty for a root."""
    return {one.name: one for one in chain(parent, known)} if parent else {}


def _setting(text: str, schema: Schema) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"setting {text!r} is not understood; write stage.option=value")
    key = schema.key(path.strip())
    return key.path, key.parsed(value.strip())


def read_settings(settings: Sequence[str], schema: Schema) -> dict[str, Any]:
    """``stage.option=value`` texts as values by path; a later one wins.

    Raises:
        ConfigurationError: a text of another form, an unknown option or a value of another type.
    """
    return dict(_setting(text, schema) for text in settings)


def _options_stamp() -> str:
    """Changes when the code of a stage may have other options."""
    facts = sorted(
        f"{entry.name} {stamp_of(entry)}"
        for folder in (_ROOM, _ROOM / "scenes", _ROOM / "drift", _ROOM.parent / "pipelines")
        for entry in os.scandir(folder)
        if entry.name.endswith(".py")
    )
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


__all__ = ["SHIPPED", "Ledger", "LedgerConfig", "Resolved", "read_settings"]
