"""Annotated videos in COCO's style: COCO-VID's and TAO's files, and YouTube-VIS's.

COCO-VID and TAO (Dave et al., arXiv 2005.10356) add a list of videos to COCO's file::

    videos[{id, name}]      images[{..., video_id, frame_id or frame_index}]

YouTube-VIS (Yang et al., arXiv 1905.04804) has no images; an annotation is the track of an object::

    videos[{id, width, height, file_names}]
    annotations[{id, video_id, category_id, iscrowd, bboxes, areas}]

``bboxes`` and ``areas`` have an entry for each frame, null where the object is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, StrictStr, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from components.data.coco_payload import CocoPayload
from components.data.json_stream import elements
from foundation.errors import AnnotationError

_FRAME_NUMBERS = ("frame_id", "frame_index")
_MASKS = "segmentations"


_Id = Annotated[str, Field(coerce_numbers_to_str=True)]


class _Video(TypedDict):
    id: _Id
    file_names: list[StrictStr]
    width: NotRequired[Any]
    height: NotRequired[Any]


class _Track(TypedDict):
    id: _Id
    video_id: _Id
    bboxes: list[Any]
    areas: NotRequired[list[Any] | None]
    category_id: NotRequired[Any]
    iscrowd: NotRequired[Any]


_LISTS: Mapping[str, TypeAdapter[Any]] = {
    "videos": TypeAdapter(_Video),
    "annotations": TypeAdapter(_Track),
    "categories": TypeAdapter(Any),
}


def clip_names(videos: Iterable[Any]) -> dict[str, str]:
    """The name of each video by its id, as text; with the id where several have one name."""
    named = {
        str(one["id"]): str(one.get("name") or one.get("file_name") or one["id"])
        for one in videos
        if isinstance(one, Mapping) and "id" in one
    }
    counts = Counter(named.values())
    return {key: name if counts[name] == 1 else f"{name} ({key})" for key, name in named.items()}


def with_clip(record: Any, clips: Mapping[str, str]) -> Any:
    """An image's record with the attributes ``clip`` and ``frame_index`` of its video's frame.

    Attributes that the record has stay; so does the record of a still.

    Args:
        record: what the file lists as an image.
        clips: as ``clip_names`` returns them; a video that is not listed is named by its id.
    """
    if not isinstance(record, dict) or record.get("video_id") is None:
        return record
    attributes = record.get("attributes") or {}
    if not isinstance(attributes, dict):
        return record
    video = str(record["video_id"])
    frame = {"clip": clips.get(video, video)}
    numbers = [record[name] for name in _FRAME_NUMBERS if record.get(name) is not None]
    if numbers:
        frame["frame_index"] = numbers[0]
    return {**record, "attributes": {**frame, **attributes}}


def read_youtube_vis(file: Path) -> dict[str, Any] | None:
    """Read an annotation file of YouTube-VIS as a COCO payload; None for another format.

    A box of a video or frame that is not listed, and a frame without an entry, become annotations
    that ingest refuses or leaves out like any other.

    Raises:
        AnnotationError: the file is YouTube-VIS's, and a record lacks a field.
    """
    try:
        if not _has_tracks(file):
            return None
        found: dict[str, list[Any]] = {name: [] for name in _LISTS}
        for one in elements(file):
            if one.place >= 0 and one.key in found:
                value = one.value
                if isinstance(value, dict):
                    value = {key: part for key, part in value.items() if key != _MASKS}
                found[one.key].append(_checked(file, one.key, one.place, value))
    except (OSError, ValueError, RecursionError):
        return None  # reading it as COCO's reports what is wrong
    return _converted(found["videos"], found["annotations"], found["categories"])


def _has_tracks(file: Path) -> bool:
    """Whether the first records say so; a large file of COCO's is not read whole for it."""
    for one in elements(file):
        keys = one.value.keys() if isinstance(one.value, dict) else ()
        if one.place >= 0 and one.key == "videos" and "file_names" in keys:
            return True
        if one.place >= 0 and one.key == "annotations":
            return "bboxes" in keys and "image_id" not in keys
        if one.key == "images":
            return False
    return False


def _checked(file: Path, name: str, place: int, record: Any) -> Any:
    try:
        return _LISTS[name].validate_python(record)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, (place, *fault["loc"])))
        raise AnnotationError(
            f"{file}: {name}.{where} is not as YouTube-VIS has it ({fault['msg']}); export it again"
        ) from error


def _converted(
    videos: Iterable[_Video], tracks: Iterable[_Track], categories: list[Any]
) -> dict[str, Any]:
    clips = clip_names(videos)
    payload = CocoPayload()
    frames: dict[str, list[int]] = {}
    for video in videos:
        size, own = (video.get("width"), video.get("height")), frames.setdefault(video["id"], [])
        for index, name in enumerate(video["file_names"]):
            at = {"clip": clips[video["id"]], "frame_index": index}
            own.append(payload.add_image(name, size, f"video {video['id']}", attributes=at))
    for track in tracks:
        boxes, areas = track["bboxes"], track.get("areas") or []
        numbers = frames.get(track["video_id"], [])
        for index, box in enumerate([*boxes, *([[]] * (len(numbers) - len(boxes)))]):
            if box is not None:
                payload.add_box(
                    numbers[index] if index < len(numbers) else -1,
                    track.get("category_id"),
                    box,
                    f"annotation {track['id']} at entry {index} of bboxes",
                    area=areas[index] if index < len(areas) else None,
                    iscrowd=track.get("iscrowd", 0),
                )
    return payload.content(categories)
