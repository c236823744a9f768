"""Every kind of picture, against Pillow; what is refused; and that reading takes linear time."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from hostile_pictures import harmless, jpeg_of_scans, refused, segment
from odd_pictures import RGB, as_pillow_decodes, interlaced_png, pictures, saved, turned_pictures

from feature_transformer.decoding.exif import orientation
from feature_transformer.image import DecodeLimits, decode, examined, read_header
from foundation.errors import ImageError


@pytest.mark.parametrize(("name", "data"), [pytest.param(*one, id=one[0]) for one in pictures()])
def test_pixels_are_those_of_an_independent_decoder(name: str, data: bytes) -> None:
    frame, expected = decode(data), as_pillow_decodes(data)
    assert frame.shape == expected.shape
    # The formula of CMYK is not standardized; all else is the same to the last bit.
    tolerance = 1 if "cmyk" in name else 0
    assert np.abs(frame.astype(int) - expected).max() <= tolerance


def test_every_orientation_is_applied_in_every_format() -> None:
    for name, data in turned_pictures():
        assert (decode(data) == as_pillow_decodes(data)).all(), name


@pytest.mark.parametrize(("kind", "form"), [(1, "B"), (3, "H"), (4, "I")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_of_any_whole_number_type(order: str, kind: int, form: str) -> None:
    entry = struct.pack(f"{order}HHI{form}", 0x0112, kind, 1, 6).ljust(12, b"\0")
    block = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, 1) + entry
    assert orientation(block) == orientation(b"Exif\x00\x00" + block) == 6


def test_an_orientation_that_is_none_leaves_the_picture_as_it_is() -> None:
    for value in (0, 9, 65_535):
        entry = struct.pack("<HHIHH", 0x0112, 3, 1, value, 0)
        assert orientation(b"II" + struct.pack("<HIH", 42, 8, 1) + entry) == 1
    whole = b"II" + struct.pack("<HIH", 42, 8, 1) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    for length in range(18):
        assert orientation(whole[:length]) == 1
    assert orientation(b"MM\x00\x2a\xff\xff\xff\xff") == 1


@pytest.mark.parametrize(("name", "data"), [pytest.param(*one, id=one[0]) for one in refused()])
def test_what_is_no_picture_is_refused_in_a_line(name: str, data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("name", "data"), [pytest.param(*one, id=one[0]) for one in harmless()])
def test_what_comes_with_a_picture_never_reaches_a_decoder(name: str, data: bytes) -> None:
    header = read_header(data)
    assert decode(data).shape == (header.height, header.width, 3)
    for kind in (b"acTL", b"fcTL", b"fdAT", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"Exif"):
        assert kind not in examined(data).structure.data


def test_scans_are_bound_by_the_pixels_they_go_over() -> None:
    assert examined(jpeg_of_scans(640, 480, 30)).structure.samples == 31 * 640 * 480
    with pytest.raises(ImageError, match="too much time for so few pixels"):
        examined(jpeg_of_scans(640, 480, 33))
    with pytest.raises(ImageError, match="more than 5 scans"):
        examined(jpeg_of_scans(640, 480, 6), DecodeLimits(max_scans=5))


def test_a_side_and_the_parts_of_a_picture_are_limited() -> None:
    tall = saved(np.zeros((300, 2, 3), np.uint8), "PNG")
    with pytest.raises(ImageError, match="2x300 pixels, a side of more than the 299 allowed"):
        examined(tall, DecodeLimits(max_side=299))
    for form, what in (("JPEG", "segments"), ("PNG", "chunks")):
        with pytest.raises(ImageError, match=f"more than 2 {what}"):
            examined(saved(RGB, form), DecodeLimits(max_parts=2))


def test_a_small_interlaced_picture_needs_few_bytes() -> None:
    assert decode(interlaced_png(RGB[:1, :1], 2)).shape == (1, 1, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_every_beginning_of_a_picture_is_refused(form: str) -> None:
    data = saved(RGB, form)
    for length in (*range(80), *range(80, len(data), 97)):
        with pytest.raises(ImageError):
            examined(data[:length])


def test_examining_takes_time_in_proportion_to_the_length() -> None:
    jpeg = saved(RGB, "JPEG")

    def seconds(parts: int) -> float:
        data = jpeg[:2] + segment(0xE2, bytes(60_000)) * parts + jpeg[2:]
        fill = b"\xff\xd8" + b"\xff" * (60_000 * parts) + jpeg[2:]
        best = float("inf")
        for _ in range(5):
            start = time.thread_time()
            examined(data)
            examined(fill)
            best = min(best, time.thread_time() - start)
        return best

    # Four times the length; what grows with its square would take sixteen times as long.
    assert seconds(160) < 10 * seconds(40) + 0.001
