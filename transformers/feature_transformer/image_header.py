"""What an encoded image says of itself, and whether all of it is there, without decoding it."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from feature_transformer.errors import ImageError


@dataclass(frozen=True)
class ImageHeader:
    """What an encoded image says of itself.

    Attributes:
        format: jpeg, png, webp or bmp.
        width: columns as stored, before any EXIF rotation.
        height: rows as stored.
    """

    format: str
    width: int
    height: int


def read_header(data: bytes) -> ImageHeader:
    """Format and size of an encoded image, parsed from its header without decoding it.

    Raises:
        ImageError: no jpeg, png, webp or bmp, a header that is cut short, or an empty size.
    """
    for form, (magic, parse) in _PARSERS.items():
        if magic.match(data):
            try:
                width, height = parse(data)
            except (struct.error, IndexError) as error:
                raise ImageError(
                    f"the {form} image ends within its header ({len(data)} bytes); send it whole"
                ) from error
            if width <= 0 or height <= 0:
                raise ImageError(
                    f"the {form} image declares {width}x{height} pixels; send a proper image"
                )
            return ImageHeader(form, width, height)
    if not data:
        raise ImageError("the image is empty (0 bytes); send a jpeg, png, webp or bmp")
    raise ImageError(
        f"the data is no image of a known format ({len(data)} bytes, beginning with "
        f"{data[:8].hex(' ')}); send a jpeg, png, webp or bmp"
    )


def is_complete(form: str, data: bytes) -> bool:
    """Whether the image's data reach its end, as far as its structure tells.

    Args:
        form: jpeg, png, webp or bmp.
        data: the encoded image, whose header was read.
    """
    return _COMPLETE[form](data)


_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""The next marker after entropy-coded data: FF00 is a stuffed byte, FFD0..FFD7 restart marks."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS, _EOI = 0xDA, 0xD9


def _jpeg_marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker at ``at`` and where its segment begins; fill bytes FF are skipped."""
    if data[at] != 0xFF:
        raise IndexError("no marker here")
    while data[at] == 0xFF:
        at += 1
    return data[at], at + 1


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        marker, at = _jpeg_marker(data, at)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if marker in (_SOS, _EOI):
            raise ImageError("the jpeg image has no size before its data; send a proper image")
        at += _jpeg_length(data, at, marker)


def _jpeg_length(data: bytes, at: int, marker: int) -> int:
    if marker == 0x01 or 0xD0 <= marker <= 0xD8:
        return 0
    length = int(struct.unpack_from(">H", data, at)[0])
    if length < 2:
        raise IndexError("a segment shorter than its own length field")
    return length


def _jpeg_complete(data: bytes) -> bool:
    """Whether the segments lead to the end-of-image marker; bytes after it do not matter.

    Thumbnails inside EXIF have an end marker of their own, so a search from behind is no proof.
    """
    at = 2
    try:
        while True:
            marker, at = _jpeg_marker(data, at)
            if marker == _EOI:
                return True
            at += _jpeg_length(data, at, marker)
            if marker == _SOS:
                found = _JPEG_SCAN_END.search(data, at)
                if found is None:
                    return False
                at = found.start()
    except (struct.error, IndexError):
        return False


def _png_size(data: bytes) -> tuple[int, int]:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        raise ImageError("the png image does not begin with its header; send a proper image")
    return width, height


def _png_complete(data: bytes) -> bool:
    """Whether every chunk up to IEND is there with the checksum it declares."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return False
        if zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(_exactly(data, 24, 3), "little"),
            1 + int.from_bytes(_exactly(data, 27, 3), "little"),
        )
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageError("the webp image holds no picture data; send a proper image")


def _webp_complete(data: bytes) -> bool:
    return len(data) >= 8 + int(struct.unpack_from("<I", data, 4)[0])


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # rows stored from the top down have a negative height


def _bmp_complete(data: bytes) -> bool:
    """Whether the rows are all there; for run-length coded data only the decoder can tell."""
    (offset, header) = struct.unpack_from("<II", data, 10)
    width, height = _bmp_size(data)
    bits = int(struct.unpack_from("<H", data, 24 if header == 12 else 28)[0])
    compression = 0 if header == 12 else int(struct.unpack_from("<I", data, 30)[0])
    if compression not in (0, 3):
        return True
    row = (width * bits + 31) // 32 * 4
    return len(data) >= int(offset) + row * height


def _exactly(data: bytes, at: int, count: int) -> bytes:
    piece = data[at : at + count]
    if len(piece) != count:
        raise IndexError("cut short")
    return piece


_PARSERS = {
    "jpeg": (re.compile(rb"\xff\xd8\xff"), _jpeg_size),
    "png": (re.compile(rb"\x89PNG\r\n\x1a\n"), _png_size),
    "webp": (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp_size),
    "bmp": (re.compile(rb"BM"), _bmp_size),
}
_COMPLETE = {
    "jpeg": _jpeg_complete,
    "png": _png_complete,
    "webp": _webp_complete,
    "bmp": _bmp_complete,
}
