"""Which category each class of a detector is: COCO's where the names agree, or a file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from foundation.errors import ConfigurationError
from foundation.nearest import unknown
from foundation.yaml_text import read_yaml
from inference_graph.coco_categories import COCO_IDS, category_ids

_LONGEST = 256 * 1024
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class ClassMap:
    """Names and categories that a file gives to classes of a checkpoint.

    Attributes:
        file: where it was read.
        categories: by the class's name in the checkpoint: a category id, or a class of COCO, whose
            name and id it takes.
    """

    file: Path
    categories: Mapping[str, int | str]

    @classmethod
    def read(cls, file: Path) -> ClassMap:
        """Read a YAML (or JSON) mapping of class names.

        Raises:
            ConfigurationError: it cannot be read, or a value is neither an id nor a class of COCO.
        """
        try:
            with file.open("rb") as stream:
                text = stream.read(_LONGEST + 1)
            if len(text) > _LONGEST:
                raise ConfigurationError(f"{file} is longer than {_LONGEST} bytes; no map is")
            document = read_yaml(text)
        except OSError as error:
            raise ConfigurationError(
                f"cannot read {file}: {error.strerror}; check the path"
            ) from error
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigurationError(f"{file} is no YAML: {reason}") from error
        if not isinstance(document, Mapping) or not document:
            raise ConfigurationError(
                f"{file} is no mapping of classes; write for example `pedestrian: person` or "
                "`forklift: 91`"
            )
        for name, category in document.items():
            _check_entry(file, name, category)
        return cls(file, document)

    def apply(self, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and category ids of classes.

        Args:
            names: of the checkpoint's classes, in class order.

        Raises:
            ConfigurationError: the file names a class that the checkpoint does not have, or two
                classes get one category.
        """
        for name in self.categories:
            if name not in names:
                raise ConfigurationError(f"{self.file}: the class {unknown(name, names)}")
        renamed = tuple(
            category if isinstance(category := self.categories.get(name), str) else name
            for name in names
        )
        ids = list(category_ids(renamed))
        for index, name in enumerate(names):
            category = self.categories.get(name)
            if isinstance(category, int):
                ids[index] = category
        for index, number in enumerate(ids):
            first = ids.index(number)
            if first != index:
                raise ConfigurationError(
                    f"{self.file}: the classes {names[first]!r} and {names[index]!r} both get the "
                    f"category {number}; give one of them another"
                )
        return renamed, tuple(ids)


def _check_entry(file: Path, name: object, category: object) -> None:
    if not isinstance(name, str):
        raise ConfigurationError(f"{file}: {name!r} is no name of a class; write it in quotes")
    if isinstance(category, str):
        if category not in COCO_IDS:
            raise ConfigurationError(
                f"{file}: {name}: the COCO class {unknown(category, COCO_IDS)}"
            )
    elif (
        not isinstance(category, int)
        or isinstance(category, bool)
        or not 1 <= category <= _LARGEST_ID
    ):
        raise ConfigurationError(
            f"{file}: {name} is {category!r}; give a category id from 1 to {_LARGEST_ID} or the "
            "name of a COCO class"
        )
