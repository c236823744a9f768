"""Weights into the bucket that the services read them from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pyarrow import fs

from inference_graph.prediction_log.place import open_place


def upload_to_bucket(
    url: str, weights: Mapping[str, Path], digests: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Put weights into a bucket, with the credentials of this machine; what is there stays.

    Args:
        url: of the place that holds ``ladder/`` and ``policy/``: s3:// or gs://.
        weights: local file by name.
        digests: their SHA-256 by name.

    Returns:
        The names that were stored, and those under which other weights lie.

    Raises:
        ConfigurationError: no such kind of place.
        StorageError: it cannot be read or written.
    """
    place = open_place(url)
    there = {
        f"{folder}/{name}"
        for folder in {name.partition("/")[0] for name in weights}
        for name in place.listed(folder, fs.FileType.File)
    }
    stored, kept = [], []
    for name, path in weights.items():
        if name not in there:
            place.put(name, path)
            stored.append(name)
            continue
        with place.opened(name) as file:
            if hashlib.sha256(file.read()).hexdigest() != digests[name]:
                kept.append(name)
    return stored, kept
