"""Classes matched by what they are called, never by a number.

Every tool numbers its categories as it likes, so a data set's category and a detector's class are
the same when their names are (see ``components.data.class_names``).

Two categories in use that mean one class, or a category that means two, are refused: which was
meant cannot be known.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from components.data.class_names import FORMS, normalised
from components.data.dataset import Dataset, DatasetCategory
from foundation.errors import AnnotationError


class HasClasses(Protocol):
    """A detector, or what is known of one."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, by label."""

    @property
    def category_ids(self) -> Sequence[int]:
        """COCO's id of each class."""


@dataclass(frozen=True)
class Classes:
    """The classes that the detectors know.

    Attributes:
        names: of the classes, by label.
        category_ids: their COCO ids.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]

    @classmethod
    def of(cls, detector: HasClasses) -> Classes:
        """The classes of a detector."""
        return cls(tuple(detector.class_names), tuple(int(one) for one in detector.category_ids))

    def name_of(self, category_id: int) -> str:
        """Name of a category; its number where the detectors do not know it."""
        if category_id in self.category_ids:
            return self.names[self.category_ids.index(category_id)]
        return f"category {category_id}"

    def meant_by(self, name: str) -> tuple[int, ...]:
        """Labels of the classes that a name means: one, none, or several where it is ambiguous."""
        for form in FORMS:
            found = tuple(label for label, own in enumerate(self.names) if form(own) == form(name))
            if found:
                return found
        return ()


@dataclass(frozen=True)
class ClassMatch:
    """How the categories of a data set relate to the classes of the detectors.

    Attributes:
        labels: label of the class, by category id; only categories that are in use.
        matched: names of those that are written alike.
        renamed: the class's name, by the category's, where the two are written differently.
        unknown: names of categories in use that no detector knows.
    """

    labels: Mapping[int, int]
    matched: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def class_of(self, category: DatasetCategory) -> str | None:
        """Name of the class a category means; None where no detector knows it."""
        if category.id not in self.labels:
            return None
        return self.renamed.get(category.name, category.name)


def match_classes(
    categories: Collection[DatasetCategory], used: Collection[int], classes: Classes, source: Path
) -> ClassMatch:
    """Match the categories that are in use to the detectors' classes, by name.

    Args:
        categories: as the data set lists them.
        used: ids of those that have boxes.
        classes: of the detectors.
        source: the data set; only names it in errors.

    Raises:
        AnnotationError: two categories mean one class, or one means two.
    """
    labels: dict[int, int] = {}
    owner: dict[int, DatasetCategory] = {}
    renamed: dict[str, str] = {}
    matched, unknown = [], []
    for category in categories:
        if category.id not in used:
            continue
        meant = classes.meant_by(category.name)
        if len(meant) > 1:
            several = " and ".join(repr(classes.names[label]) for label in meant)
            raise AnnotationError(
                f"{source}: category {category.name!r} may be the ladder's {several}; write it "
                "as one of them"
            )
        if not meant:
            unknown.append(category.name)
            continue
        name = classes.names[meant[0]]
        other = owner.setdefault(meant[0], category)
        if other is not category:
            raise AnnotationError(
                f"{source}: categories {other.id} ({other.name!r}) and {category.id} "
                f"({category.name!r}) both mean the ladder's class {name!r}; give both boxes one "
                "category, or rename one"
            )
        labels[category.id] = meant[0]
        if category.name == name:
            matched.append(name)
        else:
            renamed[category.name] = name
    return ClassMatch(labels, tuple(matched), renamed, tuple(unknown))


def free_id(wanted: int, taken: Collection[int]) -> int:
    """A category id as wanted, or above all others where that is taken."""
    return wanted if wanted not in taken else max(taken) + 1


def match_dataset(dataset: Dataset, classes: Classes) -> ClassMatch:
    """Match a data set's categories in use to the detectors' classes.

    Raises AnnotationError as ``match_classes`` does.
    """
    used = set(dataset.category_ids.tolist())
    return match_classes(dataset.categories, used, classes, dataset.root)


def refuse_unjudgeable(dataset: Dataset, classes: Classes) -> ClassMatch:
    """Refuse a data set by which no detector of these classes can be judged.

    Returns:
        How its categories match.

    Raises:
        AnnotationError: no box counts: none is there, the classes are unknown, or all are crowds;
            or as ``match_classes``.
    """
    match = match_dataset(dataset, classes)
    boxes = len(dataset.boxes)
    known = [int(one) in match.labels for one in dataset.category_ids]
    counted = sum(yes and not crowd for yes, crowd in zip(known, dataset.is_crowd, strict=True))
    if counted:
        return match
    where = f"{dataset.root}: no accuracy can be measured: "
    if not boxes:
        raise AnnotationError(f"{where}it has no boxes; give annotated data")
    if not any(known):
        names = ", ".join(sorted(match.unknown)[:8])
        raise AnnotationError(
            f"{where}the ladder knows none of the annotated categories ({names}); "
            f"the ladder's are {', '.join(classes.names[:8])}"
            f"{', ...' if len(classes.names) > 8 else ''}; give data that share some by name"
        )
    raise AnnotationError(
        f"{where}all of its {sum(known)} boxes of known categories are crowds (iscrowd 1), which "
        "count neither as found nor as missed; annotate single objects"
    )


def nearest(name: str, classes: Classes) -> str:
    """The class whose name is most like a name."""
    by_form = {normalised(own): own for own in classes.names}
    return by_form[difflib.get_close_matches(normalised(name), by_form, 1, 0.0)[0]]
