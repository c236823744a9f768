"""The stages from profile to gate and drift reference, on each task's sample and stub rungs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
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
from components.tasks import task_named
from components.tasks.ocr.documents import DocumentsConfig, write_documents
from components.tasks.speech.utterances import UtterancesConfig, write_utterances
from foundation.errors import SchemaMismatch
from inference_graph.contract import LADDER, Answer, Detections
from inference_graph.router import Policy
from inference_graph.tasks.ocr.reading import one_minus_ned
from inference_graph.tasks.speech.words import one_minus_wer

_LOST = ((0.0, 0.0, 0.0), (0.4, 0.05, 0.0), (0.9, 0.3, 0.05))
"""Share of the parts of a text that each rung misreads, by condition."""


@dataclass(frozen=True)
class _Sample:
    """A task's sample, the unit in which its rungs err, and how its answers are scored.

    Attributes:
        needs: packages.
        write: writes the sample.
        class_name: of the regions.
        conditions: from the easiest on.
        parts: cuts a line into what is misread, and is joined again by.
        quality: of a truth and an answer.
    """

    needs: tuple[str, ...]
    write: Callable[[Path], None]
    class_name: str
    conditions: tuple[str, ...]
    parts: Callable[[str], list[str]]
    joined_by: str
    quality: Callable[[str, str], float]


def _documents(out: Path) -> None:
    write_documents(DocumentsConfig(clips=24, clip_frames=2, seed=3), out)


def _utterances(out: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    write_utterances(UtterancesConfig(clips=24, clip_frames=2, seed=3), out)


_SAMPLES = {
    "ocr": _Sample(
        ("rapidfuzz", "PIL"),
        _documents,
        "text",
        ("clean", "worn", "poor"),
        list,
        "",
        one_minus_ned,
    ),
    "speech": _Sample(
        ("jiwer", "rapidfuzz"),
        _utterances,
        "word",
        ("quiet", "busy", "loud"),
        str.split,
        " ",
        one_minus_wer,
    ),
}


class _Reader:
    """Reads the truth, with a share of its parts as question marks."""

    reads, batches = True, False
    category_ids, input_size = (1,), (640, 640)
    sha256, revision = "0" * 64, "0" * 12

    def __init__(self, data: Dataset, rung: str) -> None:
        self.task, self._sample = data.task, _SAMPLES[data.task]
        self.class_names = (self._sample.class_name,)
        self.config = SimpleNamespace(rung=rung, weights=Path(f"{rung}.json"))
        self._data, self._next = data, 0

    def detect(self, frame: np.ndarray) -> Answer:
        index, self._next = self._next, self._next + 1
        sample = self._sample
        condition = sample.conditions.index(self._data.images[index].condition)
        lost = _LOST[condition][LADDER.index(self.config.rung)]
        lines = self._data.text_of(index).splitlines()
        rng = np.random.default_rng(index)
        texts = tuple(
            sample.joined_by.join(
                "xyz"[: len(part)] if rng.random() < lost else part for part in sample.parts(line)
            )
            for line in lines
        )
        boxes = [[0, 20 * row, 90, 20 * row + 18] for row in range(len(lines))]
        scores = np.full(len(lines), 0.95 - 0.5 * lost, np.float32)
        found = Detections(
            np.array(boxes, np.float32), scores, np.zeros(len(lines), np.int32), texts
        )
        times = {"preprocess": 0.1, "inference": 1.0, "postprocess": 0.1}
        return Answer(found, times, self.config.rung, self.revision)


@pytest.mark.parametrize("task", _SAMPLES)
def test_a_sample_from_profile_to_gate(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = _SAMPLES[task]
    for package in sample.needs:
        pytest.importorskip(package)
    sample.write(tmp_path / "drawn")
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
    dataset = tmp_path / "dataset"
    ingest(str(tmp_path / "drawn"), dataset, config)
    data = load_dataset(dataset)
    assert {image.condition for image in data.images} == set(sample.conditions)
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
    # The set's accuracy is the mean of the quality of its items.
    replay = load_replay(paths["replay"])
    assert replay.task == task
    row = data.index_of(replay.image_ids[:1])[0]
    read = " ".join(nano.select([data.images[row].id]).texts or ())
    truth = " ".join(data.text_of(row).split())
    assert replay.quality[0, 0] == pytest.approx(sample.quality(truth, read))
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
    assert Policy(policies / "policy.onnx", task=task).uses_frame
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
    assert (content["task"], content["tracked"]) == (task, None)
    rows = {row["name"]: row for row in content["rows"]}
    judged = replay.part("test")
    for index, rung in enumerate(LADDER):
        expected = judged.quality[:, index].mean()
        assert rows[f"always-{rung}"]["map"] == pytest.approx(expected, abs=1e-6)
    assert set(content["classes"]) == {"text", "words"}
    assert content["data"]["objects_judged"] == len(judged)
    page = (report / "report.html").read_text()
    assert task_named(task).measure in page and "With a tracker" not in page
    words = re.sub("<script.*?</script>|<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    assert not re.search(r"mAP|\bAP\d|\bboxes\b|\bobjects\b|COCO", words)
    verdict = gate(report / "report.json", tmp_path / "gate", GateConfig())
    assert {check.name for check in verdict.checks} >= {"retained", "lift_over_hull_low"}

    make_reference(dataset, profiles, paths["replay"], policies, tmp_path / "reference.parquet")
    usual = load_reference(str(tmp_path / "reference.parquet"))
    assert usual.class_names == (sample.class_name,)
