"""Bundles of engines that packages bring: what they hold, and a device that answers texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from edge_samples import climbing_policy
from tiny_models import MakePolicy

from feature_transformer.sound import SAMPLE_RATE, wav_of
from feature_transformer.speech_features import SPEECH_SCHEMA_HASH
from feature_transformer.text_features import TEXT_SCHEMA_HASH
from foundation.errors import ConfigurationError, ModelError, SchemaMismatch, StorageError
from foundation.signing.keys import new_key
from foundation.signing.trust import trust_key
from inference_graph.contract import LADDER
from inference_graph.control.edge.bundle import read_bundle, write_bundle
from inference_graph.control.edge.config import EdgeConfig
from inference_graph.control.edge.run import EdgeRun, run_edge
from inference_graph.prediction_log.reader import read_log

GRAMMAR = Path(__file__).resolve().parents[4] / "ladder" / "speech" / "commands.gram"


def engines(folder: Path, **options: object) -> dict[str, Path]:
    """A ladder whose rungs differ in nothing but an option that changes no answer here."""
    folder.mkdir()
    ladder = {rung: folder / f"{rung}.json" for rung in LADDER}
    for number, file in enumerate(ladder.values()):
        tuned = {"longest": 1000 + number} if options["engine"] == "tesseract" else {}
        file.write_text(json.dumps(options | tuned))
    return ladder


def test_a_device_reads_text(make_policy: MakePolicy, tmp_path: Path) -> None:
    pytest.importorskip("tesserocr")
    policy = climbing_policy(make_policy, **{"gearshift.schema_hash": TEXT_SCHEMA_HASH})
    ladder = engines(tmp_path / "ladder", engine="tesseract")
    out, trust = tmp_path / "edge.tar", tmp_path / "trust.json"
    private, public = new_key("release", tmp_path)
    trust_key(trust, public)
    config = EdgeConfig(threads=1, shadow_share=1.0)
    written = write_bundle(out, policy, ladder, config, private)
    assert len(set(written.ladder.values())) == 3
    bundle = read_bundle(out, trust)
    assert set(bundle.files) == {"policy.onnx", *(f"ladder/{rung}.json" for rung in LADDER)}
    assert {rung: one[:12] for rung, one in bundle.engines.items()} == written.ladder

    place = tmp_path / "frames"
    place.mkdir()
    for number, width in enumerate((260, 300, 340)):  # sizes of documents differ
        page = np.full((70, width, 3), 255, np.uint8)
        cv2.putText(page, "OPEN GATE", (20, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (0, 0, 0), 2)
        cv2.imwrite(str(place / f"{number}.png"), page)
    answers: list[dict[str, object]] = []
    run = EdgeRun("kiosk")
    run_edge(
        bundle, str(place), tmp_path / "log", run, on_answer=lambda one: answers.append({**one})
    )
    # The context is kept, so each frame is answered by the rung above the one before.
    assert [one["answered_by"] for one in answers] == list(LADDER)
    assert [one["detections"][0]["text"] for one in answers] == ["OPEN GATE"] * 3  # type: ignore[index]
    rows = read_log(str(tmp_path / "log")).to_pylist()
    assert [row["texts"] for row in rows] == [["OPEN GATE"]] * 3
    assert [row["agreement"] for row in rows[:2]] == [1.0, 1.0]
    assert rows[0]["shadow_texts"] == ["OPEN GATE"]


def test_a_device_transcribes_commands(make_policy: MakePolicy, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    policy = make_policy(notes={"gearshift.schema_hash": SPEECH_SCHEMA_HASH})
    ladder = engines(tmp_path / "ladder", engine="pocketsphinx", grammar=GRAMMAR.name)
    out = tmp_path / "edge.tar"
    with pytest.raises(StorageError, match=f"cannot read .*{GRAMMAR.name}"):
        write_bundle(out, policy, ladder, EdgeConfig(threads=1))
    shutil.copy(GRAMMAR, tmp_path / "ladder")
    write_bundle(out, policy, ladder, EdgeConfig(threads=1))
    bundle = read_bundle(out)
    assert bundle.files[f"ladder/{GRAMMAR.name}"] == GRAMMAR.read_bytes()
    noise = np.random.default_rng(0).integers(-900, 900, SAMPLE_RATE).astype(np.int16)
    (tmp_path / "call.wav").write_bytes(wav_of(noise))
    call = str(tmp_path / "call.wav")
    summary = run_edge(bundle, call, tmp_path / "log", EdgeRun("door"))
    (row,) = read_log(str(tmp_path / "log")).to_pylist()
    assert (summary.frames, row["height"], row["width"]) == (1, 400, 40)
    assert isinstance(row["texts"], list)


def test_what_no_device_could_run_is_refused(
    make_policy: MakePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tesserocr")
    ladder, out = engines(tmp_path / "ladder", engine="tesseract"), tmp_path / "edge.tar"
    fixed = EdgeConfig(threads=1, always="nano")
    with pytest.raises(SchemaMismatch, match="for ocr"):
        write_bundle(out, make_policy(), ladder, EdgeConfig(threads=1))
    with pytest.raises(ConfigurationError, match=r"mixes \.json and \.onnx"):
        write_bundle(out, None, {**ladder, "large": tmp_path / "large.onnx"}, fixed)
    assert not out.exists()
    write_bundle(out, None, ladder, fixed)
    # Packages of the device bring another model than those of the machine that packed.
    bundle = read_bundle(out)
    monkeypatch.setattr("inference_graph.tasks.engine_rung.sha256_file", lambda file: "0" * 64)
    with pytest.raises(ModelError, match="install the packages that it was made with"):
        bundle.rung("nano")
