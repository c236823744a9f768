"""COCO's own archives, from a server on this machine in COCO's place."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coco_samples import box_record, coco, image_record, write_folder, write_image
from file_server import FileServer, serving
from typer.testing import CliRunner

import gearshift
from components.data.coco2017 import fetch_coco2017
from components.data.dataset import load_dataset
from components.data.download import DownloadConfig
from components.data.ingest import IngestConfig, ingest
from foundation.errors import (
    AnnotationError,
    ConfigurationError,
    GearshiftError,
    ImageError,
    InvalidInput,
    StepFailed,
)
from pipelines.training.run import run_training

IDS = (724, 139, 632, 285)  # COCO's file is in no order either
IMAGES, ANNOTATIONS = "/zips/val2017.zip", "/annotations/annotations_trainval2017.zip"


def instances() -> Any:
    """Image 139 has one box, 285 two, 632 three, 724 four."""
    images = [image_record(number, file_name=f"{number:012d}.jpg") for number in IDS]
    boxes = [
        box_record(10 * number + k, number, [4.0 * k, 2.0 * k, 8.0, 6.0])
        for count, number in enumerate(sorted(IDS), start=1)
        for k in range(count)
    ]
    return coco(images, boxes)


def pack(folder: Path, entries: dict[str, bytes]) -> bytes:
    file = folder / "packed.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.read_bytes()


def put_annotations(server: FileServer, folder: Path, payload: Any) -> None:
    """Pack the annotations as COCO does: captions and the training part beside them."""
    entries = {
        "annotations/captions_val2017.json": b"not looked at",
        "annotations/instances_train2017.json": b"nor this",
        "annotations/instances_val2017.json": json.dumps(payload).encode(),
    }
    server.files[ANNOTATIONS] = pack(folder, entries)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    pictures = {}
    for number in IDS:
        file = tmp_path / "drawn" / f"{number:012d}.jpg"
        write_image(file, seed=number)
        pictures[f"val2017/{file.name}"] = file.read_bytes()
    with serving() as server:
        server.files = {IMAGES: pack(tmp_path, pictures)}
        put_annotations(server, tmp_path, instances())
        monkeypatch.setenv("GEARSHIFT_COCO_ADDRESS", server.address)
        monkeypatch.setenv("GEARSHIFT_CACHE", str(tmp_path / "cache"))
        yield server


def take(out: Path, **config: Any) -> Any:
    return ingest("coco2017", out, IngestConfig(workers=1, **config))


def test_two_archives_become_one_data_set(server: FileServer, tmp_path: Path) -> None:
    summary = take(tmp_path / "out")
    assert (summary.images, summary.annotations, summary.decoded) == (4, 10, 4)
    data = load_dataset(tmp_path / "out")
    assert data.object_counts.tolist() == [4, 1, 3, 2]
    picture = data.path_of(1).read_bytes()
    assert picture == (tmp_path / "drawn" / "000000000139.jpg").read_bytes()
    assert data.info["archives"] == {
        server.address + path: hashlib.sha256(server.files[path]).hexdigest()
        for path in (IMAGES, ANNOTATIONS)
    }
    # Of the annotations' archive only the one file is unpacked.
    unpacked = [file.name for file in (tmp_path / "cache" / "unpacked").rglob("*.json")]
    assert [name for name in unpacked if name.startswith(("cap", "inst"))] == [
        "instances_val2017.json"
    ]

    again = take(tmp_path / "again")
    assert (again.source_sha256, again.decoded) == (summary.source_sha256, 0)
    assert server.answered == [200, 200, 304, 304]


def test_the_first_images_by_id_make_a_trial(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = IngestConfig(workers=1, limit=2)
    summary = ingest("coco2017", tmp_path / "out", config, lambda d, t: seen.append((d, t)))
    assert (summary.images, summary.annotations, summary.decoded) == (2, 3, 2)
    assert load_dataset(tmp_path / "out").image_ids.tolist() == [139, 285]
    size = len(server.files[IMAGES])
    assert (size, size) in seen and seen[-2:] == [(1, 2), (2, 2)]
    assert take(tmp_path / "more", limit=100).images == 4
    with pytest.raises(ConfigurationError, match="limit is -1; give at least 0"):
        IngestConfig(limit=-1)


def test_a_trial_of_images_without_annotations_reports_it(
    server: FileServer, tmp_path: Path
) -> None:
    payload = instances()
    payload["annotations"] = [row for row in payload["annotations"] if row["image_id"] != 139]
    put_annotations(server, tmp_path, payload)
    with pytest.raises(AnnotationError, match="first 1 images have no annotation; take more"):
        take(tmp_path / "out", limit=1)


def test_a_cut_connection_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [len(server.files[ANNOTATIONS]), 1000]
    assert take(tmp_path / "out").images == 4
    assert server.asked == [None, None, "bytes=1000-"]
    assert server.answered == [200, 200, 206]


def test_cocos_own_faults_are_counted_not_refused(server: FileServer, tmp_path: Path) -> None:
    payload = instances()
    payload["annotations"] += [
        box_record(7, 139, [1.0, 1.0, 0.0, 5.0]),
        box_record(8, 139, [60.0, 1.0, 9.0, 5.0]),
    ]
    put_annotations(server, tmp_path, payload)
    summary = take(tmp_path / "out")
    assert (summary.annotations, summary.dropped) == (10, {"zero_area": 1, "box_outside": 1})
    # What would mean that the archives do not belong together is still refused.
    payload["images"].append(image_record(999, file_name="000000000999.jpg"))
    put_annotations(server, tmp_path, payload)
    with pytest.raises(ImageError, match="file of image 999 .* is missing"):
        take(tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        (
            ANNOTATIONS,
            b"<html>log in</html>",
            r"annotations_trainval2017\.zip cannot be used: .*no",
        ),
        (ANNOTATIONS, {"annotations/other.json": b"{}"}, "holds no instances_val2017.json"),
        (ANNOTATIONS, {"instances_val2017.json": b"{"}, "cannot be read as JSON"),
        (IMAGES, b"<html>log in</html>", r"val2017\.zip cannot be used: .*no readable zip"),
        (IMAGES, {"train2017/1.jpg": b"x"}, r"val2017\.zip: the archive holds no folder val2017"),
        (IMAGES, None, r"val2017\.zip: the server answers 404 .*Without that server: .*mirror"),
    ],
)
def test_what_is_not_cocos_is_refused(
    server: FileServer, tmp_path: Path, path: str, content: Any, words: str
) -> None:
    good = server.files.pop(path)
    if content is not None:
        packed = pack(tmp_path, content) if isinstance(content, dict) else content
        server.files[path] = packed
    with pytest.raises(GearshiftError, match=words) as caught:
        take(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    server.files[path] = good  # and nothing of it stands in the way of the right one
    assert take(tmp_path / "out").images == 4


def test_without_a_network_one_line_states_what_to_do(tmp_path: Path) -> None:
    with serving() as gone:
        address = gone.address
    patience = DownloadConfig(attempts=2, pause_s=0.01)
    with pytest.raises(InvalidInput) as caught:
        fetch_coco2017(tmp_path / "cache", address, fetching=patience)
    words = str(caught.value)
    assert "nothing came ([Errno 111] Connection refused) after 2 tries" in words
    assert "--coco-address" in words and f"{address}{IMAGES}" in words and "\n" not in words
    assert not (tmp_path / "cache" / "unpacked").exists()


def test_a_folder_of_that_name_goes_first(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "coco2017", coco([image_record(1)], [box_record(1, 1, [0, 0, 9, 9])]))
    assert take(tmp_path / "out").images == 1
    assert server.answered == []


def test_the_command_line(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEARSHIFT_COCO_ADDRESS")
    command = ["data", "ingest", "coco2017", "--limit", "3", "--json", "--coco-address"]
    out = ["--out", str(tmp_path / "out")]
    done = CliRunner().invoke(gearshift.app, [*command, server.address + "/", *out])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 3
    assert "images: 100 % (3 of 3)" in done.stderr  # bars of bytes came before it
    failed = CliRunner().invoke(gearshift.app, [*command, "ftp://mirror", *out])
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr == (
        "error: mirror 'ftp://mirror' is no http:// or https:// address; correct --coco-address, "
        "$GEARSHIFT_COCO_ADDRESS or $GEARSHIFT_WEIGHTS_ADDRESS\n"
    )


@pytest.mark.slow
def test_the_pipeline_fetches_in_its_first_step(
    server: FileServer, tmp_path: Path, sample_ladder: Path
) -> None:
    server.files.clear()
    with pytest.raises(StepFailed, match="step ingest failed: .*trainval2017.zip: .* answers 404"):
        run_training("coco2017", str(sample_ladder), tmp_path / "run", {"ingest": {"limit": 2}})
    assert server.paths == [ANNOTATIONS]


def test_the_training_part_is_fetched_checked_and_resumed(
    server: FileServer, tmp_path: Path
) -> None:
    """A missing annotation file, a damaged archive and a cut connection, one after the other."""
    pictures = {f"train2017/{n:012d}.jpg": tmp_path / f"drawn/{n:012d}.jpg" for n in IDS}
    path = "/zips/train2017.zip"
    sound = pack(tmp_path, {name: file.read_bytes() for name, file in pictures.items()})
    server.files = {path: sound, ANNOTATIONS: pack(tmp_path, {"annotations/a.json": b"{}"})}

    def train(cache: str = "") -> int:
        return ingest("coco2017-train", tmp_path / "train", IngestConfig(cache=cache)).images

    with pytest.raises(InvalidInput, match=r"holds no instances_train2017\.json"):
        train()
    content = json.dumps(instances()).encode()
    server.files[ANNOTATIONS] = pack(tmp_path, {"annotations/instances_train2017.json": content})
    place = sound.index(b"train2017/000000000724.jpg") + 500
    server.files[path] = sound[:place] + bytes([sound[place] ^ 255]) + sound[place + 1 :]
    with pytest.raises(InvalidInput, match="no readable zip archive"):
        train()
    assert not (tmp_path / "train").exists()
    server.files[path] = sound
    server.asked.clear()
    server.breaks = [len(server.files[ANNOTATIONS]), 500]
    assert train(str(tmp_path / "fresh")) == len(IDS)
    assert server.asked[-1] == "bytes=500-"
