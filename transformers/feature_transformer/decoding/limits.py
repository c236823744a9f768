"""What is decoded at most, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecodeLimits:
    """What is decoded at most.

    Attributes:
        max_bytes: length of the encoded image in bytes.
        max_pixels: width times height declared in its header.
        formats: formats accepted, of jpeg, png, webp, bmp, and wav for recordings.
        max_side: width or height; the most a jpeg can declare.
        max_parts: segments of a jpeg, chunks of a png or webp; metadata of many megabytes fits.
        max_scans: scans of a jpeg; encoders write about ten of them into a progressive one.
        max_passes: how often the scans of a jpeg may go over its pixels on average, all
            components counted; a progressive one at full chroma takes 14.
        max_sound_seconds: length of a recording.
        max_seconds: time that decoding may take, on a machine that does much else besides.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 40_000_000
    formats: tuple[str, ...] = ("jpeg", "png", "webp", "bmp", "wav")
    max_side: int = 65_535
    max_parts: int = 10_000
    max_scans: int = 64
    max_passes: int = 32
    max_sound_seconds: float = 60.0
    max_seconds: float = 60.0
