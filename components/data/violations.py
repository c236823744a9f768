"""What a source breaks the rules with: which rule, which record, in which file.

Violations are collected, not raised, so that ingest can refuse the data with the first one and the
number of the others, leave the broken records out, or keep them in a quarantine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from foundation.errors import AnnotationError, InvalidInput
from foundation.storage import atomic_path

RecordKind = Literal["image", "annotation", "category"]

RULES = MappingProxyType(
    {
        "malformed_image": "an image record is as the schema says",
        "malformed_annotation": "an annotation record is as the schema says",
        "malformed_category": "a category record is as the schema says",
        "duplicate_image": "an image's id occurs once",
        "duplicate_file_name": "an image's file belongs to one record",
        "duplicate_annotation": "an annotation's id occurs once",
        "duplicate_category": "a category's id occurs once",
        "ambiguous_category": "categories in use have different names",
        "unsafe_file_name": "a file name stays below the folder of the pictures, has no control "
        "characters, and is no longer than file systems allow",
        "unknown_image": "an annotation's image is listed",
        "unknown_category": "an annotation's category is listed",
        "zero_area": "a box has a width and a height within its image",
        "swapped_corners": "a box's width and height are not negative",
        "corner_box": "a box is x, y, width, height; this one fits its image only as two corners",
        "box_outside": "a box reaches at most one pixel beyond its image",
        "missing_image": "an image's file is there",
        "ambiguous_image": "an image's file name means one file",
        "link_outside": "an image's file is no link that leaves the data set",
        "broken_image": "an image's file decodes whole",
        "image_size": "an image has the width and height of its record",
        "annotation_of_dropped_image": "an annotation's image keeps the rules itself",
    }
)
"""What each rule demands, by its name."""

DEPENDENT = "annotation_of_dropped_image"
"""Rule of annotations that go only because their image goes."""


@dataclass(frozen=True)
class Violation:
    """One record that breaks a rule.

    Attributes:
        rule: one of RULES.
        record: which list of the annotation file the record is in.
        place: position of the record in that list.
        id: the record's id; None where it has none.
        message: what is wrong, with the values, in one clause.
        file: the file at fault: the annotation file, or the picture.
    """

    rule: str
    record: RecordKind
    place: int
    id: int | None
    message: str
    file: str = ""


def refuse(
    file: Path,
    violations: Sequence[Violation],
    error: type[InvalidInput] = AnnotationError,
    drop: str = "",
) -> None:
    """Raise ``error`` with one line on the first violation and the number of the others.

    ``drop`` is the option of the command that leaves such records out, where it has one.

    Does nothing when there are none.
    """
    if not violations:
        return
    more = ""
    if len(violations) > 1:
        others = count_rules(violations[1:])
        rules = ", ".join(f"{count} {rule}" for rule, count in others.items())
        more = f", and {len(violations) - 1} more ({rules})"
    way_out = f", or leave such records out with {drop}" if drop else ""
    raise error(f"{file}: {violations[0].message}{more}; correct the data{way_out}")


def count_rules(violations: Iterable[Violation]) -> dict[str, int]:
    """Number of violations of each rule, the most frequent first, then by name."""
    return ordered_counts(Counter(one.rule for one in violations))


def ordered_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by rule, the most frequent first, then by name; those of DEPENDENT are the last."""
    return dict(sorted(counts.items(), key=lambda one: (one[0] == DEPENDENT, -one[1], one[0])))


def write_violations(violations: Iterable[Violation], annotations: Path, out: Path) -> None:
    """Write one JSON object a line: rule, record, place, id, message, file."""
    with atomic_path(out) as file, file.open("w", encoding="utf-8") as lines:
        for one in violations:
            named = replace(one, file=one.file or str(annotations))
            lines.write(json.dumps(asdict(named), ensure_ascii=False) + "\n")
