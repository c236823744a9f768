"""Data sets of strangers: each is refused in one line, at once, and reads nothing beside itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.data.image_facts import FactsCache
from components.data.ingest import IngestConfig, ingest
from components.data.versions import (
    check_out,
    compare_versions,
    find_version,
    make_version,
    versions_in,
)
from components.data.voc import read_voc
from components.data.yolo import read_yolo
from foundation.errors import AnnotationError, GearshiftError, InvalidInput

pytestmark = pytest.mark.usefixtures("at_once")

PLAIN = "train: images/train\nval: images/train\nnames: [car]\n"
LISTS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 9))
OBJECT = (
    "<object><name>car</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>30</xmax><ymax>30</ymax>"
    "</bndbox></object>"
)
SIZE = "<size><width>64</width><height>64</height></size>"


def yolo(folder: Path, description: str = PLAIN) -> Path:
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text("0 .5 .5 .2 .2\n")
    picture = np.full((64, 64, 3), 128, np.uint8)
    cv2.imwrite(str(folder / "images" / "train" / "a.png"), picture)
    (folder / "data.yaml").write_text(description)
    return folder


def voc(folder: Path, text: bytes) -> Path:
    (folder / "Annotations").mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_bytes(text)
    return folder / "Annotations"


def read(description: Path, cache: Path, confined: bool = True) -> list[str]:
    with FactsCache(cache / "images.sqlite") as facts:
        payload, _ = read_yolo(description, facts, confined)
    return [one["file_name"] for one in payload["images"]]


@pytest.mark.parametrize(
    "description",
    [
        LISTS + PLAIN.replace("[car]", "{0: *a8}"),
        "a0: &a0 {k: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{f'*a{n - 1},' * 9}]}}\n" for n in range(1, 9))
        + PLAIN,
        PLAIN + "x: " + "[" * 20_000,
        PLAIN.replace("[car]", "[[car]]"),
        PLAIN + "#" * (1 << 20),
    ],
    ids=["references", "merges", "depth", "a list as a name", "length"],
)
def test_a_description_that_grows_is_refused(tmp_path: Path, description: str) -> None:
    with pytest.raises(AnnotationError, match=r"data\.yaml"):
        read(yolo(tmp_path / "set", description) / "data.yaml", tmp_path)


def test_a_folder_names_no_pictures_beside_itself(tmp_path: Path) -> None:
    private = yolo(tmp_path / "private")
    folder = yolo(tmp_path / "set", f"path: {private}\n{PLAIN}")
    (folder / "images" / "train" / "own.png").write_bytes(b"no picture")
    assert read(folder / "data.yaml", tmp_path) == ["images/train/a.png", "images/train/own.png"]
    # Who names the file means what stands in it.
    assert read(folder / "data.yaml", tmp_path, confined=False) == ["images/train/a.png"]
    elsewhere = yolo(tmp_path / "other", f"path: {tmp_path}\n{PLAIN}".replace("images", "private"))
    with pytest.raises(AnnotationError, match="is not below"):
        ingest(str(elsewhere), tmp_path / "out", IngestConfig(cache=str(tmp_path / "cache")))


def test_lists_pipes_and_sidecars_that_are_none(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "set", PLAIN.replace("train: images/train", "train: list.txt"))
    os.mkfifo(folder / "images" / "train" / "pipe.png")
    (folder / "list.txt").write_bytes(
        b"./images/train/a.png\n\xff\xfe\n./\0x\n./../../secret.png\n"
    )
    found = read(folder / "data.yaml", tmp_path)
    assert {"images/train/a.png", "images/train/pipe.png"} <= set(found)
    assert not any("secret" in name for name in found)
    (folder / "gearshift.json").write_text("[" * 100_000)
    with pytest.raises(AnnotationError, match="RecursionError"):
        read(folder / "data.yaml", tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_entities_is_refused_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>'
        f'<!DOCTYPE a [<!ENTITY a "{"a" * 99}"><!ENTITY b "{"&a;" * 99}">]>'
        f"<annotation><filename>a.png</filename>{SIZE}{OBJECT}</annotation>"
    )
    with pytest.raises(AnnotationError, match="declares a DOCTYPE"):
        read_voc(voc(tmp_path, text.replace("car", "&b;").encode(encoding)))


def test_a_pipe_among_annotations_is_refused(tmp_path: Path) -> None:
    folder = voc(tmp_path, f"<annotation>{SIZE}{OBJECT}</annotation>".encode())
    os.mkfifo(folder / "b.xml")
    with pytest.raises(AnnotationError, match="is no file"):
        read_voc(folder)


def rewritten(store: Path, version: str, listed: object) -> None:
    place = store / "files" / "md5" / version[:2] / f"{version[2:]}.dir"
    place.write_text(listed if isinstance(listed, str) else json.dumps(listed))


@pytest.mark.parametrize(
    "listed",
    [
        [{"md5": "../../../../secret", "relpath": "a"}],
        [{"md5": "0" * 32, "relpath": "../../a"}],
        [{"md5": "0" * 32, "relpath": "/etc/a"}],
        [{"md5": "0" * 32, "relpath": "a\x1b[2J"}],
        [{"md5": 5, "relpath": "a"}],
        {"md5": "x"},
        "[" * 100_000,
        "no JSON",
    ],
)
def test_a_store_of_a_stranger_reaches_nothing_beside_itself(
    tmp_path: Path, listed: object
) -> None:
    dataset, store = tmp_path / "set", tmp_path / "store"
    ingest(str(yolo(tmp_path / "yolo")), dataset, IngestConfig(cache=str(tmp_path / "cache")))
    made = make_version(dataset, str(store)).version.id
    rewritten(store, made, listed)
    for use in (
        lambda: check_out(str(store), made, tmp_path / "out"),
        lambda: compare_versions(str(store), made, made),
    ):
        with pytest.raises(InvalidInput):
            use()
    assert not (tmp_path / "out").exists()


def test_records_and_names_of_versions_are_checked(tmp_path: Path) -> None:
    dataset, store = tmp_path / "set", tmp_path / "store"
    ingest(str(yolo(tmp_path / "yolo")), dataset, IngestConfig(cache=str(tmp_path / "cache")))
    made = make_version(dataset, str(store)).version.id
    blobs = {"md5": next(iter((store / "files" / "md5").glob("*/*[0-9a-f]"))), "relpath": "a"}
    digest = blobs["md5"].parent.name + blobs["md5"].name
    both = [{"md5": digest, "relpath": name} for name in ("a", "a/b")]
    rewritten(store, made, both)
    with pytest.raises(InvalidInput, match="as a file and as a folder"):
        check_out(str(store), made, tmp_path / "out")
    with pytest.raises(InvalidInput, match="is no data set"):
        compare_versions(str(store), made, made)
    dvc = tmp_path / "x.dvc"
    for text in ("outs: []", "outs: 5", "[]", LISTS + "outs: *a8", "[" * 5000, "outs: [{md5: 1}]"):
        dvc.write_text(text)
        with pytest.raises(InvalidInput, match="names no version"):
            find_version(str(store), str(dvc))
    record = store / "gearshift" / "versions" / f"{made}.json"
    kept = json.loads(record.read_text())
    for change in ({"id": "../../../etc"}, {"time": 5}, {"files": "many"}, {"more": 1}):
        record.write_text(json.dumps(kept | change))
        try:
            found = versions_in(str(store))
        except GearshiftError as error:
            assert "\n" not in str(error)
        else:
            assert change == {"more": 1} and found[0].id == made
