"""What the pages read beside the log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dashboard_samples import dashboard_config

from components.drift.reference import REFERENCE_FILE
from dashboards.sources import Sources


def test_the_agreement_in_training_is_that_of_the_held_out_frames(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "calm"
    run.mkdir(parents=True)
    (run / "report.json").write_text(json.dumps({"rows": []}))
    (run / "policy.onnx").write_bytes(b"a policy")
    revision = hashlib.sha256(b"a policy").hexdigest()[:12]
    sources = Sources(dashboard_config(tmp_path))
    try:
        assert sources.trained_agreement(revision) is None
        columns = {"agreement": [1.0, 0.5, 0.0, 0.9], "held_out": [True, True, False, True]}
        pq.write_table(pa.table(columns), run / REFERENCE_FILE)
        assert sources.trained_agreement(revision) == pytest.approx(0.8)
        assert sources.trained_agreement("another") is sources.trained_agreement("") is None
    finally:
        sources.close()
