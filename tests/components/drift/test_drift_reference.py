"""The reference that a training run leaves: what the log would hold of the very same frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chain_samples import Artifacts

from components.data.dataset import load_dataset
from components.drift.embedding import embed
from components.drift.frames import STATISTICS
from components.drift.reference import REFERENCE_FILE, load_reference, make_reference
from components.policy.closed_loop import route
from components.profiling.detections import load_detections
from components.profiling.replay import load_replay
from feature_transformer.frame_statistics import pixel_statistics
from inference_graph.prediction_log.agreement import agreement
from inference_graph.router import Policy


def test_a_reference_is_what_the_log_would_hold(chain: Artifacts, tmp_path: Path) -> None:
    out = tmp_path / REFERENCE_FILE
    summary = make_reference(chain.dataset, chain.detections, chain.replay, chain.policies, out)
    replay, data = load_replay(chain.replay), load_dataset(chain.dataset)
    assert (summary.frames, summary.clips) == (len(replay), len(replay.clip_bounds))
    assert summary.held_out == int((replay.parts == 2).sum())
    found = load_reference(str(tmp_path))
    frames = found.frames
    assert len(frames) == len(replay)
    assert found.class_names[0] == "person"
    policy = Policy(chain.policies / "policy.onnx")
    assert frames.policy_revision == policy.revision
    assert frames.latency_weight == pytest.approx(policy.latency_weight)
    # Clips are numbered in the order of their names there; time is the frame's number.
    order = frames.time.astype(np.int64)
    choice = route(replay, lambda seen: policy.decide(seen)[0], policy.latency_weight)
    assert frames.rung.tolist() == choice[order].tolist()
    assert frames.held_out.tolist() == (replay.parts[order] == 2).tolist()
    np.testing.assert_allclose(frames.embedding, embed(replay.frames[order]), atol=1e-6)
    profiles = [load_detections(path) for path in chain.detections.values()]
    places = {image.id: index for index, image in enumerate(data.images)}
    for row in (0, len(frames) // 2, len(frames) - 1):
        image = int(replay.image_ids[order[row]])
        index = places[image]
        pixels = pixel_statistics(data.read(index))
        blur = frames.statistics[row, STATISTICS.index("blur")]
        assert blur == pytest.approx(pixels["blur"], rel=1e-5)
        seen, large = profiles[frames.rung[row]].of(index), profiles[-1].of(index)
        assert frames.agreement[row] == pytest.approx(agreement(seen, large), abs=1e-6)
        assert frames.objects[row] == (seen.scores >= 0.25).sum()
