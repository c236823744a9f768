from __future__ import annotations

from pathlib import Path

import pytest

from components.experiments.curves import band_of, read_seeds


def log(out: Path, seed: int, text: str) -> None:
    file = out / "policies" / f"seed-{seed}" / "training.csv"
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_mean_and_band_where_every_seed_has_a_row(tmp_path: Path) -> None:
    log(tmp_path, 0, "timesteps,reward\n100,1.0\n200,2.0\n300,3.0\n")
    log(tmp_path, 1, "timesteps,reward\n100,2.0\n200,6.0\n")
    log(tmp_path, 2, "timesteps,reward\n100,nonsense\n")
    log(tmp_path, 3, "")
    assert list(read_seeds(tmp_path)) == ["seed-0", "seed-1"]
    band = band_of(tmp_path, "reward")
    assert band is not None and (band.seeds, band.steps) == (2, (100, 200))
    assert band.mean == pytest.approx((1.5, 4.0))
    assert (band.low, band.high) == ((1.0, 2.0), (2.0, 6.0))
    assert band_of(tmp_path, "entropy") is None and band_of(tmp_path / "none", "reward") is None
