from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain_samples import LATENCY_MS, Artifacts
from numpy.typing import NDArray

from components.data.dataset import load_dataset
from components.data.split import load_split
from components.evaluation.average_precision import match_detections
from components.evaluation.challenge import (
    AT_EQUAL_LATENCY,
    CHALLENGER,
    CHAMPION,
    ChallengeConfig,
    ChallengeSummary,
    challenge,
)
from components.evaluation.retraining_page import write_retraining
from components.policy.label import LabelConfig, label
from components.profiling.detections import load_profiles
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER

NANO, SMALL, LARGE = range(3)


@dataclass(frozen=True)
class Fixed:
    """A policy that always takes one rung, whatever it sees and at every operating point."""

    rung: int
    latency_weight: float = 0.1

    @property
    def revision(self) -> str:
        return f"{self.rung:012d}"

    def decide(self, observations: NDArray[np.float32]) -> tuple[NDArray[np.int64], Any]:
        return np.full(len(observations), self.rung), None


@pytest.fixture(scope="module")
def made(prepared: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifacts, Path]:
    """The prepared stages with half the clips held out, and their replay."""
    from components.data.split import SplitConfig, split

    folder = tmp_path_factory.mktemp("challenge")
    parts, replay = folder / "split.json", folder / "replay"
    split(prepared.dataset, parts, SplitConfig(train=0.17, validation=0.16, test=0.67))
    label(
        prepared.dataset,
        prepared.detections,
        prepared.timings,
        prepared.observations,
        parts,
        replay,
        LabelConfig(),
    )
    return prepared, folder


def groups_of(made: tuple[Artifacts, Path]) -> dict[str, NDArray[np.int64]]:
    """Held-out clips, every other one old; and all that is learned from besides."""
    data = load_dataset(made[0].dataset)
    held_out = set(load_split(made[1] / "split.json").test.tolist())
    clips = [
        data.image_ids[c.indexes]
        for c in data.clips
        if int(data.image_ids[c.indexes[0]]) in held_out
    ]
    rest = np.array([i for i in data.image_ids.tolist() if i not in held_out])
    return {
        "old": np.concatenate([*clips[::2], rest]),
        "new": np.concatenate(clips[1::2]),
    }


def compare(made: tuple[Artifacts, Path], one: int, two: int, **config: Any) -> ChallengeSummary:
    artifacts, folder = made
    settings = ChallengeConfig(**({"bootstrap": 60, "latency_ratio": 2.0} | config))
    return challenge(
        artifacts.dataset,
        artifacts.detections,
        folder / "replay",
        groups_of(made),
        Fixed(one),
        Fixed(two),
        0.5,
        folder / "challenge.json",
        settings,  # type: ignore[arg-type]  # as a Policy decides
    )


def test_figures_are_those_of_the_held_out_frames(made: tuple[Artifacts, Path]) -> None:
    summary = compare(made, NANO, LARGE)
    data = load_dataset(made[0].dataset)
    found = list(load_profiles(made[0].detections).values())
    held_out = load_split(made[1] / "split.json").test
    for name, side in (("old", summary.old), ("new", summary.new)):
        ids = [i for i in groups_of(made)[name].tolist() if i in held_out]
        matched = match_detections(
            data.subset(ids), [rows.select(ids) for rows in found], found[0].classes
        )
        top = matched.mean_average_precision(LARGE)
        kept = matched.mean_average_precision(NANO) / top
        assert (side.frames, side.clips) == (len(ids), len(ids) // 6)
        assert side.rows[CHAMPION]["retained"] == pytest.approx(kept)
        assert side.rows[CHALLENGER]["retained"] == pytest.approx(1)
        assert side.change == pytest.approx(1 - kept)
        assert side.rows[f"always-{LADDER[NANO]}"]["map"] == pytest.approx(kept * top)
        assert side.agreement == 0
        # Champion and challenger pay for the look at the frame as well; large alone does not.
        slow = LATENCY_MS[LARGE]
        assert side.rows[CHALLENGER]["latency_ratio"] == pytest.approx(1 + 0.5 / slow, rel=0.05)
        # The champion has one operating point only, so latency buys it nothing.
        assert side.rows[AT_EQUAL_LATENCY]["retained"] == pytest.approx(kept)
        low, high = side.change_interval
        assert low <= side.change <= high


def test_better_is_released(made: tuple[Artifacts, Path], tmp_path: Path) -> None:
    summary = compare(made, NANO, LARGE)
    assert summary.verdict.passed
    reported = json.loads((made[1] / "challenge.json").read_text())
    assert [check["passed"] for check in reported["verdict"]["checks"]] == [True] * 3
    shown = reported | {
        "outcome": "released <now>",
        "gate_passed": True,
        "old_data_held_out_from_champion": False,
        "feedback": None,
        "harvest": {
            "images": 9,
            "clips": 2,
            "answered": 90,
            "labelled": {"shadow": 9},
            "first": "noon",
            "last": "later",
        },
    }
    write_retraining(shown, tmp_path / "page.html", "evaluation.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "released &lt;now&gt;" in page and "favours the champion" in page
    assert f"{reported['sides'][1]['change']:+.2%}" in page and "mAP50-95" in page
    write_retraining(shown | {"task": "speech"}, tmp_path / "speech.html", "evaluation.html")
    speech_page = (tmp_path / "speech.html").read_text(encoding="utf-8")
    assert "word error rate" in speech_page and "mAP50-95" not in speech_page


def test_worse_forgets_and_is_refused(made: tuple[Artifacts, Path]) -> None:
    summary = compare(made, LARGE, NANO)
    assert not summary.verdict.passed
    assert "old_change_low" in summary.verdict.refusal
    assert "new_change_low" in summary.verdict.refusal
    assert summary.old.change < 0


def test_the_same_policy_is_no_gain(made: tuple[Artifacts, Path]) -> None:
    summary = compare(made, SMALL, SMALL)
    assert (summary.old.change, summary.new.change_interval) == (0, (0, 0))
    assert [check.passed for check in summary.verdict.checks] == [True, False, True]


def test_a_gain_too_dear_is_refused(made: tuple[Artifacts, Path]) -> None:
    summary = compare(made, NANO, LARGE, latency_ratio=0.42)
    assert [check.passed for check in summary.verdict.checks] == [True, True, False]


def test_what_was_not_held_out_cannot_be_compared(made: tuple[Artifacts, Path]) -> None:
    artifacts, folder = made
    old = groups_of(made)["old"]
    summary = challenge(
        artifacts.dataset,
        artifacts.detections,
        folder / "replay",
        {"old": old, "new": np.array([], np.int64)},
        Fixed(NANO),
        Fixed(LARGE),
        0.5,
        folder / "none.json",
        ChallengeConfig(bootstrap=20),  # type: ignore[arg-type]  # as a Policy decides
    )
    assert summary.new.frames == 0
    assert not summary.verdict.passed
    assert "new_change_low is not measured" in summary.verdict.refusal


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigurationError, match="forgetting is -0.1"):
        ChallengeConfig(forgetting=-0.1)
    with pytest.raises(ConfigurationError, match="lowest below the highest"):
        ChallengeConfig(lowest_latency_weight=2.0)
