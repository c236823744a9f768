"""The gateway in front of rungs that read: texts in answers, and the policy of their task."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gateway_samples import LADDER, Rungs, gateway_settings, jpeg, served
from tiny_models import MakePolicy

from feature_transformer.image import Frame
from feature_transformer.text_features import TEXT_SCHEMA_HASH
from inference_graph.contract import Answer
from inference_graph.gateway.rungs import LocalRung
from inference_graph.prediction_log.reader import read_log


class ReadingRung(LocalRung):
    """A detector that returns what it reads in each of its boxes: the name of the rung."""

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        answer = await super().detect(frame, timeout, frame_id)
        found = answer.detections
        texts = (answer.rung.upper(),) * len(found)
        return dataclasses.replace(answer, detections=dataclasses.replace(found, texts=texts))


def test_each_line_is_answered_with_its_text(
    rungs: Rungs, make_policy: MakePolicy, tmp_path: Path
) -> None:
    policy = make_policy(bias=(0, 1, 0), notes={"gearshift.schema_hash": TEXT_SCHEMA_HASH})
    reading = {name: ReadingRung(rungs[name].rung._detector) for name in LADDER}
    settings = gateway_settings(policy=policy, log_url=str(tmp_path / "log"))
    with served(settings, reading) as gateway:
        answer = gateway.http.post(
            "/v1/detect", content=jpeg(), headers={"content-type": "image/jpeg"}
        ).json()
    assert answer["answered_by"] == "small"
    assert [one["text"] for one in answer["detections"]] == ["SMALL"] * 2
    # The log keeps what was read, too.
    (row,) = read_log(settings.log_url).to_pylist()
    assert row["texts"] == ["SMALL"] * 2 and row["shadow_texts"] is None
