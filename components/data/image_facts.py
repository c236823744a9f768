"""Facts of an image file, and a cache so that no image is decoded twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from components.data.capture import UNKNOWN, Capture, read_capture
from feature_transformer.image import Frame, decode
from feature_transformer.sound import seen
from foundation.errors import StorageError

BLANK = 0.01
"""Contrast below which a picture shows nothing; noise of the sensor alone is more."""

CUTS = (0.025, 0.05)
"""Shares of each side without which a picture is hashed as well, so that cropped copies match."""
_WHITE = 250  # grey value from which a pixel holds no detail
_BATCH = 256  # facts per transaction: what an interrupted run may have to look at again


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of one image file.

    Attributes:
        sha256: of the file's bytes, hexadecimal.
        width: pixels, as decoded (a rotation noted in EXIF is applied).
        height: pixels, as decoded.
        brightness: mean grey value, 0 to 1.
        dhash: difference hash, 64 bits in hexadecimal; equal for images that look the same.
        views: further difference hashes: of the columns; then, with 2.5 and with 5 % cut off each
            side, of the rows and of the columns. Empty where they are not known.
        contrast: standard deviation of the grey value, 0 to 0.5.
        overexposed: share of the pixels that are white, 0 to 1.
        time_of_day: when it was taken (see ``capture``); "unknown" where EXIF does not record it.
        place: where it was taken, likewise.
    """

    sha256: str
    width: int
    height: int
    brightness: float
    dhash: str
    contrast: float
    overexposed: float
    views: str = ""
    time_of_day: str = UNKNOWN
    place: str = UNKNOWN

    @property
    def attributes(self) -> dict[str, float | str]:
        """What a data set keeps among an image's attributes."""
        names = ("brightness", "dhash", "contrast", "overexposed", "views")
        found = {name: getattr(self, name) for name in names}
        captured = {"time_of_day": self.time_of_day, "place": self.place}
        return found | {name: value for name, value in captured.items() if value != UNKNOWN}


def known_facts(record: object) -> ImageFacts | None:
    """The facts that an image's record holds; None where ingest has not read the picture."""
    known = [getattr(record, name) for name in _FACTS]
    return None if None in known else ImageFacts(*known)


_FACTS = tuple(field.name for field in fields(ImageFacts))


def facts_of_frame(frame: Frame, sha256: str, capture: Capture | None = None) -> ImageFacts:
    """Facts of a decoded frame (uint8 [H, W, 3], BGR) whose file has this hash.

    Those of a recording are of its spectrogram: a blank one is silent.

    The difference hash: the picture as 9x8 grey values, one bit for each pair of neighbours in a
    row, set where the left one is brighter; of the columns likewise, with 8x9 and the upper one.
    Source: N. Krawetz, "Kind of Like That" (2013).
    """
    grey = np.asarray(cv2.cvtColor(seen(frame), cv2.COLOR_BGR2GRAY), np.uint8)
    whole, *middles = middles_of(grey)
    hashes = [_columns(whole), *(part(one) for one in middles for part in (_rows, _columns))]
    height, width = frame.shape[:2]
    mean, deviation = (float(value[0, 0]) / 255.0 for value in cv2.meanStdDev(grey))
    white = float(cv2.countNonZero(cv2.inRange(grey, _WHITE, 255))) / grey.size
    return ImageFacts(
        sha256,
        width,
        height,
        brightness=round(mean, 4),
        dhash=_rows(grey),
        contrast=round(deviation, 4),
        overexposed=round(white, 4),
        views="".join(hashes),
        **(capture or Capture())._asdict(),
    )


def middles_of(grey: Frame) -> list[Frame]:
    """A grey picture of at most 160x120 pixels, whole and with each of CUTS off every side."""
    size = min(grey.shape[1], 160), min(grey.shape[0], 120)
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    cuts = [(round(size[1] * cut), round(size[0] * cut)) for cut in CUTS]
    return [small, *(small[y : size[1] - y, x : size[0] - x] for y, x in cuts)]


def _rows(grey: Frame) -> str:
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, :-1] > small[:, 1:]).tobytes().hex()


def _columns(grey: Frame) -> str:
    small = cv2.resize(grey, (8, 9), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:-1] > small[1:]).tobytes().hex()


class FactsCache:
    """Facts of images looked at before, in a SQLite file keyed by the SHA-256 of the content.

    Safe to share between the threads of one process and between processes. A context manager:
    what was added is stored on leaving, also when an error or an interrupt ends the block.

    Raises:
        StorageError: the file cannot be opened, read or written.
    """

    def __init__(self, file: Path) -> None:
        """Open the cache, making it when it is not there."""
        self._file = file
        self._lock = threading.Lock()
        self._unsaved: list[tuple[str | float, ...]] = []
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(file, timeout=30, check_same_thread=False)
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS facts_4 (sha256 TEXT PRIMARY KEY, width INTEGER, "
                "height INTEGER, brightness REAL, dhash TEXT, contrast REAL, overexposed REAL, "
                "views TEXT, time_of_day TEXT, place TEXT) WITHOUT ROWID"
            )
            self._connection.commit()
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def __enter__(self) -> FactsCache:
        """Return the open cache."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Store what was added and close the file."""
        try:
            with self._lock:
                self._store()
        except sqlite3.Error as failure:
            # The cause of an unwinding block is worth more than a cache that lost some rows.
            if error is None:
                raise self._unusable(failure) from failure
        finally:
            self._connection.close()

    def look(
        self, data: bytes, decoded: Callable[[Frame], None] | None = None
    ) -> tuple[ImageFacts, bool]:
        """Facts of an image file's bytes, and whether they came from the cache.

        ``decoded`` gets the pixels where they did not. Raises ImageError when the bytes are no
        whole image.
        """
        digest = hashlib.sha256(data).hexdigest()
        known = self._get(digest)
        if known is not None:
            return known, True
        frame = decode(data)
        facts = facts_of_frame(frame, digest, read_capture(data))
        if decoded is not None:
            decoded(frame)
        self._put(facts)
        return facts, False

    def _get(self, sha256: str) -> ImageFacts | None:
        try:
            with self._lock:
                row = self._connection.execute(
                    "SELECT * FROM facts_4 WHERE sha256 = ?", (sha256,)
                ).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return None if row is None else ImageFacts(*row)

    def _put(self, facts: ImageFacts) -> None:
        row = astuple(facts)
        try:
            with self._lock:
                self._unsaved.append(row)
                if len(self._unsaved) >= _BATCH:
                    self._store()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _store(self) -> None:
        # One short transaction, so that other processes never wait long for the file.
        with self._connection:
            self._connection.executemany(
                "INSERT OR IGNORE INTO facts_4 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._unsaved
            )
        self._unsaved.clear()

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(
            f"{self._file}: the image cache cannot be used ({error}); "
            "delete the file or choose another folder with --cache"
        )


def cache_folder(chosen: str = "") -> Path:
    """Folder of the cache: the one chosen, else $GEARSHIFT_CACHE, else the user's own."""
    if chosen or os.environ.get("GEARSHIFT_CACHE"):
        return Path(chosen or os.environ["GEARSHIFT_CACHE"]).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gearshift"
