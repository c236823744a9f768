"""Images that a frame names instead of carrying them, read from the place the operator allows."""

from __future__ import annotations

import hashlib
import threading
from urllib.parse import unquote

import orjson
import pyarrow as pa
from pyarrow import fs
from pydantic import ValidationError

from foundation.errors import (
    ConfigurationError,
    Forbidden,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)
from inference_graph.gateway.problems import sentence
from inference_graph.prediction_log.place import Place, open_place
from inference_graph.streams.events import ReferenceValue


class References:
    """The place that references may name; how it is reached is the operator's choice alone."""

    def __init__(self, prefix: str) -> None:
        """Nothing is opened yet.

        Args:
            prefix: address of a folder or bucket with a slash at its end, then options of the
                connection as a query; empty where no reference is allowed.
        """
        self._address = prefix
        self._prefix = prefix.partition("?")[0]
        self._place: Place | None = None
        self._opening = threading.Lock()

    def read(self, value: bytes, limit: int) -> bytes:
        """The image that a reference names; reads a bucket, so call it on a thread.

        Args:
            value: JSON of a :class:`ReferenceValue`.
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
            reason = sentence(error.errors())
            raise InvalidInput(f"the reference is not {{url}}: {reason}") from error
        name = self._name(wanted.url)
        try:
            data = self._content(name, limit)
        except (pa.ArrowException, OSError, ConfigurationError) as error:
            raise Unavailable(
                f"{wanted.url[:200]} cannot be read now ({type(error).__name__})"
            ) from error
        if wanted.sha256 and hashlib.sha256(data).hexdigest() != wanted.sha256:
            raise InvalidInput(f"{wanted.url[:200]} has another SHA-256 than the reference says")
        return data

    def _name(self, url: str) -> str:
        """The object's name below the place."""
        name = unquote(url[len(self._prefix) :])
        allowed = self._prefix and url.startswith(self._prefix)
        # A query would choose another server, and ".." another folder, also written as %2e%2e.
        parts = name.split("/")
        if not allowed or "?" in url or not name.isprintable() or {"", ".", ".."} & set(parts):
            raise Forbidden(
                f"the reference names {url[:100]!r}, which is no object below the prefix that the "
                "worker's option references allows"
            )
        return name

    def _content(self, name: str, limit: int) -> bytes:
        with self._opening:
            place = self._place = self._place or open_place(self._address)
        path = f"{place.root}/{name}"
        if place.folder is not None:
            file = place.folder / name
            if not file.resolve().is_relative_to(place.folder.resolve()):
                raise Forbidden(f"{name[:100]!r} is a link out of the folder of the references")
        info = place.files.get_file_info(path)
        if info.type != fs.FileType.File:
            raise NotFound(f"there is no image {name[:100]!r} at the place of the references")
        # As it lies there: a packed object could grow to any size.
        with place.files.open_input_stream(path, compression=None) as stream:
            data = bytes(stream.read(limit + 1))
        if len(data) > limit:
            raise PayloadTooLarge(f"{name[:100]!r} has {info.size} bytes and {limit} are allowed")
        return data
