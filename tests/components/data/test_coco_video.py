"""Annotated videos in COCO's style: COCO-VID's and TAO's images, and YouTube-VIS's tracks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from coco_samples import CATEGORIES, box_record, coco, image_record, write_folder, write_image

from components.data.coco_video import clip_names, read_youtube_vis, with_clip
from components.data.dataset import Dataset, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.shards.acquire import AcquireConfig, acquire
from components.data.shards.gather import join_datasets
from components.data.shards.stages import validate_blocks
from foundation.errors import AnnotationError, ImageError


def read(source: Path, out: Path, **config: Any) -> Dataset:
    ingest(str(source), out, IngestConfig(cache=str(out.parent / "cache"), workers=1, **config))
    return load_dataset(out)


def prepared(source: Path, out: Path) -> Dataset:
    """The same source in blocks of two images."""
    config = AcquireConfig(block=2, cache=str(out.parent / "cache"), workers=1)
    acquire(str(source), out / "acquired", config)
    validate_blocks(out / "acquired", out / "validated", config)
    join_datasets([out / "validated"], out / "dataset")
    return load_dataset(out / "dataset")


def clips(data: Dataset) -> list[tuple[str | None, list[str]]]:
    return [
        (clip.name, [data.images[index].file_name for index in clip.indexes]) for clip in data.clips
    ]


def coco_vid() -> dict[str, Any]:
    """Frames out of order, a still, TAO's ``frame_index``, and a video that is not listed."""
    images = [
        image_record(1, video_id=7, frame_id=2),
        image_record(2, video_id=8, frame_index=30),
        image_record(3, video_id=7, frame_id=0),
        image_record(4),
        image_record(5, video_id=8, frame_index=0),
        image_record(6, video_id=7, frame_id=1),
        image_record(7, video_id="x"),
        image_record(8, video_id=9, frame_id=0),
    ]
    boxes = [box_record(n, n, [n, 2, 8, 6], track_id=1, instance_id=1) for n in range(1, 9)]
    videos = [
        {"id": 7, "name": "street"},
        {"id": 8, "file_name": "yard"},
        {"id": 9, "name": "yard"},
    ]
    return {**coco(images, boxes), "videos": videos}


