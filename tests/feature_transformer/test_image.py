from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from png_bombs import png_bomb

from feature_transformer.image import (
    DecodeLimits,
    ImageHeader,
    check_frame,
    decode,
    read_frame,
    read_header,
)
from foundation.errors import ImageError

WIDTH, HEIGHT = 67, 41


def picture() -> np.ndarray:
    """RGB, with texture, so that no format shrinks it to nothing."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = np.random.default_rng(0).integers(0, 40, (HEIGHT, WIDTH))
    return np.stack([rows * 5 + noise, columns * 3, noise * 4], axis=-1).astype(np.uint8)


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, form, **options)
    return buffer.getvalue()


VARIANTS = {
    "jpeg": encoded("JPEG", quality=95),
    "jpeg progressive": encoded("JPEG", quality=95, progressive=True),
    "png": encoded("PNG"),
    "webp lossy": encoded("WEBP", quality=90),
    "webp lossless": encoded("WEBP", lossless=True),
    "webp extended": encoded("WEBP", quality=90, exif=Image.Exif()),
    "bmp": encoded("BMP"),
}
_exif = Image.Exif()
_exif[0x010E] = "a description"
VARIANTS["webp extended"] = encoded("WEBP", quality=90, exif=_exif)
VARIANTS["jpeg exif"] = encoded("JPEG", exif=_exif)


@pytest.mark.parametrize("name", VARIANTS)
def test_header_without_decoding(name: str) -> None:
    assert read_header(VARIANTS[name]) == ImageHeader(name.split()[0], WIDTH, HEIGHT)


@pytest.mark.parametrize("name", VARIANTS)
def test_decoded_in_bgr(name: str) -> None:
    frame = decode(VARIANTS[name])
    assert frame.dtype == np.uint8
    expected = np.asarray(Image.open(io.BytesIO(VARIANTS[name])).convert("RGB"))[..., ::-1]
    # Pillow is an independent decoder; lossy formats may round differently.
    tolerance = 0 if name in ("png", "bmp", "webp lossless") else 12
    assert np.abs(frame.astype(int) - expected).max() <= tolerance


def test_the_extended_webp_variant_is_one() -> None:
    assert VARIANTS["webp extended"][12:16] == b"VP8X"


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_cut_short(name: str, share: float) -> None:
    data = VARIANTS[name]
    with pytest.raises(ImageError) as caught:
        decode(data[: int(len(data) * share)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_shorter_header_is_refused_and_never_crashes(name: str) -> None:
    for length in range(64):
        try:
            read_header(VARIANTS[name][:length])
        except ImageError:
            continue


def test_opencv_takes_half_a_jpeg_from_a_file(tmp_path: Path) -> None:
    # Why images are read as bytes and the end is sought: this call only writes to stderr.
    path = tmp_path / "half.jpg"
    path.write_bytes(VARIANTS["jpeg"][: len(VARIANTS["jpeg"]) // 2])
    assert cv2.imread(str(path)) is not None
    with pytest.raises(ImageError, match="cut short"):
        read_frame(path)


def test_the_end_marker_of_a_thumbnail_is_no_end() -> None:
    thumbnail = VARIANTS["jpeg"]
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = VARIANTS["jpeg"][:2] + segment + VARIANTS["jpeg"][2:]
    assert decode(whole).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageError, match="cut short"):
        decode(whole[:-200])


def test_bytes_after_a_jpeg_do_not_matter() -> None:
    # Cameras append previews and motion clips.
    assert decode(VARIANTS["jpeg"] + b"appended" * 10).shape == (HEIGHT, WIDTH, 3)


def test_a_flipped_bit_in_a_png_is_found() -> None:
    data = bytearray(VARIANTS["png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="cut short or damaged"):
        decode(bytes(data))


def bombs() -> dict[str, bytes]:
    jpeg = bytearray(VARIANTS["jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    webp = bytearray(VARIANTS["webp extended"])
    webp[24:30] = b"\xff\xff\xff\xff\xff\xff"
    bmp = bytearray(VARIANTS["bmp"])
    bmp[18:26] = struct.pack("<ii", 2**31 - 1, -(2**31))
    return {
        "jpeg": bytes(jpeg),
        "png": png_bomb(100_000, 100_000, packed=1_000_000),
        "webp": bytes(webp),
        "bmp": bytes(bmp),
    }


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "bmp"])
def test_a_bomb_is_refused_by_its_declared_size(form: str) -> None:
    with pytest.raises(ImageError, match=r"declares \d+x\d+ pixels, more than"):
        decode(bombs()[form])


def test_a_declared_size_within_the_limit_but_without_the_data() -> None:
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode(png_bomb(5000, 5000))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"hello, world", b"GIF89a" + bytes(50), b"%PDF-1.7", bytes(1000), b"\xff\xd8"],
)
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode(data)


@pytest.mark.parametrize("magic", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBP", b"BM"])
def test_noise_behind_a_magic_number_never_crashes(magic: bytes) -> None:
    generator = np.random.default_rng(1)
    for _ in range(300):
        data = magic + generator.bytes(int(generator.integers(0, 200)))
        with pytest.raises(ImageError):
            decode(data)


@pytest.mark.parametrize("name", VARIANTS)
def test_damage_is_an_image_error_or_a_frame_of_the_declared_size(name: str) -> None:
    generator = np.random.default_rng(2)
    for _ in range(100):
        data = bytearray(VARIANTS[name])
        for at in generator.integers(0, len(data), 4):
            data[at] = generator.integers(0, 256)
        try:
            frame = decode(bytes(data), DecodeLimits(max_pixels=1_000_000))
        except ImageError:
            continue
        header = read_header(bytes(data))
        assert sorted(frame.shape[:2]) == sorted((header.height, header.width))


def test_limits() -> None:
    data = VARIANTS["png"]
    with pytest.raises(ImageError, match="bytes, more than the 100 allowed"):
        decode(data, DecodeLimits(max_bytes=100))
    with pytest.raises(ImageError, match="more than the 2746 allowed"):
        decode(data, DecodeLimits(max_pixels=WIDTH * HEIGHT - 1))
    assert decode(data, DecodeLimits(max_pixels=WIDTH * HEIGHT)).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageError, match="png images are not accepted"):
        decode(data, DecodeLimits(formats=("jpeg",)))


def test_an_empty_size_is_refused() -> None:
    with pytest.raises(ImageError, match="declares 0x0"):
        read_header(png_bomb(0, 0))


def test_other_depths_and_channels_become_bgr8() -> None:
    grey16 = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 20
    frame = decode(cv2.imencode(".png", grey16)[1].tobytes())
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert (frame[..., 0] == frame[..., 2]).all()
    alpha = np.full((HEIGHT, WIDTH, 4), 77, np.uint8)
    assert decode(cv2.imencode(".png", alpha)[1].tobytes()).shape == (HEIGHT, WIDTH, 3)


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    data = encoded("JPEG", exif=exif)
    assert read_header(data) == ImageHeader("jpeg", WIDTH, HEIGHT)
    assert decode(data).shape == (WIDTH, HEIGHT, 3)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(VARIANTS["png"])
    assert (read_frame(path) == decode(VARIANTS["png"])).all()
    path.write_bytes(VARIANTS["png"][:50])
    with pytest.raises(ImageError, match="a.png: "):
        read_frame(path)
    with pytest.raises(ImageError, match="more than the 10 allowed"):
        read_frame(path, DecodeLimits(max_bytes=10))
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="no regular file"):
        read_frame(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="cannot read .*missing.png"):
        read_frame(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="cannot read"):
        read_frame(tmp_path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_frame(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="must be uint8"):
        check_frame(array)
