"""A folder of pictures with a text file beside each: ``sign.jpg`` and ``sign.txt``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.data.coco_payload import size_of
from components.data.image_facts import FactsCache
from foundation.errors import AnnotationError

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def texts_in(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures below a folder with the text file of each; empty where the folder is none of texts.

    A folder with a JSON file is in another format, and so is one without a single text file.
    """
    if any(folder.glob("*.json")) or any(folder.glob("annotations/*.json")):
        return []
    pictures = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _PICTURES)
    pairs = [(picture, picture.with_suffix(".txt")) for picture in pictures]
    return pairs if any(text.is_file() for _, text in pairs) else []


def read_texts(folder: Path, facts: FactsCache) -> dict[str, Any]:
    """Read such a folder as a COCO payload of the task ``ocr``.

    Each line of a text file becomes an annotation. Its box is the whole picture: they state what
    is written, not where. Pictures of one folder below ``folder`` are a clip, in order of name:
    they usually come from one camera. An empty text file is a picture without text.

    Args:
        folder: for which `texts_in` is not empty.
        facts: sizes of the pictures.

    Raises:
        AnnotationError: a picture has no text file, or one that is no UTF-8.
    """
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    clips: dict[str, int] = {}
    for number, (picture, file) in enumerate(texts_in(folder), 1):
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise AnnotationError(
                f"{picture}: cannot read {file.name} beside it ({type(error).__name__}); write the "
                "picture's text there as UTF-8, a line for each line"
            ) from error
        size = size_of(picture, facts)
        image: dict[str, Any] = {"id": number, "width": size[0], "height": size[1]}
        image["file_name"] = picture.relative_to(folder).as_posix()
        if picture.parent != folder:
            clip = picture.parent.relative_to(folder).as_posix()
            clips[clip] = clips.get(clip, -1) + 1
            image["attributes"] = {"clip": clip, "frame_index": clips[clip]}
        images.append(image)
        for line in filter(None, (" ".join(line.split()) for line in lines)):
            row = {"id": len(rows) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            rows.append({**row, "bbox": [0, 0, *size], "text": line})
    return {
        "info": {"task": "ocr"},
        "images": images,
        "annotations": rows,
        "categories": [{"id": 1, "name": "text"}],
    }
