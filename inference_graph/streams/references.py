"""Images that a frame names instead of carrying them, read from the places the operator allows."""

from __future__ import annotations

import hashlib

import orjson
import pyarrow as pa
from pyarrow import fs
from pydantic import ValidationError

from foundation.errors import Forbidden, InvalidInput, NotFound, PayloadTooLarge, Unavailable
from inference_graph.gateway.problems import sentence
from inference_graph.streams.events import ReferenceValue


def read_reference(value: bytes, prefix: str, limit: int) -> bytes:
    """The image that a reference names; reads a bucket, so call it on a thread.

    Args:
        value: JSON of a :class:`ReferenceValue`.
        prefix: what its address must begin with; empty where none is allowed.
        limit: bytes of an image at most.

    Raises:
        InvalidInput: no reference, or the image has another digest.
        Forbidden: the address is not one of those allowed.
        NotFound: there is no such object.
        PayloadTooLarge: it is larger than allowed.
        Unavailable: the bucket does not answer.
    """
    try:
        wanted = ReferenceValue.model_validate(orjson.loads(value))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the reference is no JSON: {error}") from error
    except ValidationError as error:
        raise InvalidInput(f"the reference is not {{url}}: {sentence(error.errors())}") from error
    url = wanted.url
    # An address with a query names another endpoint, and one with dots leaves the folder.
    if not prefix or not url.startswith(prefix) or any(part in url for part in ("..", "?", "@")):
        raise Forbidden(
            f"the reference names {url[:100]!r}, which does not begin with the prefix that the "
            "worker's option references allows"
        )
    try:
        files, path = fs.FileSystem.from_uri(url)
        info = files.get_file_info(path)
        if info.type != fs.FileType.File:
            raise NotFound(f"there is no image at {url[:200]}")
        if info.size > limit:
            raise PayloadTooLarge(f"{url[:200]} has {info.size} bytes and {limit} are allowed")
        with files.open_input_stream(path) as stream:
            data = stream.read(limit + 1)
    except (pa.ArrowInvalid, ValueError) as error:
        raise InvalidInput(f"{url[:200]} is no address of an object") from error
    except (OSError, pa.ArrowException) as error:
        raise Unavailable(f"{url[:200]} cannot be read now ({type(error).__name__})") from error
    if wanted.sha256 and hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise InvalidInput(f"{url[:200]} has another SHA-256 than the reference says")
    return bytes(data)
