"""The stages from profile to gate and drift reference, on documents and readers made up here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from chain_samples import write_timings

from components.data.dataset import Dataset, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.observe import ObserveConfig, observe
from components.data.split import SplitConfig, split
from components.drift.reference import load_reference, make_reference
from components.evaluation.evaluate import EvaluateConfig, evaluate
from components.evaluation.gate import GateConfig, gate
from components.policy.clone import CloneConfig, clone
from components.policy.label import LabelConfig, label
from components.policy.refine import RefineConfig, refine
from components.profiling.detections import load_detections
from components.profiling.profile import profile_rung
from components.profiling.replay import load_replay
from components.tasks.ocr.documents import CONDITIONS, DocumentsConfig, write_documents
from foundation.errors import SchemaMismatch
from inference_graph.contract import LADDER, Answer, Detections
from inference_graph.router import Policy
from inference_graph.tasks.ocr.reading import one_minus_ned

pytest.importorskip("rapidfuzz")
pytest.importorskip("PIL")
_LOST = {"clean": (0.0, 0.0, 0.0), "worn": (0.4, 0.05, 0.0), "poor": (0.9, 0.3, 0.05)}
"""Share of the characters that each rung misreads, by condition."""


class _Reader:
    """Reads the truth, with a share of the characters as question marks."""

    task, reads, batches = "ocr", True, False
    class_names, category_ids, input_size = ("text",), (1,), (640, 640)
    sha256, revision = "0" * 64, "0" * 12

    def __init__(self, data: Dataset, rung: str) -> None:
        self.config = SimpleNamespace(rung=rung, weights=Path(f"{rung}.json"))
        self._data, self._next = data, 0

    def detect(self, frame: np.ndarray) -> Answer:
        index, self._next = self._next, self._next + 1
        lost = _LOST[self._data.images[index].condition][LADDER.index(self.config.rung)]
        lines = self._data.text_of(index).splitlines()
        rng = np.random.default_rng(index)
        texts = tuple("".join("?" if rng.random() < lost else c for c in line) for line in lines)
        boxes = [[0, 20 * row, 90, 20 * row + 18] for row in range(len(lines))]
        scores = np.full(len(lines), 0.95 - 0.5 * lost, np.float32)
        found = Detections(
            np.array(boxes, np.float32), scores, np.zeros(len(lines), np.int32), texts
        )
        times = {"preprocess": 0.1, "inference": 1.0, "postprocess": 0.1}
        return Answer(found, times, self.config.rung, self.revision)


def test_documents_from_profile_to_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_documents(DocumentsConfig(clips=24, clip_frames=2, seed=3), tmp_path / "drawn")
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
    dataset = tmp_path / "dataset"
    ingest(str(tmp_path / "drawn"), dataset, config)
    data = load_dataset(dataset)
    assert {image.condition for image in data.images} == set(CONDITIONS)
    paths = {name: tmp_path / name for name in ("split", "seen", "times", "replay", "clones")}
    split(dataset, paths["split"], SplitConfig(train=0.5, validation=0.2, test=0.3))
    observe(dataset, paths["seen"], ObserveConfig(workers=1))

    def opened(rung: str, weights: Path, config: Any) -> _Reader:
        return _Reader(data, rung)

    monkeypatch.setattr("components.profiling.profile.open_rung", opened)
    profiles = {rung: tmp_path / f"profile-{rung}" for rung in LADDER}
    for rung, path in profiles.items():
        profile_rung(dataset, Path(f"{rung}.json"), rung, path)
    nano = load_detections(profiles["nano"])
    write_timings(paths["times"], data)

    found = label(
        dataset,
        profiles,
        paths["times"],
        paths["seen"],
        paths["split"],
        paths["replay"],
        LabelConfig(),
    )
    # A frame's quality is 1-NED of its text, and its mean over the frames the set's accuracy.
    replay = load_replay(paths["replay"])
    assert replay.task == "ocr"
    row = data.index_of(replay.image_ids[:1])[0]
    read = " ".join(nano.select([data.images[row].id]).texts or ())
    assert replay.quality[0, 0] == pytest.approx(one_minus_ned(data.text_of(row), read))
    assert found.mean_quality["nano"] < found.mean_quality["small"] < found.mean_quality["large"]

    recipe = CloneConfig(
        seeds=1, steps=120, batch=64, members=2, hidden=8, threads=1, uses_frame=True
    )
    clone(paths["replay"], paths["clones"], recipe)
    policies, report = tmp_path / "policies", tmp_path / "report"
    brief = RefineConfig(
        timesteps=1_000,
        rollout_steps=16,
        batch=256,
        epochs=1,
        critic_rollouts=2,
        critic_epochs=5,
        fleets=1,
        threads=1,
    )
    refine(paths["replay"], paths["clones"], policies, brief)
    assert Policy(policies / "policy.onnx", task="ocr").uses_frame
    with pytest.raises(SchemaMismatch):
        Policy(policies / "policy.onnx", task="detection")
    evaluate(
        dataset,
        profiles,
        paths["times"],
        paths["replay"],
        policies,
        report,
        EvaluateConfig(points=4, bootstrap=20, fleet_sizes=(1,)),
    )
    content = json.loads((report / "report.json").read_text())
    assert (content["task"], content["tracked"]) == ("ocr", None)
    rows = {row["name"]: row for row in content["rows"]}
    judged = replay.part("test")
    for index, rung in enumerate(LADDER):
        expected = judged.quality[:, index].mean()
        assert rows[f"always-{rung}"]["map"] == pytest.approx(expected, abs=1e-6)
    assert set(content["classes"]) == {"text", "words"}
    assert content["data"]["objects_judged"] == len(judged)
    page = (report / "report.html").read_text()
    assert "1 − normalised edit distance" in page and "With a tracker" not in page
    words = re.sub("<script.*?</script>|<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    assert not re.search(r"mAP|\bAP\d|\bboxes\b|\bobjects\b|COCO", words)
    verdict = gate(report / "report.json", tmp_path / "gate", GateConfig())
    assert {check.name for check in verdict.checks} >= {"retained", "lift_over_hull_low"}

    make_reference(dataset, profiles, paths["replay"], policies, tmp_path / "reference.parquet")
    usual = load_reference(str(tmp_path / "reference.parquet"))
    assert usual.class_names == ("text",)
