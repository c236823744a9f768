"""Blocks and shards make the very bytes that the stages make of the whole source."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from coco_samples import box_record, coco, image_record, write_folder

from components.data.dataset import Dataset
from components.data.ingest import IngestConfig, ingest
from components.data.observe import observe
from components.data.report import write_report
from components.data.shards.acquire import AcquireConfig, acquire
from components.data.shards.prepare import PrepareConfig, PrepareSummary, StageOptions, prepare
from components.data.shards.stages import observe_blocks, validate_blocks
from components.data.split import split
from components.data.validate import ValidateConfig, validate
from components.data.yolo import convert_to_yolo
from foundation.errors import AnnotationError, ImageError

IMAGES = 25
OPTIONS = StageOptions(validate=ValidateConfig(min_images=1))


def payload() -> dict[str, Any]:
    draw = random.Random(3)
    numbers = draw.sample(range(1, 1000), IMAGES)
    images = [image_record(n, file_name=f"cam {n % 3}/{n}.png") for n in numbers]
    boxes = [
        box_record(k, draw.choice(numbers), [k % 50, 1, 5 + k % 7, 9], category_id=1 + 2 * (k % 2))
        for k in draw.sample(range(1, 500), 80)
    ]
    boxes[5]["iscrowd"] = 1
    return coco(images, boxes)


def broken() -> dict[str, Any]:
    """Faults that collide over the blocks: ids and names that occur twice, images not listed."""
    found = payload()
    images, boxes = found["images"], found["annotations"]
    images.append(image_record(1001, file_name=images[0]["file_name"]))
    images.append(image_record(images[1]["id"], file_name="other.png"))
    images.append({"file_name": "no id.png"})
    images[9]["file_name"] = "gone.png"
    images[3]["width"] = 99
    boxes += [
        box_record(600, 5000, [1, 1, 2, 2]),
        box_record(boxes[0]["id"], images[20]["id"], [1] * 4),
    ]
    boxes += [box_record(601, images[4]["id"], [1, 1, 200, 2]), {"id": 7}, "no record"]
    boxes.append(box_record(602, images[3]["id"], [1, 1, 2, 2]))
    found["categories"].append({"id": 3, "name": "again"})
    return found


def run(source: Path, out: Path, **config: Any) -> PrepareSummary:
    cache = str(out.parent / "cache")
    return prepare(str(source), out, PrepareConfig(block=4, cache=cache, **config), OPTIONS)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "work" not in path.relative_to(folder).parts
    }


def of_the_whole(source: Path, out: Path, on_invalid: Any = "error") -> dict[str, bytes]:
    """What the stages make of the source at once."""
    config = IngestConfig(cache=str(out.parent / "cache"), on_invalid=on_invalid)
    ingest(str(source), out / "dataset", config)
    split(out / "dataset", out / "split.json")
    convert_to_yolo(out / "dataset", out / "yolo", out / "split.json")
    observe(out / "dataset", out / "observations.npz")
    validate(out / "dataset", out / "report", OPTIONS.validate)
    write_report(
        out / "dataset", out / "report.html", validation=out / "report", split=out / "split.json"
    )
    return contents(out)


def same(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    assert found.keys() == wanted.keys()
    different = [name for name in wanted if found[name] != wanted[name]]
    if "dataset/quarantine/annotations.json" in different:
        for name in ("images", "annotations"):
            one, other = (
                sorted(
                    json.dumps(r)
                    for r in json.loads(d["dataset/quarantine/annotations.json"])[name]
                )
                for d in (found, wanted)
            )
            assert one == other
        different.remove("dataset/quarantine/annotations.json")
    if "dataset/violations.jsonl" in different:
        one, other = (sorted(d["dataset/violations.jsonl"].splitlines()) for d in (found, wanted))
        assert one == other
        different.remove("dataset/violations.jsonl")
    assert not different


def test_a_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Observe finds what validate has seen; where that is gone, it decodes, and finds the same."""
    source = write_folder(tmp_path / "source", payload())
    config = AcquireConfig(block=10, cache=str(tmp_path / "cache"))
    acquire(str(source), tmp_path / "acquired", config)
    validated = tmp_path / "validated"
    validate_blocks(tmp_path / "acquired", validated, config)
    for seen in validated.glob("*/seen.npz"):
        shutil.copytree(seen.parent, tmp_path / "bare" / seen.parent.name)
        (tmp_path / "bare" / seen.parent.name / seen.name).unlink()
        shutil.copyfile(
            seen.parent.with_suffix(".stamp"), tmp_path / f"bare/{seen.parent.name}.stamp"
        )
    observe_blocks(tmp_path / "bare", tmp_path / "decoded")
    monkeypatch.setattr(Dataset, "read", lambda *_: pytest.fail("a picture is decoded again"))
    observe_blocks(validated, tmp_path / "observed")
    found = sorted((tmp_path / "observed").glob("*.npz"))
    assert len(found) == 3
    for file in found:
        assert file.read_bytes() == (tmp_path / "decoded" / file.name).read_bytes()


@pytest.mark.parametrize("shards", [1, 2])
def test_shards_make_the_bytes_of_the_whole(tmp_path: Path, shards: int) -> None:
    source = write_folder(tmp_path / "source", payload())
    summary = run(source, tmp_path / "prepared", shards=shards)
    assert summary.blocks == 7 and summary.images == IMAGES
    assert set(summary.made.values()) == {7}
    same(contents(tmp_path / "prepared"), of_the_whole(source, tmp_path / "whole"))


def test_broken_records_are_those_of_the_whole(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", payload())
    file = source / "annotations/instances_all.json"
    found = broken()
    # Annotations first, and written over many lines.
    file.write_text(json.dumps(dict(reversed(found.items())), indent=1))
    run(source, tmp_path / "prepared", shards=1, on_invalid="quarantine")
    wanted = of_the_whole(source, tmp_path / "whole", "quarantine")
    # The annotation with another one's id is checked in the other's block, without its image.
    lost = found["images"][20]
    del wanted[f"dataset/quarantine/images/{lost['file_name']}"]
    kept = json.loads(wanted["dataset/quarantine/annotations.json"])
    kept["images"] = [one for one in kept["images"] if one.get("id") != lost["id"]]
    wanted["dataset/quarantine/annotations.json"] = json.dumps(kept).encode()
    same(contents(tmp_path / "prepared"), wanted)
    with pytest.raises((AnnotationError, ImageError), match=f"^{file}: ") as refused:
        run(source, tmp_path / "refused", shards=1)
    assert "work" not in str(refused.value)


def test_an_unchanged_source_is_not_worked_on_again(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", payload())
    out = tmp_path / "prepared"
    store = str(tmp_path / "store")
    first = run(source, out, shards=1, store=store)
    before = contents(out)
    again = run(source, out, shards=1, store=store)
    assert set(again.made.values()) == {0} and again.joined == ()
    assert first.version == again.version != ""
    same(contents(out), before)
    # One picture that changes costs its block alone.
    name = payload()["images"][0]["file_name"]
    (source / "all" / name).unlink()
    (source / "all" / name).write_bytes(
        (source / "all" / payload()["images"][1]["file_name"]).read_bytes()
    )
    third = run(source, out, shards=1, store=store)
    assert set(third.made.values()) == {1}
    assert third.version != first.version
