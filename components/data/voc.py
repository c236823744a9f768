"""Pascal VOC's boxes: one XML file a picture, as VOC and many annotation tools write them.

Corners count from 1 in VOC, both ends within the object: ``xmin`` 1 and ``xmax`` 10 are the ten
columns 0 to 9. ``difficult`` objects become crowds, which count neither as found nor as missed, as
VOC's own evaluation has it. Own code, so that a broken box becomes a violation with a rule of its
own like any other, and those two rules hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser, parse

from components.data.coco_payload import CocoPayload, number_of, whole_of
from foundation.errors import AnnotationError

ANNOTATIONS_FOLDER = "Annotations"
_PICTURES = ("JPEGImages", "images", "")
_LARGEST = 1 << 20  # bytes of one file


def voc_annotations(folder: Path) -> Path | None:
    """The folder of XML files of a VOC data set; None where a folder is none."""
    place = folder / ANNOTATIONS_FOLDER
    return place if place.is_dir() and next(place.glob("*.xml"), None) else None


def picture_folders(folder: Path) -> tuple[Path, ...]:
    """Where the pictures of a VOC data set lie."""
    return tuple(place for name in _PICTURES if (place := folder / name).is_dir())


def read_voc(annotations: Path) -> dict[str, Any]:
    """Read a folder of VOC's XML files as a COCO payload.

    Boxes whose numbers cannot be read become annotations without a usable box, which ingest refuses
    or leaves out like any other.

    Raises:
        AnnotationError: a file is no XML, too large, or names no picture and size.
    """
    payload = CocoPayload()
    for file in sorted(annotations.glob("*.xml")):
        root = parsed_xml(file, "annotation", "VOC's XML file")
        name = root.findtext("filename") or f"{file.stem}.jpg"
        size = whole_of(root.findtext("size/width")), whole_of(root.findtext("size/height"))
        number = payload.add_image(PurePosixPath(name.replace("\\", "/")).name, size, file.name)
        for place, (category, box, difficult) in enumerate(_objects(root), 1):
            payload.add_box(
                number,
                payload.category(category),
                box,
                f"{file.name} object {place}",
                iscrowd=int(difficult),
            )
    return payload.content()


class _Builder(TreeBuilder):
    """Builds the tree of a document without entities, in whatever encoding it is."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse it: entities can expand to any size, and no such tool needs them."""
        raise _DocumentTypeError


class _DocumentTypeError(Exception):
    pass


def parsed_xml(file: Path, tag: str, kind: str, largest: int = _LARGEST) -> Element:
    """The root of an annotation tool's XML file.

    Args:
        file: the file.
        tag: of the root.
        kind: what is expected, for messages.
        largest: bytes that are read at most.

    Raises:
        AnnotationError: no such XML, too large, or with a DOCTYPE.
    """
    try:
        if not file.is_file():
            raise AnnotationError(f"{file}: is no file; give {kind}")
        if file.stat().st_size > largest:
            raise AnnotationError(f"{file}: is larger than {largest} bytes; give {kind}")
        root = parse(file, XMLParser(target=_Builder())).getroot()
    except _DocumentTypeError as error:
        raise AnnotationError(f"{file}: declares a DOCTYPE; remove it") from error
    except (OSError, ParseError, ValueError, LookupError) as error:
        raise AnnotationError(
            f"{file}: cannot be read as XML ({type(error).__name__}); export it again"
        ) from error
    if root is None or root.tag != tag:
        raise AnnotationError(f"{file}: is not {kind}; its root is not <{tag}>")
    return root


def _objects(root: Element) -> Iterator[tuple[str, list[float], bool]]:
    for one in root.iter("object"):
        corners = [
            number_of(one.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
        ]
        left, top, right, bottom = corners
        box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
        difficult = (one.findtext("difficult") or "0").strip() == "1"
        yield (one.findtext("name") or "").strip(), box, difficult
