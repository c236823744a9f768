"""What counts of a transcript: its words, in lower case, without punctuation."""

from __future__ import annotations

import re
import unicodedata

from foundation.errors import ConfigurationError

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'"})
_NO_WORD = re.compile(r"[^\w']+|_")
_QUOTES = re.compile(r"(?<!\w)'|'(?!\w)")


def normal(text: str) -> str:
    """The text's words in lower case, one space between them; apostrophes within words stay."""
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    return " ".join(_QUOTES.sub(" ", _NO_WORD.sub(" ", plain)).split())


def one_minus_wer(truth: str, recognized: str) -> float:
    """1 less the word error rate, at least 0; 1 where both are empty.

    Substituted, left out and added words over the words of the truth; :func:`normal` returned both.

    Raises:
        ConfigurationError: the extra ``speech`` is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise ConfigurationError(
            f"comparing transcripts needs a package that is not installed ({error}); "
            "pip install 'gearshift[speech]'"
        ) from error
    if not truth:
        return float(not recognized)
    return max(0.0, 1.0 - float(jiwer.wer(truth, recognized)))
