"""The published schema of a COCO annotation file: what each record must hold by itself.

``annotation_schema`` is the JSON Schema (``gearshift data schema`` prints it); ``checked_record``
applies the same types to one record. The rules that compare records with each other or with the
pictures (see ``components.data.coco``) cannot be written in JSON Schema; it lists them as text,
under ``x-rules``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

_ID_LIMIT = 2**63 - 1
_YES_OR_NO = [True, 1, "1", "true", False, 0, "0", "false", "", None]


def flag(value: Any) -> bool | None:
    """The value of a yes-or-no field, as tools write it; None where it is neither.

    Yes is true, 1, "1" or "true"; no is false, 0, "0", "false", "", null, or no field at all.
    """
    text = str(value).strip().casefold() if isinstance(value, str | bool | int | float) else value
    if text in (None, "", "0", "0.0", "false"):
        return False
    return True if text in ("1", "1.0", "true") else None


def _known_flag(value: Any) -> bool:
    found = flag(value)
    if found is None:
        raise ValueError("neither yes nor no")
    return found


def _floats(values: list[float]) -> list[float]:
    return [float(value) for value in values]


Id = Annotated[
    int, Field(strict=True, ge=-_ID_LIMIT, le=_ID_LIMIT, description="an integer of 64 bits")
]
Pixels = Annotated[
    int, Field(strict=True, gt=0, le=_ID_LIMIT, description="a positive integer, in pixels")
]
Box = Annotated[
    list[Annotated[float, Field(strict=True, allow_inf_nan=False)]],
    Field(min_length=4, max_length=4, description="four finite numbers: x, y, width, height"),
    AfterValidator(_floats),
]


class Attributes(TypedDict, total=False):
    """Facts of an image beyond COCO's; others may stand beside them."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    frame_index: Id | None


class Image(TypedDict):
    """One picture; what else a tool writes may stand beside it."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    id: Id
    file_name: Annotated[str, Field(strict=True, min_length=1, description="a file's name")]
    width: Pixels
    height: Pixels
    attributes: NotRequired[
        Annotated[Attributes | None, Field(description="an object, its frame_index an integer")]
    ]


class Annotation(TypedDict):
    """One box."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: Box
    iscrowd: NotRequired[
        Annotated[
            bool,
            BeforeValidator(_known_flag),
            WithJsonSchema({"enum": _YES_OR_NO, "description": "0 or 1"}),
        ]
    ]
    area: NotRequired[
        Annotated[Any, Field(description="square pixels; width x height where it is no number")]
    ]
    text: NotRequired[Annotated[str, Field(description="what a line of text reads")]]


class Category(TypedDict):
    """One kind of object."""

    id: Id
    name: Annotated[
        str,
        Field(min_length=1, coerce_numbers_to_str=True),
        WithJsonSchema({"type": ["string", "number"], "minLength": 1, "description": "a name"}),
    ]


class AnnotationFile(TypedDict):
    """A COCO object detection file: images, boxes and categories."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


_RECORDS: Mapping[str, TypeAdapter[Any]] = {
    "image": TypeAdapter(Image),
    "annotation": TypeAdapter(Annotation),
    "category": TypeAdapter(Category),
}
_DESCRIPTIONS = {
    kind: {name: part["description"] for name, part in found.json_schema()["properties"].items()}
    for kind, found in _RECORDS.items()
}


def annotation_schema(rules: Mapping[str, str]) -> dict[str, Any]:
    """The JSON Schema of an annotation file.

    Args:
        rules: meaning of each rule that a record or the whole file has to keep, by its name.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **TypeAdapter(AnnotationFile).json_schema(),
        "x-rules": dict(rules),
    }


def checked_record(kind: str, record: Any) -> dict[str, Any] | str:
    """A record as the schema reads it, or in words what it needs.

    Args:
        kind: "image", "annotation" or "category".
        record: anything that JSON can hold.
    """
    try:
        sound: dict[str, Any] = _RECORDS[kind].validate_python(record)
    except ValidationError as error:
        where = error.errors(include_url=False, include_context=False)[0]["loc"]
    else:
        return sound
    if not where:
        return "to be an object"
    name = str(where[0])
    given = f"not {str(record[name])[:40]!r}" if name in record else "and has none"
    return f"{name} to be {_DESCRIPTIONS[kind][name]}, {given}"
