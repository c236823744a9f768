"""The three frames of the report are those that a plain search over the replay finds."""

from __future__ import annotations

import base64
import json
import re

import cv2
import numpy as np
import pytest
from chain_samples import Artifacts

from components.data.dataset import load_dataset
from components.evaluation.example_frames import example_frames
from components.evaluation.report import write_report
from components.profiling.detections import load_profiles
from components.profiling.replay import load_replay
from inference_graph.contract import LADDER


def test_the_frames_are_the_easiest_the_hardest_and_the_most_regretted(chain: Artifacts) -> None:
    data, replay = load_dataset(chain.dataset), load_replay(chain.replay).part("test")
    found = list(load_profiles(chain.detections).values())
    choice = np.arange(len(replay)) % len(LADDER)
    examples = {one.kind: one for one in example_frames(replay, data, found, choice, 0.1)}
    assert list(examples) == ["easiest", "hardest", "most regretted"]

    quality = replay.quality.tolist()
    losses = [round(row[2] - row[0], 6) for row in quality]
    for kind, wanted in (("easiest", min(losses)), ("hardest", max(losses))):
        shown = examples[kind].quality
        assert round(shown["large"] - shown["nano"], 6) == wanted
    regrets = [
        max(row) - row[rung]
        for row, rung in zip(replay.reward(0.1).tolist(), choice.tolist(), strict=True)
    ]
    assert examples["most regretted"].regret == pytest.approx(max(regrets))
    assert examples["most regretted"].best != examples["most regretted"].chosen
    for one in examples.values():
        jpeg = base64.b64decode(one.picture.removeprefix("data:image/jpeg;base64,"))
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None and max(image.shape) <= 640


def test_one_row_does_not_stretch_an_axis(chain: Artifacts) -> None:
    report = json.loads((chain.report / "report.json").read_text())
    plain = _page(report, chain)
    report["points"]["cascade"].append({"name": "far", "retained": 0.001, "latency_ratio": 24.7})
    report["curve"][0]["gap_share"] = -530.0
    stretched = _page(report, chain)
    assert _ranges(stretched, "pareto") == _ranges(plain, "pareto")
    ((low, high),) = _ranges(stretched, "curve")
    assert -0.3 <= low < high <= 1.3
    assert "Outside the chart:" in stretched and "cascade (" in stretched


def _page(report: dict[str, object], chain: Artifacts) -> str:
    path = chain.report.parent / "page.html"
    write_report(report, path)
    text = path.read_text("utf-8")
    path.unlink()
    return text


def _ranges(text: str, chart: str) -> list[list[float]]:
    """The ranges of both axes, as the page gives them to Plotly."""
    script = text[text.index(f'Plotly.newPlot(                        "{chart}"') :]
    script = script[: script.index("</script>")]
    return [json.loads(found) for found in re.findall(r'"range":(\[[^\]]*\])', script)]