def test_frames_of_coco_vid_and_tao_become_clips(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", coco_vid())
    data = read(source, tmp_path / "data")
    assert clips(data) == [
        ("street", ["003.png", "006.png", "001.png"]),
        ("yard (8)", ["005.png", "002.png"]),
        (None, ["004.png"]),
        ("x", ["007.png"]),
        ("yard (9)", ["008.png"]),
    ]
    assert [image.frame_index for image in data.images] == [2, 30, 0, 0, 0, 1, 0, 0]
    assert data.boxes[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    in_blocks = prepared(source, tmp_path / "prepared")
    assert list(in_blocks.images) == list(data.images)
    assert in_blocks.info["source_sha256"] == data.info["source_sha256"]


def test_attributes_stay_and_frames_without_a_number_are_refused(tmp_path: Path) -> None:
    own = {"clip": "own", "frame_index": 4}
    assert with_clip({"video_id": 1, "frame_id": 2, "attributes": own}, {})["attributes"] == own
    assert with_clip({"video_id": None, "frame_id": 2}, {}) == {"video_id": None, "frame_id": 2}
    assert with_clip({"video_id": 1, "attributes": 5}, {})["attributes"] == 5
    assert clip_names([5, {"name": "a"}, {"id": "1"}]) == {"1": "1"}
    payload = coco([image_record(1, video_id=1, frame_id="two")], [box_record(1, 1, [1, 2, 8, 6])])
    source = write_folder(tmp_path / "source", {**payload, "videos": 5})
    with pytest.raises(AnnotationError, match="image 1 needs .*frame_index an integer.*'two'"):
        read(source, tmp_path / "data")


def youtube_vis(**changes: Any) -> dict[str, Any]:
    """A video of three frames and one of two; a car, a dog that leaves, and a crowd."""
    size = {"width": 64, "height": 48}
    videos = [
        {"id": 4, **size, "length": 3, "file_names": ["aa/00000.png", "aa/00005.png", "aa/10.png"]},
        {"id": 9, **size, "length": 2, "file_names": ["bb/00000.png", "bb/00001.png"]},
    ]
    mask = {"segmentations": [{"counts": [1, 2], "size": [48, 64]}] * 3}
    tracks = [
        {"id": 1, "video_id": 4, "category_id": 3, "bboxes": [[1, 2, 10, 8], None, [3, 2, 10, 8]]},
        {
            "id": 2,
            "video_id": 4,
            "category_id": 18,
            "bboxes": [[20, 9, 5, 5], [21.5, 9, 5, 5], None],
        },
        {"id": 3, "video_id": 9, "category_id": 3, "iscrowd": 1, "bboxes": [None, [0, 0, 64, 48]]},
    ]
    tracks[0] |= {"areas": [70, None, 60.5], **mask}
    tracks[1] |= changes
    # The order of the archive's file.
    return {"info": {}, "videos": videos, "categories": CATEGORIES, "annotations": tracks}


def write_youtube_vis(root: Path, payload: Any) -> Path:
    (root / "train").mkdir(parents=True)
    (root / "train/instances.json").write_text(json.dumps(payload))
    for seed, name in enumerate(name for one in payload["videos"] for name in one["file_names"]):
        write_image(root / "train/JPEGImages" / name, seed=seed)
    return root


def test_youtube_vis_tracks_become_boxes_of_frames(tmp_path: Path) -> None:
    source = write_youtube_vis(tmp_path / "source", youtube_vis())
    data = read(source, tmp_path / "data")
    assert clips(data) == [
        ("4", ["aa/00000.png", "aa/00005.png", "aa/10.png"]),
        ("9", ["bb/00000.png", "bb/00001.png"]),
    ]
    assert [image.frame_index for image in data.images] == [0, 1, 2, 0, 1]
    assert data.object_counts.tolist() == [2, 1, 1, 0, 1]
    assert data.boxes.tolist() == [
        [1, 2, 10, 8],
        [20, 9, 5, 5],
        [21.5, 9, 5, 5],
        [3, 2, 10, 8],
        [0, 0, 64, 48],
    ]
    assert data.category_ids.tolist() == [3, 18, 18, 3, 3]
    assert data.areas.tolist() == [70, 25, 25, 60.5, 64 * 48]
    assert data.is_crowd.tolist() == [False, False, False, False, True]
    in_blocks = prepared(source, tmp_path / "prepared")
    assert list(in_blocks.images) == list(data.images) and dict(in_blocks.info) == dict(data.info)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bboxes": [[1, 2, 3, 4]]},
            r"annotation 2 at entry 1 of bboxes needs bbox to be four .*\[\]",
        ),
        ({"bboxes": [None] * 3 + [[1, 2, 3, 4]]}, "annotation 2 at entry 3 .*an image not listed"),
        ({"video_id": 5}, "annotation 2 at entry 0 of bboxes points at an image not listed"),
        ({"bboxes": [[60, 2, 10, 4], None, None]}, "annotation 2 at entry 0 .*outside its 64x48"),
        ({"category_id": "dog"}, "annotation 2 at entry 0 of bboxes needs category_id"),
        ({"bboxes": 5}, r"annotations\.1\.bboxes is not as YouTube-VIS has it"),
        ({"video_id": None}, r"annotations\.1\.video_id is not as YouTube-VIS has it"),
    ],
)
def test_broken_tracks_are_named(tmp_path: Path, changes: Any, message: str) -> None:
    source = write_youtube_vis(tmp_path / "source", youtube_vis(**changes))
    with pytest.raises(
        AnnotationError, match=f"^{source}/train/instances.json: {message}"
    ) as fault:
        read(source, tmp_path / "data")
    assert "\n" not in str(fault.value)


def test_a_missing_frame_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    source = write_youtube_vis(tmp_path / "source", youtube_vis())
    (source / "train/JPEGImages/aa/00005.png").unlink()
    with pytest.raises(ImageError, match=r"instances.json: the file of image 2 \(aa/00005.png\)"):
        read(source, tmp_path / "data")
    data = read(source, tmp_path / "left", on_invalid="drop")
    assert data.object_counts.tolist() == [2, 1, 0, 1]


@pytest.mark.parametrize("payload", [coco_vid(), {"videos": [5]}, {"annotations": [{}]}, [], {}])
def test_other_files_are_not_youtube_vis(tmp_path: Path, payload: Any) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(payload))
    assert read_youtube_vis(file) is None
