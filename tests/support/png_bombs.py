"""PNGs put together by hand, and those that declare more pixels than any machine has room for."""

from __future__ import annotations

import struct
import zlib


def png_bomb(width: int, height: int, packed: int = 1000) -> bytes:
    """A whole PNG of ``packed`` zeros, whatever size it declares."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_of((b"IHDR", header), (b"IDAT", zlib.compress(bytes(packed))))


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks and its end."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in (*chunks, (b"IEND", b"")))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
