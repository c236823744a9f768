"""When and where a picture was taken, as the data set's metadata or its EXIF block records.

A camera's clock has no time zone, so only the time of day is taken from it; a position is rounded
to a tenth of a degree, about ten kilometres, which is enough to compare places and names no house.
COCO's ``date_captured`` is not read: COCO's own files and most exports hold the time of the upload.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

UNKNOWN = "unknown"
_HOURS = ((5, "night"), (11, "morning"), (16, "midday"), (21, "evening"), (24, "night"))
"""The time of day until an hour."""
_TIME_NAMES, _PLACE_NAMES = ("time_of_day", "timeofday"), ("place", "location", "city")
_POSITION_NAMES = (("latitude", "longitude"), ("lat", "lon"))

# EXIF 2.3, sections 4.6.3 (pointers), 4.6.5 (DateTimeOriginal), 4.6.6 (GPS).
_DATE, _EXIF_POINTER, _GPS_POINTER, _DATE_TAKEN = 0x0132, 0x8769, 0x8825, 0x9003
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}  # bytes of BYTE, ASCII, SHORT, LONG, RATIONAL
_MOST_ENTRIES, _MOST_BYTES = 1000, 256
_SEARCHED = 1 << 17
"""Bytes from the start in which a block has to begin; JPEG and WebP keep it ahead of pixels."""


class Capture(NamedTuple):
    """Time of day (night, morning, midday, evening) and place; UNKNOWN where nothing records it."""

    time_of_day: str = UNKNOWN
    place: str = UNKNOWN


def read_capture(content: bytes) -> Capture:
    """When and where a JPEG, PNG or WebP file was taken; a damaged block counts as none."""
    block = _block(content)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return Capture()
    try:
        first = _entries(block, order, struct.unpack_from(order + "I", block, 4)[0])
        exif, gps = (
            _entries(block, order, struct.unpack(order + "I", first[tag])[0])
            if tag in first
            else {}
            for tag in (_EXIF_POINTER, _GPS_POINTER)
        )
        taken = exif.get(_DATE_TAKEN) or first.get(_DATE) or b""
        return Capture(time_of_day(taken.decode("ascii", "replace")), _place(gps, order))
    except struct.error:
        return Capture()


def described_capture(record: Mapping[str, Any]) -> Capture:
    """When and where, by an image record of COCO's format: its attributes, then its own fields.

    ``time_of_day`` or ``timeofday`` (BDD100K's) are words and taken as they are, as are ``place``,
    ``location`` and ``city``; ``latitude`` and ``longitude`` are degrees, ``taken`` is a time.
    """
    attributes = record.get("attributes")
    named = {**record, **(attributes if isinstance(attributes, dict) else {})}

    def word(names: tuple[str, ...]) -> str:
        found = (named.get(name) for name in names)
        return next((one.strip()[:80] for one in found if isinstance(one, str) and one.strip()), "")

    time = word(_TIME_NAMES) or time_of_day(word(("taken",)))
    place = word(_PLACE_NAMES)
    for names in _POSITION_NAMES:
        latitude, longitude = (named.get(name) for name in names)
        if not place and isinstance(latitude, int | float) and isinstance(longitude, int | float):
            place = place_of(latitude, longitude)
    return Capture(time or UNKNOWN, place or UNKNOWN)


def time_of_day(text: str) -> str:
    """The time of day of ``YYYY-MM-DD HH:MM:SS`` (or with EXIF's colons); UNKNOWN for no time."""
    digits = text[11:13]
    if len(text) < 16 or not digits.isdecimal() or text[:4] == "0000":
        return UNKNOWN
    return next((name for end, name in _HOURS if int(digits) < end), UNKNOWN)


def place_of(latitude: float, longitude: float) -> str:
    """A position rounded to a tenth of a degree; UNKNOWN for one that is not on Earth."""
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return UNKNOWN  # not a number is neither
    return f"{latitude + 0.0:.1f}, {longitude + 0.0:.1f}".replace("-0.0", "0.0")


def _block(content: bytes) -> bytes:
    """The TIFF structure of an EXIF block; empty where there is none."""
    for mark in (b"Exif\x00\x00", b"EXIF", b"eXIf"):  # JPEG, WebP, PNG
        at = content.find(mark, 0, _SEARCHED) if mark[:1] != b"e" else content.rfind(mark)
        if at >= 0:
            skipped = len(mark) + (4 if mark == b"EXIF" else 0)  # WebP: the chunk's length
            return content[at + skipped :].removeprefix(b"Exif\x00\x00")
    return b""


def _entries(block: bytes, order: str, at: int) -> dict[int, bytes]:
    """The values of a directory by tag, as they are stored; raises struct.error at the end."""
    found = {}
    (count,) = struct.unpack_from(order + "H", block, at)
    for entry in range(at + 2, at + 2 + 12 * min(count, _MOST_ENTRIES), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", block, entry)
        length = _SIZES.get(kind, 0) * number
        if 0 < length <= _MOST_BYTES:
            start = entry + 8
            if length > 4:
                (start,) = struct.unpack_from(order + "I", block, start)
            found[tag] = block[start : start + length]
    return found


def _place(gps: Mapping[int, bytes], order: str) -> str:
    degrees = []
    for name, reference, negative in (
        (_LATITUDE, _LATITUDE_REF, b"S"),
        (_LONGITUDE, _LONGITUDE_REF, b"W"),
    ):
        if name not in gps:
            return UNKNOWN
        parts = struct.unpack(order + "6I", gps[name])
        if 0 in parts[1::2]:
            return UNKNOWN
        value = sum(parts[2 * i] / parts[2 * i + 1] / 60**i for i in range(3))
        degrees.append(-value if gps.get(reference, b"")[:1] == negative else value)
    return place_of(*degrees)
