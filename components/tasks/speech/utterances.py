"""Sample data of the task ``speech``: commands and talk, spoken by espeak-ng from a seed.

A clip is what one device sends: recordings of one speaker in one place, under conditions that
change slowly. Most of a clip's sentences are of one kind.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER
from components.data.text_payload import TextPayload
from components.parallel import Progress, no_progress, ordered_map
from components.tasks.speech.sentences import KINDS, sentence
from feature_transformer.decoding.header import read_header
from feature_transformer.sound import SAMPLE_RATE, Samples, as_integers, resampled, wav_of
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, StorageError
from foundation.storage import atomic_path
from inference_graph.tasks.speech.listener import SPEECH

CONDITIONS = ("quiet", "busy", "loud")
"""Where the recordings of a clip were made, by how much is lost there."""
_VOICES = (
    "en-us",
    "en-gb",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-us+f2",
    "en-us+m3",
    "en-us+m7",
    "en-us+klatt4",
    "en-us+steph",
    "en-us+adam",
)
_OTHER_KIND = 0.15
_PAUSE_SECONDS = 0.2
_ECHO_SECONDS = 0.25


@configuration
class UtterancesConfig:
    """What to record.

    Attributes:
        clips: number of clips.
        clip_frames: recordings of each clip.
        seed: the same seed gives the same recordings, with one version of espeak-ng.
    """

    clips: Annotated[int, Field(ge=1)] = 60
    clip_frames: Annotated[int, Field(ge=1)] = 8
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class RecordingDamage:
    """How speech is recorded.

    Attributes:
        noise: its level in decibels over the speech's, usually negative.
        hum: how much of the noise is low, 0..1.
        echo: level of the room's echo over the speech's, 0..1.
        band: highest frequency that is left, in hertz.
        loudness: largest sample, 0..1.
    """

    noise: float
    hum: float
    echo: float
    band: float
    loudness: float

    @staticmethod
    def drawn(rng: np.random.Generator, strength: float) -> RecordingDamage:
        """Draw how one device records; ``strength`` 0..1 is how bad it may be."""
        narrow = rng.random() < 0.5 * strength
        return RecordingDamage(
            noise=-36 + 32 * strength * float(rng.random()) ** 0.5,
            hum=float(rng.random()),
            echo=0.7 * strength * float(rng.random()),
            band=float(rng.uniform(2800, 4000)) if narrow else SAMPLE_RATE / 2,
            loudness=10 ** (-1.2 * strength * float(rng.random())),
        )

    def between(self, other: RecordingDamage, share: float) -> RecordingDamage:
        """This one, and ``share`` of the way to another."""
        theirs = vars(other)
        return RecordingDamage(
            **{name: (1 - share) * own + share * theirs[name] for name, own in vars(self).items()}
        )


_Recording = tuple[str, tuple[int, int], dict[str, Any], str]
"""File name, size, attributes and what is said."""


def write_utterances(config: UtterancesConfig, out: Path, progress: Progress = no_progress) -> None:
    """Record a folder in COCO's format, each annotation with what is said.

    Args:
        config: what to record.
        out: the folder; appears whole or not at all.
        progress: called with recordings done and in all.

    Raises:
        ConfigurationError: espeak-ng is not installed.
        StorageError: the disk is full.
    """
    if shutil.which("espeak-ng") is None:
        raise ConfigurationError(
            "the sample's sentences are spoken by espeak-ng, which is not installed; "
            "apt-get install espeak-ng"
        )
    payload = TextPayload(SPEECH, "word", "commands and talk")
    with atomic_path(out) as folder:
        (folder / IMAGES_FOLDER).mkdir(parents=True)

        def record(clip: int) -> list[_Recording]:
            return _clip(config, clip, folder / IMAGES_FOLDER)

        for clip in ordered_map(record, range(config.clips)):
            for name, size, attributes, text in clip:
                payload.add(name, size, attributes, [(text, (0, 0, *size))])
            progress(len(payload), config.clips * config.clip_frames)
        text = json.dumps(payload.content) + "\n"
        (folder / ANNOTATIONS_FILE).write_text(text, encoding="utf-8")


def _clip(config: UtterancesConfig, clip: int, folder: Path) -> list[_Recording]:
    rng = np.random.default_rng((config.seed, clip))
    kind, voice = str(rng.choice(KINDS)), str(rng.choice(_VOICES))
    condition = str(rng.choice(CONDITIONS))
    strength = (CONDITIONS.index(condition) + rng.random()) / len(CONDITIONS)
    start, end = (RecordingDamage.drawn(rng, strength) for _ in range(2))
    speed, pitch = int(rng.integers(120, 150 + int(40 * strength))), int(rng.integers(35, 66))
    found = []
    for frame in range(config.clip_frames):
        other = rng.random() < _OTHER_KIND
        words = sentence(rng, KINDS[1 - KINDS.index(kind)] if other else kind)
        damage = start.between(end, 0.5 * frame / config.clip_frames)
        samples = recorded(rng, spoken(words, voice, speed, pitch), damage)
        name = f"{clip:04d}-{frame:03d}.wav"
        content = wav_of(samples)
        (folder / name).write_bytes(content)
        header = read_header(content)
        attributes = {
            "clip": f"{kind}-{clip:04d}",
            "frame_index": frame,
            "condition": condition,
        }
        found.append((name, (header.width, header.height), attributes, words))
    return found


def spoken(text: str, voice: str, speed: int, pitch: int) -> Samples:
    """What espeak-ng says, at 16 kHz.

    Args:
        text: the sentence.
        voice: of espeak-ng's.
        speed: words a minute.
        pitch: 0 to 99.

    Raises:
        StorageError: espeak-ng failed.
    """
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", "--", text]
    run = subprocess.run(command, capture_output=True, check=False)
    at = run.stdout.find(b"data")
    if run.returncode or at < 0:
        raise StorageError(
            f"espeak-ng failed with code {run.returncode} for the voice {voice}: "
            f"{run.stderr.decode(errors='replace').strip()[:200]}"
        )
    rate = int.from_bytes(run.stdout[24:28], "little")
    stored = run.stdout[at + 8 :]
    samples = np.frombuffer(stored[: len(stored) // 2 * 2], "<i2").astype(np.float32)
    return resampled(samples / 32768.0, rate)


def recorded(
    rng: np.random.Generator, samples: Samples, damage: RecordingDamage
) -> NDArray[np.int16]:
    """Speech as a device records it: echo, what the line lets through, noise, loudness."""
    length = int(_ECHO_SECONDS * SAMPLE_RATE)
    room = rng.normal(size=length) * np.exp(-np.arange(length) / (SAMPLE_RATE * 0.05))
    room[0] = 0.0
    room *= damage.echo / np.sqrt((room**2).sum())
    room[0] = 1.0
    pause = np.zeros(int(_PAUSE_SECONDS * SAMPLE_RATE))
    speech = np.concatenate([pause, samples, pause])
    whole = len(speech) + length
    frequencies = np.fft.rfftfreq(whole, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(speech, whole) * np.fft.rfft(room, whole)
    spectrum[frequencies > damage.band] = 0
    reflected = np.fft.irfft(spectrum, whole)[: len(speech)]
    noise = np.fft.rfft(rng.normal(size=len(speech)))
    noise /= np.maximum(np.fft.rfftfreq(len(speech), 1 / SAMPLE_RATE), 60.0) ** (0.5 * damage.hum)
    hiss = np.fft.irfft(noise, len(speech))
    level = np.sqrt((reflected**2).mean() / (hiss**2).mean())
    mixed = reflected + hiss * level * 10 ** (damage.noise / 20)
    return as_integers((mixed / np.abs(mixed).max() * damage.loudness).astype(np.float32))
