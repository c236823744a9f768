"""Ultralytics' weights, from a server on this machine in Ultralytics' place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from coco_samples import box_record, image_record, write_canonical
from file_server import FileServer, serving
from typer.testing import CliRunner
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

import gearshift
from components.data.public_addresses import WEIGHTS_ADDRESS, WEIGHTS_FILES, weights_urls
from components.ladder.export import ExportConfig
from components.ladder.official import PATIENCE, official_ladder
from components.profiling.rungs import InferenceConfig, open_ladder
from foundation.errors import ConfigurationError, GearshiftError, InvalidInput, ModelError
from foundation.storage import sha256_file
from inference_graph.coco_categories import COCO_IDS
from inference_graph.contract import LADDER
from pipelines.ladder_files import ladder_files, ladder_folder

QUICK = replace(PATIENCE, attempts=2, timeout_s=5, pause_s=0.01)
SMALL = ExportConfig(height=32, width=32, compress=False)


def checkpoint(file: Path, names: tuple[str, ...], seed: int = 0) -> bytes:
    """A YOLOv8 too thin for any use, stored as Ultralytics stores its own."""
    torch.manual_seed(seed)
    plan = yaml_model_load("yolov8n.yaml")
    plan["scales"] = {"n": [0.33, 0.02, 1024]}
    model = DetectionModel(plan, nc=len(names), verbose=False)
    model.names = dict(enumerate(names))
    torch.save({"model": model.eval(), "train_args": {}}, file)
    return file.read_bytes()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Path on the server to content, for the three files of the release."""
    torch.set_num_threads(1)
    file = tmp_path_factory.mktemp("checkpoints") / "tiny.pt"
    return {
        f"/{name}": checkpoint(file, tuple(COCO_IDS), seed)
        for seed, name in enumerate(("yolov8n.pt", "yolov8s.pt", "yolov8l.pt"))
    }


@pytest.fixture(scope="module")
def server(checkpoints: dict[str, bytes]) -> Iterator[FileServer]:
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        server.files = dict(checkpoints)
        patch.setenv("GEARSHIFT_WEIGHTS_ADDRESS", server.address)
        yield server


@pytest.fixture(scope="module")
def fetched(
    server: FileServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[tuple[int, int]]]:
    """Cache, ladder and the progress reported; the second file's connection was cut."""
    cache = tmp_path_factory.mktemp("cache")
    server.breaks = [len(server.files["/yolov8n.pt"]), 100_000]
    seen: list[tuple[int, int]] = []
    ladder = official_ladder(str(cache), lambda done, total: seen.append((done, total)))
    return cache, ladder, seen


@pytest.fixture
def spoiled(server: FileServer, checkpoints: dict[str, bytes]) -> Iterator[FileServer]:
    """The server, to be spoiled by a test and whole again after it."""
    yield server
    server.files, server.sends_on, server.failures = dict(checkpoints), {}, []


def test_the_addresses_are_ultralytics_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEARSHIFT_WEIGHTS_ADDRESS", raising=False)
    assert WEIGHTS_ADDRESS.startswith("https://github.com/ultralytics/assets/releases/download/")
    assert weights_urls()["large"] == f"{WEIGHTS_ADDRESS}/yolov8l.pt"
    monkeypatch.setenv("GEARSHIFT_WEIGHTS_ADDRESS", "mirror.example.test")
    with pytest.raises(ConfigurationError, match="no http:// or https:// address"):
        weights_urls()


def test_three_checkpoints_become_a_ladder(
    server: FileServer, fetched: tuple[Path, Path, list[tuple[int, int]]]
) -> None:
    cache, ladder, seen = fetched
    assert server.answered[:4] == [200, 200, 206, 200]
    assert server.asked[2] == "bytes=100000-"
    detectors = open_ladder({r: ladder / f"{r}.onnx" for r in LADDER}, InferenceConfig(threads=1))
    assert {rung.input_size for rung in detectors.values()} == {(640, 640)}
    assert detectors["large"].category_ids == tuple(COCO_IDS.values())
    # Per cents that only rise, of the downloads first.
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert (seen[-1], {total for _, total in seen}) == ((100, 100), {100})
    assert [p.name for p in (cache / "ladders").iterdir() if p.suffix != ".lock"] == [ladder.name]


def test_the_card_tells_where_it_comes_from(
    server: FileServer,
    checkpoints: dict[str, bytes],
    fetched: tuple[Path, Path, list[tuple[int, int]]],
    tmp_path: Path,
) -> None:
    ladder = fetched[1]
    card = json.loads((ladder / "origin.json").read_text())
    assert list(card["rungs"]) == ["nano", "small", "large"]
    page = (ladder / "MODEL_CARD.md").read_text()
    for rung, name in WEIGHTS_FILES.items():
        entry, content = card["rungs"][rung], checkpoints[f"/{name}"]
        (tmp_path / name).write_bytes(content)
        digest = sha256_file(tmp_path / name)
        assert entry["checkpoint_url"] == f"{server.address}/{name}"
        assert (entry["checkpoint_sha256"], entry["checkpoint_bytes"]) == (digest, len(content))
        assert entry["sha256"] == sha256_file(ladder / f"{rung}.onnx")
        assert digest in page and entry["sha256"] in page
    assert {"torch", "ultralytics", "onnx"} <= set(card["versions"])


