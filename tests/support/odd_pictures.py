"""Odd but proper pictures of every format, and what an independent decoder makes of them."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageOps
from png_bombs import png_of

WIDTH, HEIGHT = 67, 41
_ROWS, _COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([_ROWS * 5, _COLUMNS * 3, _ROWS * 2 + _COLUMNS], axis=-1).astype(np.uint8)
_GREY = RGB[..., 1]
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
# cjpeg of libjpeg-turbo 2.1.5 made these of a gradient: -arithmetic, and -progressive besides.
_ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    "NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT0//yQARCAARABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
    "AxEAPwD/AKV/fyiTIZ4uoR1BN/fGf2xl1yOC2cXw0ZY7SxtF7MlwNXixww4RmHaG9LGHryA+4a4O+GyJ112o/9k="
)
_ARITHMETIC_PROGRESSIVE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    "NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT0//ygARCAARABgDASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAA"
    "Af8ASt+o/hwnJO/9C9dzEipQ8BNZ/8wABBAF/9oACAEBAAEFAhKhzUeEgWD/zAAEEQX/2gAIAQMBAT8BE3bRbSLv"
    "3cD/zAAEEQX/2gAIAQIBAT8BEGek/8wABBAF/9oACAEBAAY/AsD/zAAEEAX/2gAIAQEAAT8h6oD/2gAMAwEAAgAD"
    "AAAAEL9L3//MAAQRBf/aAAgBAwEBPxAfNmLA/8wABBEF/9oACAECAQE/EBpQ/8wABBAF/9oACAEBAAE/ENUiL9VN"
    "FTIg/9k="
)


def saved(pixels: np.ndarray | Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def interlaced_png(pixels: np.ndarray, colour: int) -> bytes:
    """A PNG in the seven passes of Adam7; Pillow and OpenCV write none."""
    height, width = pixels.shape[:2]
    rows = b"".join(
        b"\x00" + row.tobytes()
        for column, first, across, down in _ADAM7
        for row in pixels[first::down, column::across]
        if row.size
    )
    depth = 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1)
    return png_of((b"IHDR", header), (b"IDAT", zlib.compress(rows)))


def pictures() -> Iterator[tuple[str, bytes]]:
    """Every kind that encoders write."""
    yield from _jpegs()
    yield from _pngs()
    for mode in ("1", "L", "RGB", "RGBA"):
        yield f"bmp {mode}", saved(Image.fromarray(RGB).convert(mode), "BMP")
    yield "bmp P", saved(Image.fromarray(RGB).quantize(200), "BMP")
    for lossless in (True, False):
        for mode, pixels in (("RGB", RGB), ("RGBA", np.dstack([RGB, _GREY])), ("L", _GREY)):
            yield (
                f"webp {mode} lossless={lossless}",
                saved(pixels, "WEBP", lossless=lossless, quality=90, exact=True),
            )
    yield "webp with a profile", saved(RGB, "WEBP", lossless=True, icc_profile=bytes(501))


def turned_pictures() -> Iterator[tuple[str, bytes]]:
    """All eight orientations in every format that has them."""
    forms: tuple[tuple[str, dict[str, object]], ...] = (
        ("JPEG", {"quality": 95}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
    )
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x010E] = "a description before it"
        exif[0x0112] = value
        for form, options in forms:
            yield f"{form} {options} orientation {value}", saved(RGB, form, exif=exif, **options)


def _jpegs() -> Iterator[tuple[str, bytes]]:
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        for progressive in (False, True):
            for quality in (30, 95):
                options = {"subsampling": subsampling, "progressive": progressive}
                yield f"jpeg {options} {quality}", saved(RGB, "JPEG", quality=quality, **options)
    yield "jpeg grey", saved(_GREY, "JPEG")
    yield "jpeg grey progressive", saved(_GREY, "JPEG", progressive=True)
    yield "jpeg of rgb", saved(RGB, "JPEG", keep_rgb=True, quality=95)
    yield "jpeg of cmyk", saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95)
    yield "jpeg with restarts", saved(RGB, "JPEG", restart_marker_blocks=3)
    yield "jpeg with a profile", saved(RGB, "JPEG", icc_profile=bytes(200_000))
    yield "jpeg with a comment", saved(RGB, "JPEG", comment=b"x" * 1000)
    yield "jpeg with optimised codes", saved(RGB, "JPEG", optimize=True)
    yield "jpeg arithmetic", base64.b64decode(_ARITHMETIC)
    yield "jpeg arithmetic progressive", base64.b64decode(_ARITHMETIC_PROGRESSIVE)


def _pngs() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "RGB", "RGBA"):
        yield f"png {mode}", saved(Image.fromarray(RGB).convert(mode), "PNG")
    palette = Image.fromarray(RGB).quantize(200)
    yield "png P", saved(palette, "PNG")
    yield "png P of 4 bits", saved(Image.fromarray(RGB).quantize(9), "PNG", bits=4)
    yield "png P with a clear colour", saved(palette, "PNG", transparency=3)
    yield "png L with a clear grey", saved(_GREY, "PNG", transparency=3)
    yield "png RGB with a clear colour", saved(RGB, "PNG", transparency=(3, 3, 3))
    deep = RGB.astype(np.uint16) * 257
    yield "png L of 16 bits", saved(deep[..., 1], "PNG")
    yield "png RGB of 16 bits", cv2.imencode(".png", deep)[1].tobytes()
    clear = np.dstack([deep, np.full((HEIGHT, WIDTH), 5000, np.uint16)])
    yield "png RGBA of 16 bits", cv2.imencode(".png", clear)[1].tobytes()
    yield "png RGB interlaced", interlaced_png(RGB, 2)
    yield "png L interlaced", interlaced_png(_GREY, 0)
    yield "png RGB interlaced, small", interlaced_png(RGB[:3, :2], 2)
    yield "png RGB interlaced of 16 bits", interlaced_png(deep.astype(">u2"), 2)


def as_pillow_decodes(data: bytes) -> np.ndarray:
    """uint8 [height, width, 3], BGR, upright and without alpha."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        return np.dstack([(np.asarray(image).astype(int) >> 8).astype(np.uint8)] * 3)
    if image.mode in ("LA", "RGBA"):
        return np.asarray(image.convert("RGBA"))[..., 2::-1]
    return np.asarray(image.convert("RGB"))[..., ::-1]
