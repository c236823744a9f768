from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from coco_samples import box_record, coco, image_record, sample_payload, write_image

from components.data.coco_schema import flag
from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.picture_files import PictureFolders, locate
from foundation.errors import AnnotationError, ImageError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSHIFT_CACHE", str(tmp_path / "cache"))


def write(root: Path, payload: Any, name: str = "annotations.json") -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(payload))


def pack(folder: Path, file: Path, system: int = 3, separator: str = "/") -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix().replace("/", separator)
                entry = zipfile.ZipInfo(name)
                entry.create_system = system
                archive.writestr(entry, path.read_bytes())
    return file


@pytest.mark.parametrize(
    "name",
    [
        "a.jfif",
        "a.JPG",
        "a.Jpeg",
        "a.BMP",
        "a",
        "a.jpg.1",
        "night/cam 1/a.PNG",
        "2024-05-01T10:00:01.jpg",
        "c:a.jpg",
        "a\\b.jpg",
        "\u3000\u96e8.jpg",
        "100%.jpg",
        "a#b?.jpg",
    ],
)
def test_a_zip_takes_what_a_folder_takes(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    write_image(tmp_path / "picture.png")
    file = root / "images" / name
    file.parent.mkdir(parents=True)
    file.write_bytes((tmp_path / "picture.png").read_bytes())
    write(root, coco([{**image_record(1), "file_name": name}], [box_record(1, 1, [1, 1, 9, 9])]))
    found = []
    for source in (root, pack(root, tmp_path / "set.zip")):
        out = tmp_path / f"out-{source.suffix}"
        ingest(str(source), out, IngestConfig(workers=1))
        data = load_dataset(out)
        assert data.path_of(0).read_bytes() == file.read_bytes()
        found.append((data.images, data.boxes.tolist()))
    assert found[0] == found[1]
    assert found[0][0][0].file_name == name


def test_a_zip_of_windows_has_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "set" / "images" / "cam" / "001.png")
    record = {**image_record(1), "file_name": "cam\\001.png"}
    write(tmp_path / "set", coco([record], [box_record(1, 1, [1, 1, 9, 9])]))
    packed = pack(tmp_path / "set", tmp_path / "set.zip", system=0, separator="\\")
    summary = ingest(str(packed), tmp_path / "out", IngestConfig(workers=1))
    assert summary.found_elsewhere == 1
    assert load_dataset(tmp_path / "out").images[0].file_name == "cam/001.png"


def test_the_same_name_in_every_folder_is_no_ones(tmp_path: Path) -> None:
    """Two cameras of equal names, and records that do not name which."""
    for camera in ("cam1", "cam2"):
        for number in (1, 2):
            seed = number if camera == "cam1" else 10 * number
            write_image(tmp_path / "set" / camera / f"{number:03d}.png", seed=seed)
    write(tmp_path / "set", sample_payload(2))
    with pytest.raises(ImageError, match=r"may be .*cam1/001\.png or .*cam2/001\.png.*and 1 more"):
        ingest(str(tmp_path / "set"), tmp_path / "out", IngestConfig(workers=1))
    payload = sample_payload(2)
    for image, camera in zip(payload["images"], ("cam2", "cam1"), strict=True):
        image["file_name"] = f"{camera}/{image['file_name']}"
    write(tmp_path / "set", payload)
    ingest(str(tmp_path / "set"), tmp_path / "out", IngestConfig(workers=1))
    data = load_dataset(tmp_path / "out")
    assert [image.file_name for image in data.images] == ["cam2/001.png", "cam1/002.png"]
    assert data.path_of(0).read_bytes() == (tmp_path / "set/cam2/001.png").read_bytes()


def test_a_missing_picture_is_not_found_in_another_part(tmp_path: Path) -> None:
    """Train and valid of one export number their pictures alike."""
    for part in ("train", "valid"):
        payload = sample_payload(2)
        for image in payload["images"]:
            write_image(tmp_path / "set" / part / image["file_name"], seed=len(part) + image["id"])
        write(tmp_path / "set" / part, payload, "_annotations.coco.json")
    config = IngestConfig(annotations="valid/_annotations.coco.json", workers=1)
    assert ingest(str(tmp_path / "set"), tmp_path / "out", config).images == 2
    (tmp_path / "set" / "valid" / "002.png").unlink()
    with pytest.raises(ImageError, match=r"image 2 \(002\.png\) is missing"):
        ingest(str(tmp_path / "set"), tmp_path / "again", config)


def test_pictures_of_one_set_in_several_folders(tmp_path: Path) -> None:
    """As COCO's trainval has them: every name is in one folder only, or the same in both."""
    for number, folder in ((1, "train2014"), (2, "val2014"), (3, "train2014"), (3, "val2014")):
        write_image(tmp_path / "set" / folder / f"{number:03d}.png", seed=number)
    write(tmp_path / "set" / "annotations", sample_payload(3), "instances_trainval2014.json")
    assert ingest(str(tmp_path / "set"), tmp_path / "out", IngestConfig(workers=1)).images == 3


def test_the_usual_place_goes_before_the_others(tmp_path: Path) -> None:
    for place, names in (("images", "ab"), (".", "abc"), ("thumbs", "abcd")):
        for name in names:
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / place / name).write_text(place)
    folders = PictureFolders((tmp_path / "images", tmp_path), (tmp_path / "thumbs",))
    assert locate("ab", folders)["a"] == [tmp_path / "images" / "a"]  # it has them all
    assert locate("abc", folders)["a"] == [tmp_path / "a"]
    assert locate("abcd", folders) == {
        "a": [tmp_path / "a"],
        "b": [tmp_path / "b"],
        "c": [tmp_path / "c"],
        "d": [],
    }
    assert locate("d", folders) == {"d": [tmp_path / "thumbs" / "d"]}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, False),
        (1, True),
        ("0", False),
        ("1", True),
        (True, True),
        (False, False),
        (None, False),
        ("", False),
        ("true", True),
        ("False", False),
        (0.0, False),
        (1.0, True),
        (" 1 ", True),
        ("no", None),
        (2, None),
        (-1, None),
        ([], None),
        ({}, None),
        ("yes", None),
        (float("nan"), None),
    ],
)
def test_values_of_a_flag(tmp_path: Path, value: Any, says: bool | None) -> None:
    assert flag(value) is says
    write_image(tmp_path / "set" / "images" / "001.png", seed=1)
    box = box_record(1, 1, [1, 1, 9, 9], iscrowd=value)
    write(tmp_path / "set", coco([image_record(1)], [box, box_record(2, 1, [5, 5, 9, 9])]))
    if says is None:
        with pytest.raises(AnnotationError, match="needs iscrowd to be 0 or 1"):
            ingest(str(tmp_path / "set"), tmp_path / "out", IngestConfig(workers=1))
        return
    summary = ingest(str(tmp_path / "set"), tmp_path / "out", IngestConfig(workers=1))
    assert summary.crowd == int(says)
    # A data set that somebody has mended by hand is read alike.
    assert load_dataset(tmp_path / "set").is_crowd.tolist() == [says, False]
