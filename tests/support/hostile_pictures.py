"""Pictures made to crash, fill or hold up whatever decodes them, in every format accepted."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from png_bombs import png_bomb, png_chunk, png_of

MAGIC = b"\x89PNG\r\n\x1a\n"
_IHDR = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
_PIXEL = zlib.compress(bytes(4))


def _control(width: int, height: int, left: int = 0) -> bytes:
    return struct.pack(">IIIIIHHBB", 0, width, height, left, 0, 1, 10, 0, 0)


def animated_png(width: int, height: int, frames: int = 2, left: int = 0) -> bytes:
    """A whole animation whose frames are of this size on a canvas of one pixel."""
    return png_of(
        (b"IHDR", _IHDR),
        (b"acTL", struct.pack(">II", frames, 0)),
        (b"fcTL", _control(width, height, left)),
        (b"IDAT", _PIXEL),
        (b"fcTL", struct.pack(">I", 1) + _control(width, height, left)[4:]),
        (b"fdAT", struct.pack(">I", 2) + _PIXEL),
    )


def crashing_png(side: int) -> bytes:
    """An animation whose first frame is the still, and larger than the canvas: ends OpenCV 4.11."""
    return png_of(
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)),
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"fcTL", _control(side, side)),
        (b"IDAT", zlib.compress(bytes(8 * 25))),
    )


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive grey JPEG in which further scans go over all blocks in a few bytes each."""
    blocks = -(-width // 8) * -(-height // 8)
    bits = "0" * 15 * -(-blocks // 16384)  # a run of 16384 blocks that end at once, so often
    bits += "1" * (-len(bits) % 8)
    run = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\x00" + b"\x01" * 64),
            segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"),
            segment(0xC4, b"\x00" + bytes((1, *[0] * 15)) + b"\x00"),
            segment(0xC4, b"\x10" + bytes((1, *[0] * 15)) + b"\xe0"),
            segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(blocks // 8 + 1),
            (segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + run) * scans,
            b"\xff\xd9",
        )
    )


def saved(form: str, **options: object) -> bytes:
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([rows * 5, columns * 3, rows + columns], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def _bmp(header: int, bits: int = 24, compression: int = 0, offset: int = 54) -> bytes:
    info = struct.pack("<IiiHHIIiiII", header, 8, 8, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 192, 0, 0, offset) + info + bytes(192)


def _webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def refused() -> Iterator[tuple[str, bytes]]:
    """Those that are no pictures, or more work than a picture is."""
    jpeg = saved("JPEG")
    yield (
        "png that ends in a chunk of 4 GB",
        MAGIC + png_chunk(b"IHDR", _IHDR) + png_chunk(b"IDAT", _PIXEL) + b"\xff\xff\xff\xf0IEND",
    )
    yield (
        "png of a chunk of 4 GB that wraps round",
        MAGIC + png_chunk(b"IHDR", _IHDR) + (b"\xff\xff\xff\xf4tEXt" + bytes(64)),
    )
    yield (
        "png of more chunks than any",
        png_of((b"IHDR", _IHDR), *[(b"tEXt", b"")] * 20_000, (b"IDAT", _PIXEL)),
    )
    yield "png of too little data for its size", png_bomb(5000, 4000)
    yield "png of one column", png_bomb(1, 20_000_000 // 8, packed=10_000_000)
    yield "png of far too much data", png_of((b"IHDR", _IHDR), (b"IDAT", bytes(300_000)))
    yield (
        "png without its palette",
        png_of((b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 3, 0, 0, 0)), (b"IDAT", _PIXEL)),
    )
    yield (
        "png of a colour type there is not",
        png_of((b"IHDR", struct.pack(">IIBBBBB", 1, 1, 7, 5, 0, 0, 0)), (b"IDAT", _PIXEL)),
    )
    yield (
        "png with an unknown chunk that matters",
        png_of((b"IHDR", _IHDR), (b"ABCD", b""), (b"IDAT", _PIXEL)),
    )
    yield "png of two headers", png_of((b"IHDR", _IHDR), (b"IHDR", _IHDR), (b"IDAT", _PIXEL))
    yield (
        "png whose frames come without a still",
        png_of(
            (b"IHDR", _IHDR),
            (b"acTL", struct.pack(">II", 1, 0)),
            (b"fcTL", _control(1, 1)),
            (b"fdAT", struct.pack(">I", 1) + _PIXEL),
        ),
    )
    yield "jpeg of thousands of scans", jpeg_of_scans(320, 240, 5000)
    yield "jpeg of a few scans too many", jpeg_of_scans(640, 480, 40)
    yield "jpeg of 120,000 empty segments", jpeg[:2] + segment(0xFE, b"") * 120_000 + jpeg[2:]
    yield "jpeg that is fill bytes", b"\xff\xd8" + b"\xff" * 5_000_000
    yield (
        "jpeg of two frames",
        jpeg[:2] + segment(0xC0, b"\x08\x00\x08\x00\x08\x01\x01\x11\x00") + (jpeg[2:]),
    )
    yield "jpeg of 12 bits", _changed(jpeg, b"\xff\xc0", 4, b"\x0c")
    yield "lossless jpeg", jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1)
    yield "jpeg of two components", _changed(jpeg, b"\xff\xc0", 9, b"\x02")
    yield "jpeg of a sampling that there is not", _changed(jpeg, b"\xff\xc0", 11, b"\x50")
    yield (
        "jpeg of too little data for its size",
        _changed(jpeg, b"\xff\xc0", 5, struct.pack(">HH", 4000, 5000)),
    )
    yield "jpeg whose scan names nobody", _changed(jpeg, b"\xff\xda", 5, b"\x77")
    yield "bmp of 28 bytes", b"BM" + struct.pack("<IHHIIii", 28, 0, 0, 26, 40, 1, 1)[:26]
    for header in (0, 12, 13, 16, 39, 41, 2**31, 2**32 - 1):
        yield f"bmp of a header of {header} bytes", _bmp(header)[:26]
        if header != 12:
            yield f"whole bmp of a header of {header} bytes", _bmp(header)
    yield "bmp of 3 bits", _bmp(40, bits=3)
    yield "bmp of a compression there is not", _bmp(40, compression=9)
    yield "bmp whose rows are elsewhere", _bmp(40, offset=2**31)
    yield "bmp whose rows are its header", _bmp(40, offset=14)
    yield "animated webp", _animated_webp()
    yield (
        "webp whose picture is another size",
        _webp(
            (b"VP8X", bytes(4) + b"\x01\x00\x00\x01\x00\x00"),
            (b"VP8L", saved("WEBP", lossless=True)[20:]),
        ),
    )
    yield "webp without a picture", _webp((b"VP8X", bytes(10)), (b"EXIF", bytes(100)))
    yield "webp of more chunks than any", _webp((b"VP8X", bytes(10)), *[(b"XXXX", b"")] * 20_000)
    yield "webp whose chunk is 4 GB", _webp((b"VP8X", bytes(10)))[:-2] + b"VP8 \xff\xff\xff\xff"
    yield "webp that is no key frame", _webp((b"VP8 ", b"\x01\x00\x00\x9d\x01\x2a" + bytes(20)))
    yield "gif", saved("GIF")
    yield "tiff", saved("TIFF")
    yield "jpeg 2000", b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(100)
    yield "openexr", b"\x76\x2f\x31\x01" + bytes(100)
    yield "nothing", b""


def harmless() -> Iterator[tuple[str, bytes]]:
    """Those that have a picture beside what is to do harm."""
    for width, height in ((320, 576), (0, 0), (2**31, 2**31), (1, 2**32 - 1)):
        yield f"animated png of frames of {width}x{height}", animated_png(width, height)
    for side in (9, 64, 1000, 40_000):
        yield f"animated png of a still of {side}x{side} on 8x8", crashing_png(side)
    yield "animated png beside its canvas", animated_png(1, 1, left=2**31)
    yield "animated png of 4 billion frames", animated_png(1, 1, frames=2**32 - 1)
    bomb = zlib.compress(bytes(50_000_000), 9)
    yield (
        "png of a text of 50 MB",
        png_of((b"IHDR", _IHDR), (b"zTXt", b"a\x00\x00" + bomb), (b"IDAT", _PIXEL)),
    )
    yield (
        "png of an international text of 50 MB",
        png_of((b"IHDR", _IHDR), (b"iTXt", b"a\x00\x01\x00\x00\x00" + bomb), (b"IDAT", _PIXEL)),
    )
    yield (
        "png of a profile of 50 MB",
        png_of((b"IHDR", _IHDR), (b"iCCP", b"a\x00\x00" + bomb), (b"IDAT", _PIXEL)),
    )
    endless = b"MM\x00\x2a\x00\x00\x00\x08\xff\xff" + bytes(60_000)
    yield (
        "png of an EXIF block without end",
        png_of((b"IHDR", _IHDR), (b"eXIf", endless), (b"IDAT", _PIXEL)),
    )
    jpeg = saved("JPEG")
    yield (
        "jpeg of an EXIF block without end",
        (jpeg[:2] + segment(0xE1, b"Exif\x00\x00" + endless) + jpeg[2:]),
    )
    yield "jpeg of as many scans as are allowed", jpeg_of_scans(640, 480, 30)
    yield "jpeg of large metadata", jpeg[:2] + segment(0xE2, bytes(65_000)) * 60 + jpeg[2:]
    yield "bmp of run lengths without end", _bmp(40, bits=8, compression=1)[:54] + bytes(1216)


def _changed(data: bytes, marker: bytes, place: int, other: bytes) -> bytes:
    at = data.index(marker) + place
    return data[:at] + other + data[at + len(other) :]


def _animated_webp() -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()
