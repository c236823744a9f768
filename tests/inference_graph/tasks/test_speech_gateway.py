"""The gateway in front of rungs that listen: recordings over HTTP and a stream, and in the log."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from gateway_samples import LADDER, Rungs, gateway_settings, served
from tiny_models import MakePolicy

from feature_transformer.image import Frame, check_frame, decode
from feature_transformer.sound import SAMPLE_RATE, sound_of_frame, wav_of
from feature_transformer.speech_features import SPEECH_SCHEMA_HASH
from inference_graph.contract import Answer
from inference_graph.gateway.rungs import LocalRung
from inference_graph.prediction_log.reader import read_log

SOUND = np.random.default_rng(0).integers(-9_000, 9_000, 2 * SAMPLE_RATE).astype(np.int16)


class ListeningRung(LocalRung):
    """Answers a recording with the name of the rung in each region."""

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        check_frame(frame, sound=True)
        answer = await super().detect(np.zeros((64, 64, 3), np.uint8), timeout, frame_id)
        found = answer.detections
        texts = (answer.rung,) * len(found)
        return dataclasses.replace(answer, detections=dataclasses.replace(found, texts=texts))


def test_a_recording_is_routed_answered_and_kept(
    rungs: Rungs, make_policy: MakePolicy, tmp_path: Path
) -> None:
    policy = make_policy(bias=(0, 1, 0), notes={"gearshift.schema_hash": SPEECH_SCHEMA_HASH})
    listening = {name: ListeningRung(rungs[name].rung._detector) for name in LADDER}
    settings = gateway_settings(policy=policy, log_url=str(tmp_path / "log"), image_share=1.0)
    with served(settings, listening) as gateway:
        answer = gateway.http.post(
            "/v1/detect", content=wav_of(SOUND), headers={"content-type": "audio/wav"}
        )
        # A detector in its place says what is wrong.
        refused = gateway.http.post(
            "/v1/detect", content=b"fLaC" + bytes(99), headers={"content-type": "audio/flac"}
        )
    assert answer.status_code == 200, answer.text
    assert [one["text"] for one in answer.json()["detections"]] == ["small"] * 2
    assert refused.status_code == 400 and "or a wav of speech" in refused.text
    (row,) = read_log(settings.log_url).to_pylist()
    assert (row["width"], row["height"], row["texts"]) == (80, 400, ["small"] * 2)
    np.testing.assert_array_equal(sound_of_frame(decode(row["image"])), SOUND)
