"""Open Images, MOT, CVAT and buckets, each with its own rules of corners, frames and crowds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from buckets import make_bucket, s3_server
from coco_samples import box_record, coco, image_record, write_folder, write_image

from components.data.bucket import copy_prefix
from components.data.dataset import Dataset, load_dataset
from components.data.ingest import IngestConfig, IngestSummary, ingest
from components.data.shards.acquire import AcquireConfig, acquire
from components.data.shards.stages import validate_blocks
from components.data.source_check import check_source
from foundation.errors import AnnotationError, InvalidInput


def read(source: Path | str, tmp_path: Path, **more: Any) -> tuple[IngestSummary, Dataset]:
    check_source(str(source))
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1, **more)
    summary = ingest(str(source), tmp_path / "data", config)
    return summary, load_dataset(tmp_path / "data")


BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"


def test_open_images_corners_are_shares_and_groups_are_crowds(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("aa", "bb", "cc"):
        write_image(root / "train" / f"{name}.png", 64, 48)
    (root / "train-annotations-bbox.csv").write_text(
        BOXES + "aa,x,/m/01,1,0.25,0.5,0.5,1,0,0\nbb,x,/m/02,1,0,1,0,0.5,0,1\n"
        "aa,x,/m/02,1,0,.5,0,.5,0,0\n"
    )
    (root / "class-descriptions-boxable.csv").write_text('/m/01,Person\n/m/02,"Dog, small"\n')
    summary, data = read(root, tmp_path)
    assert [one.file_name for one in data.images] == [f"train/{n}.png" for n in ("aa", "bb", "cc")]
    assert data.boxes.tolist() == [[16, 24, 16, 24], [0, 0, 32, 24], [0, 0, 64, 24]]
    assert data.is_crowd.tolist() == [False, False, True]
    assert [one.name for one in data.categories] == ["Person", "Dog, small"]
    assert data.object_counts.tolist() == [2, 1, 0] and summary.crowd == 1


def test_open_images_broken_rows_are_violations_and_several_files_are_asked_for(
    tmp_path: Path,
) -> None:
    root = tmp_path / "set"
    write_image(root / "data" / "aa.png", 64, 48)
    lines = ["aa,x,a,1,0,.5,0,.5", "aa,x,a,1,.9,.1,0,1", "aa,x,a,1,?,1,0,1", "zz,x,a,1,0,1,0,1"]
    rows = "".join(f"{line},0,0\n" for line in lines)
    (root / "labels").mkdir()
    (root / "labels/one.csv").write_text(BOXES + rows)
    summary, _ = read(root, tmp_path, on_invalid="drop")
    assert summary.annotations == 1 and summary.dropped["swapped_corners"] == 1
    assert summary.dropped["malformed_annotation"] == 1 and summary.dropped["missing_image"] == 1
    (root / "labels/two.csv").write_text(BOXES + rows)
    with pytest.raises(AnnotationError, match="several annotation files.*labels/two.csv"):
        read(root, tmp_path)
    assert read(root, tmp_path, on_invalid="drop", annotations="two.csv")[0].annotations == 1


def test_mot_sequences_become_clips_and_what_is_not_counted_crowds(tmp_path: Path) -> None:
    root = tmp_path / "MOT17"
    for name in ("a", "b"):
        for frame in (1, 2):
            write_image(root / name / "img1" / f"{frame:06d}.png", 64, 48, seed=frame)
        (root / name / "seqinfo.ini").write_text(
            f"[Sequence]\nname=MOT-{name}\nimDir=img1\nimWidth=64\nimHeight=48\nimExt=.png\n"
        )
        (root / name / "gt").mkdir()
    (root / "a/gt/gt.txt").write_text(
        "1,1,1,1,10,20,1,1,1.0\n2,1,3,1,10,20,1,1,1\n1,2,5,5,4,4,0,3,1\n1,3,5,5,4,4,1,8,1\n"
        "2,4,9,9,4,4,1,7,1\n"
    )
    (root / "b/gt/gt.txt").write_text("2,1,2,2,8,8,1,-1,-1,-1\n")
    _, data = read(root, tmp_path)
    assert data.boxes.tolist() == [
        [0, 0, 10, 20],
        [4, 4, 4, 4],
        [2, 0, 10, 20],
        [8, 8, 4, 4],
        [1, 1, 8, 8],
    ]
    assert data.is_crowd.tolist() == [False, True, False, True, False]
    assert [(clip.name, len(clip.indexes)) for clip in data.clips] == [("MOT-a", 2), ("MOT-b", 2)]
    assert [image.frame_index for image in data.images] == [0, 1, 0, 1]
    (root / "a/seqinfo.ini").write_text("[Sequence]\nimWidth=wide\n")
    with pytest.raises(AnnotationError, match="give pixels|has no frames"):
        read(root, tmp_path)


TRACKS = """<annotations><meta><task><name>street</name><original_size><width>64</width>
<height>48</height></original_size><labels><label><name>car</name></label></labels></task></meta>
<track id="0" label="car">
<box frame="0" outside="0" xtl="1.5" ytl="2" xbr="11.5" ybr="12"/>
<box frame="1" outside="0" xtl="3" ytl="2" xbr="13" ybr="12"/>
<box frame="2" outside="1" xtl="3" ytl="2" xbr="13" ybr="12"/></track></annotations>"""


def test_cvat_video_with_its_frames_or_with_the_video_itself(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for frame in range(3):
        write_image(root / "images" / f"frame_{frame:06d}.PNG", 64, 48, seed=frame)
    (root / "annotations.xml").write_text(TRACKS)
    _, data = read(root, tmp_path)
    assert data.boxes.tolist() == [[1.5, 2, 10, 10], [3, 2, 10, 10]]
    assert data.object_counts.tolist() == [1, 1, 0]
    assert [(clip.name, len(clip.indexes)) for clip in data.clips] == [("street", 3)]
    film = tmp_path / "film"
    film.mkdir()
    (film / "annotations.xml").write_text(TRACKS)
    with pytest.raises(AnnotationError, match="0 videos lie beside it"):
        read(film, tmp_path)
    writer = cv2.VideoWriter(str(film / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for frame in range(3):
        writer.write(np.full((48, 64, 3), 80 * frame, np.uint8))
    writer.release()
    _, again = read(film, tmp_path)
    assert np.array_equal(again.boxes, data.boxes) and len(again) == 3
    assert abs(int(again.read(2)[0, 0, 0]) - 160) < 4


def test_cvat_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_image(root / "images" / "a b.png", 64, 48)
    (root / "annotations.xml").write_text(
        '<annotations><image id="7" name="a b.png" width="64" height="48">'
        '<box label="dog" xtl="1" ytl="2" xbr="5" ybr="9"/>'
        '<box label="dog" xtl="1" ytl="2" xbr="5" ybr="9" rotation="30"/></image></annotations>'
    )
    _, data = read(root, tmp_path)
    assert data.boxes.tolist() == [[1, 2, 4, 7]]
    assert [one.name for one in data.categories] == ["dog"]


def yolo_line(root: Path) -> str:
    write_image(root / "images/train/a.png", 64, 48)
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 .5 .5 .25 .5\n\n0 .9 .5 .5 .5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [car]\n")
    return "/data.yaml: labels/train/a.txt line 3 has a box"


def voc_object(root: Path) -> str:
    write_image(root / "JPEGImages/a.png", 64, 48)
    (root / "Annotations").mkdir()
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>9</ymax>"
    objects = "".join(
        f"<object><name>car</name><bndbox>{box.format(x)}</bndbox></object>" for x in (9, 99)
    )
    size = "<size><width>64</width><height>48</height></size>"
    (root / "Annotations/a.xml").write_text(
        f"<annotation><filename>a.png</filename>{size}{objects}</annotation>"
    )
    return "/Annotations: a.xml object 2 has a box"


def voc_size(root: Path) -> str:
    voc_object(root)
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<width>64</width>", ""))
    return "/Annotations: a.xml needs width"


def open_images_line(root: Path) -> str:
    write_image(root / "train/aa.png", 64, 48)
    rows = "aa,x,car,1,0,.5,0,.5,0,0\naa,x,car,1,.5,1.5,0,.5,0,0\n"
    (root / "train-annotations-bbox.csv").write_text(BOXES + rows)
    return "/train-annotations-bbox.csv: line 3 has a box"


def mot_line(root: Path) -> str:
    write_image(root / "img1/000001.png", 64, 48)
    (root / "gt").mkdir()
    (root / "gt/gt.txt").write_text("1,1,1,1,10,20,1,1,1\n1,2,60,1,10,20,1,1,1\n")
    (root / "seqinfo.ini").write_text("[Sequence]\nimWidth=64\nimHeight=48\nimExt=.png\n")
    return "source: gt/gt.txt line 2 has a box"


def cvat_image(root: Path) -> str:
    write_image(root / "images/a.png", 64, 48)
    (root / "annotations.xml").write_text(
        '<annotations><image name="a.png" width="64" height="48">'
        '<box label="dog" xtl="1" ytl="2" xbr="5" ybr="9"/>'
        '<box label="dog" xtl="1" ytl="2" xbr="95" ybr="9"/></image></annotations>'
    )
    return "/annotations.xml: image a.png box 2 has a box"


def cvat_track(root: Path) -> str:
    for frame in range(3):
        write_image(root / "images" / f"frame_{frame:06d}.PNG", 64, 48)
    (root / "annotations.xml").write_text(TRACKS.replace('xbr="13"', 'xbr="93"', 1))
    return "/annotations.xml: track 0 frame 1 has a box"


@pytest.mark.parametrize(
    "write",
    [yolo_line, voc_object, voc_size, open_images_line, mot_line, cvat_image, cvat_track],
)
def test_a_broken_record_is_named_by_its_place_in_the_source(
    tmp_path: Path, write: Callable[[Path], str]
) -> None:
    """Neither by a number of its own nor by a file of the cache, as one and in blocks."""
    root = tmp_path / "source"
    message = write(root)
    listed = tmp_path / "violations.jsonl"
    config = AcquireConfig(cache=str(tmp_path / "cache"), workers=1)
    with pytest.raises(AnnotationError) as fault:
        ingest(str(root), tmp_path / "data", config, violations=listed)
    assert message in str(fault.value) and str(fault.value).startswith(str(root))
    assert str(tmp_path / "cache") not in str(fault.value) + listed.read_text()
    acquire(str(root), tmp_path / "acquired", config)
    with pytest.raises(AnnotationError) as again:
        validate_blocks(tmp_path / "acquired", tmp_path / "validated", config)
    assert str(again.value) == str(fault.value)


def test_a_bucket_is_a_source_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [image_record(n) for n in (1, 2)]
    folder = write_folder(tmp_path / "coco", coco(images, [box_record(1, 1, [1, 1, 8, 8])]))
    with s3_server(monkeypatch) as (host, port):
        s3 = make_bucket(f"{host}:{port}", "photos", folder, "sets")
        query = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        _, data = read(f"s3://photos/sets{query}", tmp_path)
        assert [one.file_name for one in data.images] == ["001.png", "002.png"]
        copied = copy_prefix(f"s3://photos/sets{query}", tmp_path / "cache", 10**9)
        picture = copied.path / "all/001.png"
        before = picture.stat().st_ino
        s3.put_object(Bucket="photos", Key="sets/all/002.png", Body=b"other")
        copy_prefix(f"s3://photos/sets{query}", tmp_path / "cache", 10**9)
        assert picture.stat().st_ino == before
        assert (copied.path / "all/002.png").read_bytes() == b"other"
        with pytest.raises(InvalidInput, match="holds no objects"):
            copy_prefix(f"s3://photos/none{query}", tmp_path / "cache", 10**9)
        with pytest.raises(InvalidInput, match="more than the 10 allowed"):
            copy_prefix(f"s3://photos/sets{query}", tmp_path / "cache", 10)
