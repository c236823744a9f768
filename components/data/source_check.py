"""What is plainly wrong with a source, known before anything is fetched, unpacked or decoded."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from components.data.coco2017 import names_coco2017
from components.data.coco_folder import enter, find_annotations
from components.data.formats import WHAT_TO_GIVE, is_known
from components.data.speech_folder import recordings_in
from components.data.text_folder import texts_in
from components.data.versions import named_version
from components.data.yolo import description_in
from foundation.errors import AnnotationError, InvalidInput


def check_source(source: str, annotations: str = "") -> None:
    """Refuse a source that cannot be ingested, as far as a short look shows.

    Args:
        source: COCO-format folder, zip or URL, ``STORE@VERSION``, or ``coco2017``; an empty one
            passes.
        annotations: name of the annotation file; needed where there are several.

    Raises:
        AnnotationError: there is nothing at the path, or a folder without annotations.
        InvalidInput: a file that is no zip.
    """
    if not source or "://" in source or names_coco2017(source) or named_version(source):
        return
    path = Path(source).expanduser()
    if not os.path.exists(path):
        raise AnnotationError(
            f"{source}: no such file or folder; {WHAT_TO_GIVE}, STORE@VERSION, or coco2017"
        )
    if description_in(path) or (path.is_dir() and is_known(enter(path))):
        return
    if path.is_dir() and (texts_in(enter(path)) or recordings_in(enter(path))):
        return
    if path.is_dir():
        find_annotations(enter(path), annotations)
    elif not zipfile.is_zipfile(path):
        raise InvalidInput(f"{source}: no folder and no readable zip archive; {WHAT_TO_GIVE}")
