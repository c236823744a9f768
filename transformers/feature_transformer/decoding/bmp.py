"""The structure of a BMP: its headers, its palette and its rows fit the file.

Source: Microsoft, "Bitmap Storage" and BITMAPV5HEADER.
"""

from __future__ import annotations

import struct

from feature_transformer.decoding.exif import UPRIGHT
from feature_transformer.decoding.limits import DecodeLimits
from feature_transformer.decoding.structure import Damaged, Structure
from foundation.errors import ImageError

_FILE, _CORE = 14, 12
_INFO = (40, 52, 56, 64, 108, 124)
_RGB, _RLE8, _RLE4, _FIELDS = 0, 1, 2, 3
_DEPTHS = {
    _RGB: (1, 4, 8, 16, 24, 32),
    _RLE8: (8,),
    _RLE4: (4,),
    _FIELDS: (16, 32),
}


def size(data: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Width and height.

    Raises:
        Damaged: the header ends early.
        ImageError: a header of a kind that there is none of.
    """
    try:
        (header,) = struct.unpack_from("<I", data, _FILE)
        if header == _CORE:
            width, height = struct.unpack_from("<HH", data, 18)
        else:
            width, height = struct.unpack_from("<ii", data, 18)
    except struct.error as error:
        raise Damaged from error
    return width, abs(height)  # rows stored from the top down have a negative height


def examine(data: bytes, limits: DecodeLimits) -> Structure:
    """The structure; of run-length coded rows only the decoder can tell whether all are there.

    Raises:
        Damaged: headers, palette or rows reach beyond the file.
        ImageError: a depth or a compression that is not decoded.
    """
    width, height = size(data, limits)
    try:
        offset, header = struct.unpack_from("<II", data, 10)
        if header == _CORE:
            (bits,), compression, colours, entry = struct.unpack_from("<H", data, 24), _RGB, 0, 3
        else:
            bits, compression = struct.unpack_from("<HI", data, 28)
            (colours,), entry = struct.unpack_from("<I", data, 46), 4
    except struct.error as error:
        raise Damaged from error
    if header not in (_CORE, *_INFO) or bits not in _DEPTHS.get(compression, ()):
        raise ImageError(
            f"the bmp image has a header of {header} bytes, {bits} bits a pixel and compression "
            f"{compression}, which is not decoded; send a plain one"
        )
    palette = 0
    if bits <= 8:
        if colours > 2**bits:
            raise Damaged
        palette = (colours or 2**bits) * entry
    if offset < _FILE + header or offset > len(data) or _FILE + header + palette > len(data):
        raise Damaged
    end = len(data)
    if compression in (_RGB, _FIELDS):
        end = offset + (width * bits + 31) // 32 * 4 * height
        if end > len(data):
            raise Damaged
    return Structure(data[:end], width, height, UPRIGHT, 3 * width * height, 4 * width * height)