def test_a_second_call_needs_no_network_and_mends_what_is_broken(
    server: FileServer,
    fetched: tuple[Path, Path, list[tuple[int, int]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, ladder, _ = fetched
    asked = len(server.asked)
    assert official_ladder(str(cache)) == ladder
    monkeypatch.setenv("GEARSHIFT_CACHE", str(cache))
    assert ladder_files("coco")["small"] == ladder / "small.onnx"
    picture = image_record(1, width=640, height=480)
    data = write_canonical(tmp_path / "data", [picture], [box_record(1, 1, [5, 5, 90, 90])])
    command = ["data", "validate", str(data), "--weights", "coco", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(gearshift.app, [*command, "--json", "--min-images", "1"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 1
    assert len(server.asked) == asked

    moved = shutil.copytree(cache, tmp_path / "moved")
    broken = moved / "ladders" / ladder.name / "nano.onnx"
    broken.write_bytes(broken.read_bytes()[:-1000])
    assert official_ladder(str(moved)) == broken.parent
    assert broken.stat().st_size == (ladder / "nano.onnx").stat().st_size
    assert server.answered[asked:] == [304, 304, 304]


def test_another_number_of_classes_is_refused(spoiled: FileServer, tmp_path: Path) -> None:
    spoiled.files["/yolov8n.pt"] = checkpoint(tmp_path / "two.pt", ("cat", "dog"))
    with pytest.raises(ModelError, match=r"yolov8n\.pt: a checkpoint of 2 classes, .* not COCO's"):
        official_ladder(str(tmp_path / "cache"), config=SMALL, patience=QUICK)
    assert not list((tmp_path / "cache").glob("ladders/*[!k]"))


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        (
            "/yolov8s.pt",
            b"<html>please log in</html>",
            r"yolov8s\.pt: .*starts with b'<html>please'",
        ),
        (
            "/yolov8l.pt",
            None,
            r"yolov8l\.pt: the server answers 404 .* mirror, or fetch yolov8n\.pt",
        ),
    ],
)
def test_what_is_no_checkpoint_is_never_opened(
    spoiled: FileServer,
    checkpoints: dict[str, bytes],
    tmp_path: Path,
    path: str,
    content: bytes | None,
    words: str,
) -> None:
    del spoiled.files[path]
    if content is not None:
        spoiled.files[path] = content
    with pytest.raises(GearshiftError, match=words) as caught:
        official_ladder(str(tmp_path), patience=QUICK)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("ladders/*[!k]"))  # locks only
    # The good ones wait for the next call; the bad one does not.
    kept = list(tmp_path.glob("downloads/*/data"))
    assert len(kept) == list(checkpoints).index(path)


def test_a_zip_that_holds_no_network_is_refused(spoiled: FileServer, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    spoiled.files["/yolov8n.pt"] = (tmp_path / "other.pt").read_bytes()
    with pytest.raises(ModelError, match=r"came from .*yolov8n\.pt cannot be used: .*exported"):
        official_ladder(str(tmp_path / "cache"), config=SMALL, patience=QUICK)
    assert not list((tmp_path / "cache").glob("ladders/*[!k]"))


def test_weights_come_over_https_only(
    spoiled: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled.sends_on["/yolov8n.pt"] = "http://mirror.example.test/yolov8n.pt"
    with pytest.raises(InvalidInput, match="sends on to http://mirror.*only https"):
        official_ladder(str(tmp_path), patience=QUICK)
    monkeypatch.setenv("GEARSHIFT_WEIGHTS_ADDRESS", "http://mirror.example.test/weights")
    with pytest.raises(InvalidInput, match="mirror.example.test.*only https"):
        official_ladder(str(tmp_path), patience=QUICK)
    assert not list(tmp_path.rglob("data"))


def test_without_a_network_the_command_line_states_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as gone:
        address = gone.address
    monkeypatch.setenv("GEARSHIFT_WEIGHTS_ADDRESS", address)
    monkeypatch.setenv("GEARSHIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("components.data.download.time.sleep", lambda seconds: None)
    out = tmp_path / "run"
    done = CliRunner().invoke(
        gearshift.app, ["pipeline", "run", "--weights", "coco", "--out", str(out)]
    )
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {address}/yolov8n.pt: nothing came ([Errno 111] ")
    assert "set $GEARSHIFT_WEIGHTS_ADDRESS to a mirror" in line
    assert not out.exists()


def test_a_folder_of_that_name_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    asked = len(server.asked)
    assert ladder_folder("coco") == Path("coco")
    assert len(server.asked) == asked
