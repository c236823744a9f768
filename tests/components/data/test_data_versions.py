"""Versions are stored once per content, come back byte for byte, and DVC reads them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from coco_samples import (
    box_record,
    coco,
    image_record,
    write_canonical,
    write_folder,
    write_image,
)
from small_disk import filled, small_disk

from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.shards.prepare import PrepareConfig, StageOptions, prepare
from components.data.source_check import check_source
from components.data.validate import ValidateConfig
from components.data.versions import (
    check_out,
    compare_versions,
    find_version,
    make_version,
    pinned_source,
    versions_in,
)
from foundation.errors import ConfigurationError, InvalidInput, NotFound, StorageError


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = [image_record(n, file_name=f"cam/{n}.png") for n in range(1, 5)]
    return write_canonical(
        tmp_path / "data", images, [box_record(n, n, [1, 1, 8, 8]) for n in range(1, 5)]
    )


@pytest.fixture
def changed(data: Path, tmp_path: Path) -> Path:
    """Image 1 gone, 5 new, another picture for 2, another box for 3, another category for 4."""
    images = [image_record(n, file_name=f"cam/{n}.png") for n in range(2, 6)]
    boxes = [
        box_record(2, 2, [1, 1, 8, 8]),
        box_record(3, 3, [2, 1, 8, 8]),
        box_record(4, 4, [1, 1, 8, 8], category_id=3),
        box_record(5, 5, [1, 1, 8, 8]),
    ]
    shutil.copytree(data / "images", tmp_path / "changed/images")
    (tmp_path / "changed/images/cam/1.png").unlink()
    write_image(tmp_path / "changed/images/cam/2.png", seed=99)
    return write_canonical(tmp_path / "changed", images, boxes)


def test_versions_come_back_and_content_is_stored_once(
    data: Path, changed: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    first = make_version(data, store, "the first")
    again = make_version(data, store, "the same")
    second = make_version(changed, store, "more")
    assert (first.new_files, again.new_files, second.new_files) == (5, 0, 3)
    assert again.version == first.version and second.version.parent == first.version.id
    assert [one.message for one in versions_in(store)] == ["the first", "more"]
    for name, folder in ((first.version.id[:6], data), ("latest", changed)):
        check_out(store, name, tmp_path / "out")
        assert contents(tmp_path / "out") == contents(folder)
        shutil.rmtree(tmp_path / "out")
    assert find_version(store, str(data) + ".dvc") == first.version


def test_the_difference_of_two_versions(data: Path, changed: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    make_version(data, store)
    before = versions_in(store)[0].id
    make_version(changed, store)
    found = compare_versions(store, before, "latest")
    assert (found.added, found.removed) == (("cam/5.png",), ("cam/1.png",))
    assert (found.changed, found.relabelled) == (("cam/2.png",), ("cam/3.png", "cam/4.png"))
    assert found.categories == {"person": (4, 3), "car": (0, 1)}


def test_what_is_damaged_or_unknown_is_named(data: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with pytest.raises(NotFound, match="has no versions called 'latest'"):
        check_out(store, "latest", tmp_path / "out")
    version = make_version(data, store).version
    objects = tmp_path / "store/files/md5"
    listed = json.loads((objects / version.id[:2] / f"{version.id[2:]}.dir").read_text())
    digest = listed[1]["md5"]
    (objects / digest[:2] / digest[2:]).write_bytes(b"else")
    with pytest.raises(InvalidInput, match=r"content of .* is damaged"):
        check_out(store, "latest", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError):
        make_version(data, "ftp://store")


def test_an_interrupted_version_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_version(data, store, progress=stop)
    assert versions_in(store) == []
    assert make_version(data, store).new_files == 2
    check_out(store, "latest", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(data)


def test_the_digest_is_the_one_that_dvc_gives_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/images/b.png").write_bytes(b"no picture, but content")
    images = '[{"id": 1, "file_name": "b.png", "width": 1, "height": 1}]'
    text = f'{{"images": {images}, "annotations": [], "categories": []}}'
    (tmp_path / "data/annotations.json").write_text(text)
    make_version(tmp_path / "data", str(tmp_path / "store"))
    # As `dvc add data` of DVC 3.67.1 writes it.
    assert yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"] == [
        {
            "md5": "d7d01fd7fcc7f0bc05afc646c12ee5a3.dir",
            "size": 130,
            "nfiles": 2,
            "hash": "md5",
            "path": "data",
        }
    ]


@pytest.mark.skipif(shutil.which("dvc") is None, reason="needs dvc")
def test_dvc_pulls_a_version(data: Path, tmp_path: Path) -> None:
    make_version(data, str(tmp_path / "store"))
    (tmp_path / "repository").mkdir()
    shutil.copyfile(tmp_path / "data.dvc", tmp_path / "repository/data.dvc")
    for command in (
        ["init", "--no-scm", "-q"],
        ["remote", "add", "-q", "-d", "store", str(tmp_path / "store")],
        ["pull", "-q"],
    ):
        subprocess.run(["dvc", *command], cwd=tmp_path / "repository", check=True)
    assert contents(tmp_path / "repository/data") == contents(data)
    subprocess.run(["dvc", "add", "-q", "data"], cwd=tmp_path / "repository", check=True)
    ours, theirs = (
        yaml.safe_load(file.read_text())["outs"]
        for file in (tmp_path / "data.dvc", tmp_path / "repository/data.dvc")
    )
    assert ours == theirs


def test_a_version_is_a_source(tmp_path: Path) -> None:
    """Ingested and prepared again, it keeps the hash by which it is checked out, and its name."""
    images = [image_record(n) for n in range(1, 7)]
    source = write_folder(
        tmp_path / "source", coco(images, [box_record(n, n, [1, 1, 8, 8]) for n in range(1, 7)])
    )
    cache = str(tmp_path / "cache")
    ingest(str(source), tmp_path / "data", IngestConfig(cache=cache))
    store = tmp_path / "store"
    version = make_version(tmp_path / "data", str(store), "night frames").version
    pinned = pinned_source(f"{store}@{version.id[:6]}")
    assert pinned == pinned_source(f"{store}@latest") == f"{store}@{version.id}"
    assert pinned_source(str(source)) == str(source)
    check_source(pinned)
    ingest(f"{store}@latest", tmp_path / "again", IngestConfig(cache=cache))
    config = PrepareConfig(cache=cache, shards=1, block=2)
    options = StageOptions(validate=ValidateConfig(min_images=1))
    prepare(pinned, tmp_path / "prepared", config, options)
    for folder in (tmp_path / "again", tmp_path / "prepared/dataset"):
        found = load_dataset(folder)
        assert found.version == pinned
        assert found.info["source_sha256"] == version.dataset_sha256 != ""
        assert find_version(str(store), str(found.info["source_sha256"])) == version
    ingest(pinned, tmp_path / "some", IngestConfig(cache=cache, limit=2))
    part = load_dataset(tmp_path / "some")
    assert part.version == "" and part.info["source_sha256"] != version.dataset_sha256
    with pytest.raises(NotFound, match="gearshift data log"):
        ingest(f"{store}@ffff", tmp_path / "none", IngestConfig(cache=cache))


def test_a_store_on_a_full_disk_keeps_its_versions_and_goes_on(
    data: Path, changed: Path, tmp_path: Path
) -> None:
    (changed / "images/cam/9.png").write_bytes(bytes(3 << 20))
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = str(disk / "store")
        first = make_version(data, store, "first").version
        for space in (filled(disk), contextlib.nullcontext()):  # none, and less than it needs
            with space, pytest.raises(StorageError, match="the disk is full") as error:
                make_version(changed, store, "second")
            assert "\n" not in str(error.value)
            assert versions_in(store) == [first]
        assert not list(disk.rglob("*partial*"))
        check_out(store, "latest", tmp_path / "again")
        assert contents(tmp_path / "again") == contents(data)
        (changed / "images/cam/9.png").write_bytes(b"small")
        assert [one.message for one in versions_in(store)] == ["first"]
        second = make_version(changed, store, "second").version
        assert versions_in(store) == [first, second]
