"""Recordings with what is said in them: a text file beside each, or LibriSpeech's layout.

LibriSpeech (Panayotov et al. 2015) has a file ``SPEAKER-CHAPTER.trans.txt`` in each folder of
recordings, a line for each: its name, a space, its transcript.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from components.data.text_payload import TextPayload
from feature_transformer.image import read_header
from feature_transformer.sound import as_integers, resampled, wav_of
from foundation.errors import AnnotationError, ConfigurationError, ImageError
from foundation.storage import atomic_path
from inference_graph.tasks.speech.listener import SPEECH

_WAV, _FLAC = ".wav", ".flac"
_TRANSCRIPTS = "*.trans.txt"


def recordings_in(folder: Path) -> list[Path]:
    """Recordings below a folder, in order of name; empty where none has a transcript.

    A folder with a JSON file is in another format.
    """
    if any(folder.glob("*.json")) or any(folder.glob("annotations/*.json")):
        return []
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (_WAV, _FLAC))
    known = any(file.with_suffix(".txt").is_file() for file in found)
    return found if found and (known or any(folder.rglob(_TRANSCRIPTS))) else []


def read_recordings(folder: Path, cache: Path) -> tuple[dict[str, Any], Path]:
    """Read such a folder as a COCO payload of the task ``speech``.

    Recordings of one folder below ``folder`` are a clip, in order of name: they usually come from
    one speaker. An empty text file is a recording without speech.

    Args:
        folder: for which `recordings_in` is not empty.
        cache: folder for what FLAC holds, as WAV.

    Returns:
        The payload, and the folder that its file names are relative to.

    Raises:
        AnnotationError: a recording has no transcript.
        ConfigurationError: there is FLAC, and the extra ``speech`` is not installed.
    """
    texts = _transcripts(folder)
    found = recordings_in(folder)
    root = folder
    if any(file.suffix.lower() == _FLAC for file in found):
        root = (
            cache / "recordings" / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
        )
    payload = TextPayload(SPEECH, "word")
    clips: dict[str, int] = {}
    for file in found:
        name = file.relative_to(folder)
        if root != folder:
            name = name.with_suffix(_WAV)
            _copy(file, root / name)
        try:
            header = read_header((root / name).read_bytes())
            size = header.width, header.height
        except (ImageError, OSError):
            size = 1, 1  # ingest says what is wrong with the recording
        attributes: dict[str, Any] = {}
        if file.parent != folder:
            clip = file.parent.relative_to(folder).as_posix()
            clips[clip] = clips.get(clip, -1) + 1
            attributes = {"clip": clip, "frame_index": clips[clip]}
        text = texts.get(file.parent / file.stem)
        if text is None:
            raise AnnotationError(
                f"{file}: has no transcript; write {file.stem}.txt beside it as UTF-8, or a line "
                f"of it into a file {_TRANSCRIPTS}"
            )
        spoken = [(text, (0, 0, *size))] if text else []
        payload.add(name.as_posix(), size, attributes, spoken)
    return payload.content, root


def _transcripts(folder: Path) -> dict[Path, str]:
    """What is said, by the path of the recording without its ending."""
    found: dict[Path, str] = {}
    for file in sorted(folder.rglob("*.txt")):
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise AnnotationError(
                f"{file}: cannot be read ({type(error).__name__}); write it as UTF-8"
            ) from error
        if file.match(_TRANSCRIPTS):
            for line in lines:
                name, _, text = line.strip().partition(" ")
                found[file.parent / name] = " ".join(text.split())
        else:
            found[file.with_suffix("")] = " ".join(" ".join(lines).split())
    return found


def _copy(file: Path, to: Path) -> None:
    """Write a recording as WAV, unless that lies there and is newer."""
    if to.is_file() and to.stat().st_mtime_ns >= file.stat().st_mtime_ns:
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    content = file.read_bytes() if file.suffix.lower() == _WAV else _wav_of_flac(file)
    with atomic_path(to) as partial:
        partial.write_bytes(content)


def _wav_of_flac(file: Path) -> bytes:
    try:
        import soundfile
    except ImportError as error:
        raise ConfigurationError(
            f"{file}: FLAC needs a package that is not installed ({error}); "
            "pip install 'gearshift[speech]'"
        ) from error
    try:
        samples, rate = soundfile.read(str(file), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return b""  # ingest says that it cannot be decoded
    mono = np.asarray(samples.mean(axis=1), np.float32)
    return wav_of(as_integers(resampled(mono, int(rate)))) if len(mono) else b""
