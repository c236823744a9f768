"""A batch run: its records are those of the detectors, wherever frames lie, and after any kill."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pyarrow.fs as fs
import pytest
from buckets import make_bucket, s3_server
from campaign import runs
from films import film
from processes import ROOT, environment
from tiny_models import drawn, save_detector, save_policy

from components.batch.records import text
from components.batch.results import merge_results, read_records
from components.batch.run import BatchConfig, BatchSummary, run_batch
from feature_transformer.image import read_frame
from feature_transformer.observation import FRAME_FEATURES, LOOK_NAMES, OBSERVATION_SIZE
from foundation.errors import ConfigurationError, InvalidInput, SchemaMismatch
from inference_graph.contract import LADDER
from inference_graph.detections import DetectionFilter, detections_json
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.local_video.route import RouteVideoConfig, route_video

SCHEMA = ROOT / "docs" / "batch.schema.json"
FRAMES = 13
QUICK = {"batch": 3, "part_frames": 4}


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Nano sees one object, small two, large three."""
    folder = tmp_path_factory.mktemp("ladder")
    rows = [[20, 30, 20, 40, 0.1, 0.8], [70, 30, 20, 40, 0.6, 0.1], [100, 70, 20, 10, 0.4, 0.1]]
    return {
        rung: save_detector(folder / f"{rung}.onnx", rows[: place + 1], size=(96, 128))
        for place, rung in enumerate(LADDER)
    }


