"""Base64 in JSON, where bytes cannot stand."""

from __future__ import annotations

import pybase64

from foundation.errors import ImageError


def from_base64(text: object, where: str) -> bytes:
    """The bytes of a base64 text; white space in it does not matter.

    Raises:
        ImageError: it is no text, or no base64.
    """
    if not isinstance(text, str):
        raise ImageError(f"{where} is no text; send the image in base64")
    try:
        return _decoded(text)
    except ValueError as error:
        raise ImageError(f"{where} is no base64; send the image's bytes in base64") from error


def _decoded(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:  # as lines, perhaps; looking for white space first takes ten times as long
        return pybase64.b64decode("".join(text.split()), validate=True)
