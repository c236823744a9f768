from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chain_samples import LATENCY_MS, Artifacts

from components.data.dataset import load_dataset
from components.evaluation.judge import JudgeConfig, bench_of, judge_policy
from components.evaluation.tracked import tracked
from components.policy.closed_loop import route
from components.profiling.detections import load_profiles
from components.profiling.stored_clips import load_clips, pack_part, write_manifest
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.router import Policy

QUICK = JudgeConfig(points=4, bootstrap=20, latency_ratios=(0.3, 0.6))


@pytest.fixture(scope="module")
def clips(chain: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    data, found = load_dataset(chain.dataset), load_profiles(chain.detections)
    for part, chosen in (("learn", [0, 1]), ("tune", range(6)), ("test", range(6, 12))):
        members = np.concatenate([data.clips[index].indexes for index in chosen])
        ids = data.image_ids[members].tolist()
        rows = {rung: profile.select(ids) for rung, profile in found.items()}
        # The middle network resized sees what the other rungs see, in more time.
        sized = {rung: rows[rung] for rung in ("nano", "large")}
        pack_part(data.subset(ids), rows, folder / f"{part}.npz", sized)
    facts = {
        "latency_ms": dict(zip(LADDER, LATENCY_MS, strict=True)),
        "sized": {
            rung: {"input_size": [32, 32 + index], "latency_ms": ms * 1.1}
            for index, (rung, ms) in enumerate(zip(LADDER, LATENCY_MS, strict=True))
        },
    }
    write_manifest(folder, {"sha256": {}}, facts)
    return folder


def test_the_policy_is_judged_on_the_test_clips(chain: Artifacts, clips: Path) -> None:
    policy = chain.policies / "policy.onnx"
    found = judge_policy(policy, clips, QUICK)
    assert (found.clips, found.frames) == (6, 36)
    bench, released = bench_of(load_clips(clips, "test")), Policy(policy)
    choice = route(bench.replay, lambda seen: released.decide(seen)[0], released.latency_weight)
    accuracy = bench.matched.mean_average_precision(choice)
    large = bench.matched.mean_average_precision(2)
    assert found.released.retained.value == pytest.approx(accuracy / large)
    latency = np.array(LATENCY_MS)[choice].mean() + QUICK.router_ms
    assert found.released.latency_ratio == pytest.approx(latency / LATENCY_MS[-1], rel=1e-5)
    assert found.released.shares == {
        rung: pytest.approx(float(np.mean(choice == index))) for index, rung in enumerate(LADDER)
    }
    assert found.tracked.latency_ratio == pytest.approx(
        (latency + QUICK.tracker_ms) / LATENCY_MS[-1], rel=1e-5
    )
    assert list(found.gap_shares) == ["0.30", "0.60"]
    known = [share.value for share in found.gap_shares.values() if share.value is not None]
    assert found.mean_gap_share.value == pytest.approx(np.mean(known))
    ceiling = found.own_answers_gap_share.value
    assert ceiling is not None and found.of_own_answers.value == pytest.approx(
        found.mean_gap_share.value / ceiling if ceiling > 0 else None
    )
    assert found.lift.rule != "edge-density"
    rows = found.baselines
    fixed = ["always-nano", "always-small", "always-large", "small@32x32", "small@32x34"]
    assert list(rows)[:5] == fixed and list(rows)[-1] == "adascale"
    assert rows["always-large"].retained.value == rows["small@32x34"].retained.value == 1.0
    assert rows["small@32x34"].latency_ratio == pytest.approx(1.1)
    every_large = np.full(len(choice), 2)
    seen = tracked(bench, bench.rung("large", every_large), 0.0)
    assert rows["always-large"].tracked.value == pytest.approx(bench.accuracy(seen) / large)
    lead = found.released.retained.value - rows["always-nano"].retained.value
    assert rows["always-nano"].lead.value == pytest.approx(lead)
    assert rows[found.lift.rule].lead.value == pytest.approx(found.lift.over_rule.value)


def test_a_policy_that_reads_pixels_cannot_be_judged_without_them(
    chain: Artifacts, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.evaluation.judge.Policy", _ReadsPixels)
    with pytest.raises(ConfigurationError, match="reads the frame's own pixels"):
        judge_policy(chain.policies / "policy.onnx", clips, QUICK)


class _ReadsPixels(Policy):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.uses_frame = True