@pytest.fixture(scope="module")
def climbing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nano first, then the rung above the previous one, and nano again after large."""
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    for place, rung in enumerate(LADDER):
        weights[FRAME_FEATURES + LOOK_NAMES.index(f"previous_is_{rung}"), (place + 1) % 3] = 5
    return save_policy(tmp_path_factory.mktemp("policy") / "policy.onnx", weights, (0.1, 0, 0))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images in two folders, one that is none, a video, and what is left out."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(9):
        place = folder / f"cam{number % 2}" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(place), drawn(60 + 8 * number, 80 + number, seed=number))
    (folder / "cam0" / "bad.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("left out")
    (folder / ".hidden.png").write_bytes(b"left out")
    (folder / "cam0" / "loop").symlink_to(folder)
    (folder / "cam0" / "gone.png").symlink_to(folder / "nothing")
    film(folder / "street.mp4", FRAMES)
    return folder


@pytest.fixture(scope="module")
def records(
    source: Path, ladder: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("whole")
    batch(str(source), ladder, out)
    return list(read_records(out))


def batch(source: str, ladder: dict[str, Path], out: Path, **options: Any) -> BatchSummary:
    given = {"always": "small", "confidence": 0.0, **QUICK, **options}
    return run_batch(source, None, ladder, out, BatchConfig(**given))


def test_the_records_are_what_the_detector_sees(
    source: Path, ladder: dict[str, Path], tmp_path: Path
) -> None:
    summary = batch(str(source), ladder, tmp_path)
    found = list(read_records(tmp_path))
    schema = json.loads(SCHEMA.read_text("utf-8"))
    for one in found:
        jsonschema.validate(one, schema)
    detector = Detector(DetectorConfig(weights=ladder["small"], rung="small"))
    answers = {one["source"]: one for one in found if one["type"] == "detections"}
    for path in source.rglob("*.png"):
        if path.name.startswith(".") or not path.is_file():
            continue
        frame = read_frame(path)
        one = answers[path.relative_to(source).as_posix()]
        seen = DetectionFilter(0.0).keep(detector.detect(frame).detections, detector.class_names)
        assert one["detections"] == detections_json(
            seen, detector.class_names, detector.category_ids
        )
        assert (one["width"], one["height"]) == frame.shape[1::-1]
    (problem,) = [one for one in found if one["type"] == "error"]
    assert (problem["source"], problem["status"]) == ("cam0/bad.jpg", 400)
    numbers = [one["frame"] for one in found if one["source"] == "street.mp4"]
    assert numbers == list(range(FRAMES))
    assert (summary.frames, summary.errors, summary.lost) == (9 + FRAMES, 1, 0)
    assert summary.shares == {"nano": 0.0, "small": 1.0, "large": 0.0}
    assert summary.detections == sum(len(one.get("detections", ())) for one in found)


def test_the_schema_is_the_one_in_docs() -> None:
    assert SCHEMA.read_text("utf-8") == text(), (
        "run python -m components.batch.records docs/batch.schema.json"
    )


def test_a_video_one_frame_at_a_time_is_routed_as_route_does(
    source: Path, ladder: dict[str, Path], climbing: Path, tmp_path: Path
) -> None:
    video, lines = str(source / "street.mp4"), tmp_path / "lines.jsonl"
    route_video(video, climbing, ladder, None, RouteVideoConfig(threads=1, records=lines))
    expected = [json.loads(line) for line in lines.read_text().splitlines()]
    run_batch(video, climbing, ladder, tmp_path / "out", BatchConfig(batch=1))
    found = list(read_records(tmp_path / "out"))
    assert [one["rung"] for one in found] == [one["rung"] for one in expected]
    assert [one["detections"] for one in found] == [one["detections"] for one in expected]
    assert [one["seconds"] for one in found] == [one["seconds"] for one in expected]


def test_the_frames_of_a_chunk_share_the_look_before_it(
    source: Path, ladder: dict[str, Path], climbing: Path, tmp_path: Path
) -> None:
    config = BatchConfig(batch=3, part_frames=8)
    run_batch(str(source), climbing, ladder, tmp_path, config)
    found = list(read_records(tmp_path))
    # Chunks of 3, 3, 2 frames, then a part that begins without context.
    expected = [*["nano"] * 3, *["small"] * 3, *["large"] * 2, *["nano"] * 3, *["small"] * 2]
    assert [one["rung"] for one in found if one["source"] == "street.mp4"] == expected
    assert {
        one["rung"]
        for one in found
        if one["source"].startswith("cam")  # stills
        and one["type"] == "detections"
    } == {"nano"}


def test_the_same_frames_elsewhere_have_the_same_records(
    source: Path,
    ladder: dict[str, Path],
    records: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GEARSHIFT_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as archive:
        for path in sorted(source.rglob("*.*")):
            if path.is_file():
                archive.write(path, path.relative_to(source))
    batch(str(tmp_path / "frames.zip"), ladder, tmp_path / "zip")
    assert list(read_records(tmp_path / "zip")) == records
    with s3_server(monkeypatch) as (host, port):
        make_bucket(f"{host}:{port}", "frames")
        query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        files, _ = fs.FileSystem.from_uri(f"s3://frames/?{query}")
        plain = tmp_path / "plain"
        zipfile.ZipFile(tmp_path / "frames.zip").extractall(plain)
        fs.copy_files(str(plain), "frames/day", destination_filesystem=files)
        batch(f"s3://frames/day?{query}", ladder, tmp_path / "s3")
    assert list(read_records(tmp_path / "s3")) == records


def test_shards_make_the_whole(
    source: Path, ladder: dict[str, Path], records: list[dict[str, Any]], tmp_path: Path
) -> None:
    folders = [tmp_path / str(number) for number in (1, 2, 3)]
    for number, folder in enumerate(folders):
        batch(str(source), ladder, folder, shard=f"{number + 1}/3")
    results = merge_results(folders, tmp_path / "all")
    assert list(read_records(tmp_path / "all")) == records
    assert results.counts()["small"] == 9 + FRAMES


def test_what_is_there_is_not_done_again(
    source: Path, ladder: dict[str, Path], records: list[dict[str, Any]], tmp_path: Path
) -> None:
    batch(str(source), ladder, tmp_path)
    assert batch(str(source), ladder, tmp_path).frames_now == 0
    (images,) = tmp_path.glob("detections/part-000000-000000.jsonl")
    *_, last = sorted(tmp_path.glob("detections/part-000003-*.jsonl"))
    (end,) = tmp_path.glob("detections/*.end.json")
    for path in (images, last, end):
        path.unlink()
    # A killed writer leaves its temporary beside the file.
    for path in (images, end):
        path.with_name(f".{path.stem}.0a1b2c3d.partial{path.suffix}").write_text("{")
    # Four images, and the thirteenth frame of the video.
    assert batch(str(source), ladder, tmp_path).frames_now == 4 + 1
    assert list(read_records(tmp_path)) == records
    assert not list(tmp_path.rglob("*.partial*"))
    with pytest.raises(ConfigurationError, match="another source, policy, ladder or options"):
        batch(str(source), ladder, tmp_path, confidence=0.5)


KILLED = """
import sys
from pathlib import Path
from components.batch.run import BatchConfig, run_batch
weights = {rung: Path(sys.argv[2]) / f"{rung}.onnx" for rung in ("nano", "small", "large")}
config = BatchConfig(always="small", confidence=0.0, batch=3, part_frames=4)
run_batch(sys.argv[1], None, weights, Path(sys.argv[3]), config)
"""


@pytest.mark.campaign
def test_a_killed_run_goes_on(
    source: Path, ladder: dict[str, Path], records: list[dict[str, Any]], tmp_path: Path
) -> None:
    draw = np.random.default_rng(19)
    for turn in range(runs(1, 30)):
        out = tmp_path / str(turn)
        arguments = [str(source), str(ladder["nano"].parent), str(out)]
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, *arguments], cwd=ROOT, env=environment()
        )
        wanted = int(draw.integers(0, 7))
        while process.poll() is None and len(list(out.glob("detections/part-*"))) < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        batch(str(source), ladder, out)
        assert list(read_records(out)) == records
        assert not list(out.rglob("*.partial*"))
        shutil.rmtree(out)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"always": "huge"}, "none of nano"),
        ({"always": None}, "no policy given"),
        ({"shard": "3/2"}, "give I/N"),
        ({"shard": "half"}, "shard is half"),
        ({"batch": 0}, "batch is 0; give 1 to 1024"),
    ],
)
def test_options_that_cannot_be_are_refused(
    given: dict[str, Any], reason: str, source: Path, ladder: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        batch(str(source), ladder, tmp_path, **given)


def test_texts_are_answered_and_another_tasks_policy_is_refused(
    climbing: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tesserocr")
    ladder = {rung: tmp_path / f"{rung}.json" for rung in LADDER}
    for file in ladder.values():
        file.write_text('{"engine": "tesseract"}')
    page = np.full((70, 300, 3), 255, np.uint8)
    cv2.putText(page, "OPEN GATE", (20, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (0, 0, 0), 2)
    cv2.imwrite(str(tmp_path / "page.png"), page)
    source = str(tmp_path / "page.png")
    run_batch(source, None, ladder, tmp_path / "out", BatchConfig(always="nano"))
    (record,) = read_records(tmp_path / "out")
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    assert [one["text"] for one in record["detections"]] == ["OPEN GATE"]
    with pytest.raises(SchemaMismatch, match="for ocr"):
        run_batch(source, climbing, ladder, tmp_path / "other", BatchConfig())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "no source is named"),
        ("missing", "there is no"),
        ("empty", "holds no image and no video"),
        ("http://host/frames", "is no source; give"),
        ("broken.zip", "no readable zip"),
    ],
)
def test_sources_that_are_none_are_refused(
    name: str, reason: str, ladder: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK")
    with pytest.raises(InvalidInput, match=reason):
        is_path = name and "://" not in name
        batch(str(tmp_path / name) if is_path else name, ladder, tmp_path / "out")
