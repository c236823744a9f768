"""Images of a few bytes that declare more pixels than any machine has room for."""

from __future__ import annotations

import struct
import zlib


def png_bomb(width: int, height: int, packed: int = 1000) -> bytes:
    """A whole PNG of ``packed`` zeros, whatever size it declares."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(packed))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
