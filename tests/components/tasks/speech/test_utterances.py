"""The sample's recordings: what is said, how it is recorded, and how answers are scored."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from components.data.classes import Classes
from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.tasks import task_named
from components.tasks.speech import TASK
from components.tasks.speech.sentences import COMMAND, KINDS, TALK, as_grammar, sentence
from components.tasks.speech.utterances import (
    CONDITIONS,
    RecordingDamage,
    UtterancesConfig,
    recorded,
    write_utterances,
)
from feature_transformer.sound import SAMPLE_RATE, frame_of_sound
from foundation.errors import ConfigurationError
from inference_graph.contract import Detections

GRAMMAR = Path(__file__).resolve().parents[4] / "ladder" / "speech" / "commands.gram"


def test_the_ladders_grammar_is_that_of_the_commands() -> None:
    assert GRAMMAR.read_text() == as_grammar()


def test_commands_can_be_understood_by_the_grammar_and_talk_cannot() -> None:
    pocketsphinx = pytest.importorskip("pocketsphinx")
    rng = np.random.default_rng(0)
    sentences = {kind: {sentence(rng, kind) for _ in range(150)} for kind in KINDS}
    assert len(sentences[COMMAND]) > 120 and len(sentences[TALK]) > 120
    # Every word is one that PocketSphinx knows how to say.
    config = pocketsphinx.Config(samprate=SAMPLE_RATE, loglevel="FATAL", jsgf=str(GRAMMAR))
    decoder = pocketsphinx.Decoder(config)
    words = {word for kind in KINDS for text in sentences[kind] for word in text.split()}
    assert {word for word in words if not decoder.lookup_word(word.lower())} <= {
        "travelled",
        "theatre",
    }
    openings = ("please", "turn", "bring", "call", "move")
    assert all(text.startswith(openings) for text in sentences[COMMAND])
    assert not any(text.startswith(openings) for text in sentences[TALK])


def test_noise_band_and_loudness_are_as_drawn() -> None:
    rng = np.random.default_rng(1)
    tone = np.sin(2 * np.pi * 500 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    found = recorded(
        rng, tone, RecordingDamage(noise=-20, hum=0, echo=0, band=8_000, loudness=0.25)
    )
    assert np.abs(found).max() == pytest.approx(0.25 * 32767, rel=0.01)
    pause, spoken = found[: SAMPLE_RATE // 5].astype(float), found.astype(float)
    # 20 dB below the mean power of the whole, pauses included.
    assert 10 * np.log10((pause**2).mean() / (spoken**2).mean()) == pytest.approx(-20, abs=0.5)
    clear = recorded(rng, tone, RecordingDamage(noise=-200, hum=0, echo=0, band=400, loudness=1))
    kept = np.abs(np.fft.rfft(clear))[int(450 * len(clear) / SAMPLE_RATE) :]
    assert kept.max() < 1e-3 * np.abs(np.fft.rfft(found)).max()
    # An echo goes on where the speech has ended.
    echo = recorded(rng, tone, RecordingDamage(noise=-200, hum=0, echo=0.7, band=8_000, loudness=1))
    assert np.abs(echo[-1500:-1000]).max() > 4 * np.abs(clear[-1500:-1000]).max()


def test_the_same_seed_gives_the_same_recordings(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    config = UtterancesConfig(clips=3, clip_frames=2, seed=4)
    for name in ("first", "second"):
        write_utterances(config, tmp_path / name)
    files = sorted((tmp_path / "first").rglob("*.*"))
    assert len(files) == 7
    for file in files:
        other = tmp_path / "second" / file.relative_to(tmp_path / "first")
        assert file.read_bytes() == other.read_bytes()
    ingest(str(tmp_path / "first"), tmp_path / "data", IngestConfig(cache=str(tmp_path / "cache")))
    data = load_dataset(tmp_path / "data")
    assert (data.task, len(data), len({one.clip for one in data.images})) == ("speech", 6, 3)
    assert {one.condition for one in data.images} <= set(CONDITIONS)
    assert data.read(0).shape == (400, data.images[0].width, 3)
    # Its spectrogram is what facts of pictures are taken from: it is not blank.
    assert all(one.contrast is not None and one.contrast > 0.05 for one in data.images)


def test_without_espeak_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="apt-get install espeak-ng"):
        write_utterances(UtterancesConfig(clips=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_recordings_are_scored_by_their_words() -> None:
    pytest.importorskip("jiwer")
    data = _Transcripts(("open the door", "", "stop here"))
    # The first rung hears two words of three, and nothing of the others; large hears it all.
    few = _answers([["open", "door"], [], []])
    all_ = _answers([["Open", "the", "door."], [], ["stop", "here"]])
    scored = TASK.score(data, [few, all_], Classes((), ()))  # type: ignore[arg-type]
    np.testing.assert_allclose(scored.quality, [[2 / 3, 1], [1, 1], [0, 1]])
    assert scored.accuracy(0) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scored.class_accuracies(0)[1] == pytest.approx(2 / 5)  # words of the set


class _Transcripts(tuple[str, ...]):
    root = "data"

    def text_of(self, index: int) -> str:
        return self[index]


def _answers(texts: list[list[str]]) -> SimpleNamespace:
    words = [word for one in texts for word in one]
    starts = [place for one in texts for place in range(len(one))]
    boxes = np.array([[10 * at, 0, 10 * at + 9, 400] for at in starts], np.float32).reshape(-1, 4)
    return SimpleNamespace(
        offsets=np.cumsum([0, *map(len, texts)]),
        texts=words,
        boxes=boxes,
        scores=np.ones(len(words), np.float32),
    )


def test_people_see_a_spectrogram_with_the_words_below() -> None:
    noise = np.random.default_rng(0).integers(-9000, 9000, SAMPLE_RATE).astype(np.int16)
    frame = frame_of_sound(noise)
    found = Detections(
        np.array([[5, 0, 20, 400]], np.float32),
        np.array([0.1], np.float32),
        np.zeros(1, np.int32),
        ("hello",),
    )
    drawn = task_named("speech").draw(frame, found, ("word",), 0.25)
    assert drawn.shape == (128 + 24, 256, 3)
    strip = drawn[128:]
    assert strip.max() == 255 and strip.min() < 60  # black letters on white
    # A word of a quarter to half a second: its box is there.
    assert (drawn[:128, 32] == (170, 90, 20)).all(axis=1).sum() > 100
