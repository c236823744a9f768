"""An experiment as a small YAML file: what it extends, what differs, and what is expected of it.

::

    extends: baseline
    contract:
      objective: cut deadline misses
      hypothesis: PPO that sees longer queues learns to leave large alone in time
      expected: retained >= 0.95 and fleets.gearshift.cameras_8.dropped <= 0.01
      author: anna
    tags: [queues]
    notes: Follows what the fleet comparison of the baseline shows.
    set:
      refine:
        fleets: 24

The file's name is the experiment's. One without ``extends`` starts from the shipped defaults. In
place of a contract of its own, a trial of a sweep has ``under: SWEEP``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from components.experiments.outcome import Expectation
from components.experiments.schema import Schema, nested, read_yaml
from foundation.errors import ConfigurationError
from foundation.nearest import unknown
from foundation.regular_file import open_regular
from foundation.storage import atomic_path
from foundation.yaml_text import write_yaml

_LONGEST = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_KEYS = ("extends", "contract", "under", "tags", "notes", "set")


@dataclass(frozen=True)
class Contract:
    """What an author promises before the run.

    Attributes:
        objective: what it is for, in a few words that others share: the ledger groups by it.
        hypothesis: what is believed, and why.
        expected: the outcome as an expression over the report's metrics; see ``outcome``.
        author: who wrote it.
    """

    objective: str
    hypothesis: str
    expected: str
    author: str

    def __post_init__(self) -> None:
        """Refuse what promises nothing.

        Raises:
            ConfigurationError: a text is empty, or ``expected`` cannot be checked.
        """
        for name, text in asdict(self).items():
            if not isinstance(text, str) or not text.strip():
                raise ConfigurationError(f"contract.{name} is empty; say it before the run")
            if len(text) > 2000:
                raise ConfigurationError(f"contract.{name} is longer than 2000 characters")
        Expectation.read(self.expected)


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: unique in the ledger.
        extends: the parent; empty for one that starts from the shipped defaults.
        changes: what differs from the parent, by path.
        contract: None where none was made yet: it cannot be launched.
        under: the experiment whose contract holds for this one, a trial; empty for its own.
        tags: words to find it by.
        notes: whatever else is worth saying.
        file: where it stands; None where it was not written.
    """

    name: str
    extends: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    contract: Contract | None = None
    under: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a name that cannot be a file's, and two contracts.

        Raises:
            ConfigurationError: names what is wrong.
        """
        check_name(self.name)
        if self.extends and not _NAME.fullmatch(self.extends):
            raise ConfigurationError(
                f"extends is {self.extends[:80]!r}; give the name of an experiment, its file is "
                "in the experiments' folder"
            )
        if self.contract is not None and self.under:
            raise ConfigurationError(
                f"{self.name} has a contract and is under {self.under}; give one of them"
            )


def check_name(name: str) -> None:
    """Refuse a name that cannot be a file's.

    Raises:
        ConfigurationError: it is no name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name[:80]!r} is no name of an experiment; give 1 to 80 of A-Z a-z 0-9 _ -"
        )


def read_experiment(file: Path, schema: Schema) -> Experiment:
    """Read a file.

    Raises:
        ConfigurationError: it cannot be read, or something in it is not understood; names the
            file, the place and, for a name, the nearest right one.
    """
    try:
        with open_regular(file) as stream:
            text = stream.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}; check the path") from error
    if len(text) > _LONGEST:
        raise ConfigurationError(f"{file} is longer than {_LONGEST} bytes; no experiment is")
    try:
        return parse_experiment(file.stem, text, schema, file)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def parse_experiment(
    name: str, text: str | bytes, schema: Schema, file: Path | None = None
) -> Experiment:
    """An experiment from YAML; raises ``ConfigurationError`` as ``read_experiment`` does."""
    try:
        document = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"no YAML: {' '.join(str(error).split())[:200]}") from error
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise ConfigurationError("no mapping of names to values; begin with `extends: PARENT`")
    for key in document:
        if key not in _KEYS:
            raise ConfigurationError(unknown(str(key), _KEYS))
    return Experiment(
        name=name,
        extends=_text(document, "extends"),
        changes=schema.flat(document.get("set") or {}),
        contract=_contract(document.get("contract")),
        under=_text(document, "under"),
        tags=_tags(document.get("tags")),
        notes=_text(document, "notes"),
        file=file,
    )


def experiment_text(experiment: Experiment) -> str:
    """The experiment as YAML, keys in the order of reading."""
    document: dict[str, Any] = {}
    if experiment.extends:
        document["extends"] = experiment.extends
    if experiment.contract is not None:
        document["contract"] = asdict(experiment.contract)
    if experiment.under:
        document["under"] = experiment.under
    if experiment.tags:
        document["tags"] = list(experiment.tags)
    if experiment.notes:
        document["notes"] = experiment.notes
    if experiment.changes:
        document["set"] = nested(experiment.changes)
    return write_yaml(document) if document else ""


def write_experiment(experiment: Experiment, file: Path, schema: Schema) -> Experiment:
    """Write a file that is not there yet; what was promised is not written over.

    Raises:
        ConfigurationError: it is there already, or could not be read again.
        StorageError: it cannot be written.
    """
    if file.exists():
        raise ConfigurationError(f"{file} is there already; choose another name")
    text = experiment_text(experiment)
    if len(text.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise ConfigurationError(f"{experiment.name} is longer than {_LONGEST} bytes; shorten it")
    try:
        same = experiment_text(parse_experiment(experiment.name, text, schema)) == text
    except ConfigurationError as error:
        raise ConfigurationError(f"{experiment.name} cannot be written as YAML: {error}") from error
    if not same:
        raise ConfigurationError(
            f"{experiment.name} has characters in its texts that YAML does not keep; use others"
        )
    with atomic_path(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return replace(experiment, file=file)


def _contract(document: Any) -> Contract | None:
    if document is None:
        return None
    names = ("objective", "hypothesis", "expected", "author")
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"contract is no mapping; give {', '.join(names)}")
    for key in document:
        if key not in names:
            raise ConfigurationError(f"contract: {unknown(str(key), names)}")
    missing = [name for name in names if name not in document]
    if missing:
        raise ConfigurationError(f"contract: {', '.join(missing)} missing; say it before the run")
    return Contract(**{name: _text(document, name) for name in names})


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is {str(value)[:60]!r}; give a text")
    return " ".join(value.split())


def _tags(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise ConfigurationError("tags is no list of words; write for example [queues, ppo]")
    return tuple(value)
