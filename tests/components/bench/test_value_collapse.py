from __future__ import annotations

from pathlib import Path

import pytest
from replay_samples import learnable_replay

from components.bench.value_collapse import BenchCollapseConfig, bench_collapse


def test_only_a_fitted_critic_knows_the_clones_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = BenchCollapseConfig(timesteps=6_144, clone_steps=60)
    found = bench_collapse(learnable_replay(), config)
    # The first row stands before the first update: both are the clone still.
    for curve in (found.fitted, found.untrained):
        assert curve.timesteps == (6_144,)
        assert curve.reward[0] == pytest.approx(found.clone)
    assert found.fitted.explained_variance[0] > 0.3
    assert found.untrained.explained_variance[0] < 0.1
    assert not list(tmp_path.glob("SB3*"))  # PPO leaves no log of its own
