"""Sample data of the task ``ocr``: receipts, signs and labels, drawn from a seed.

A clip is what one device sends: pictures of one kind in one font, taken under conditions that
change slowly. Its texts differ from picture to picture. Fonts are those that Matplotlib brings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER
from components.data.text_payload import TextPayload
from components.parallel import Progress, no_progress
from feature_transformer.image import Frame
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.storage import atomic_path
from inference_graph.tasks.ocr.reader import OCR

KINDS = ("receipt", "sign", "label")
CONDITIONS = ("clean", "worn", "poor")
"""How the pictures of a clip were taken, by how much was lost."""

_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmr10",
    "cmss10",
    "cmtt10",
    "cmb10",
)
_VOCABULARY = (
    "fresh milk bread apple juice total cash change tax coffee butter tea sugar rice soup salt "
    "pepper cheese ham eggs tomato onion water open closed exit push pull station street north "
    "south east west gate platform ticket office parking danger keep clear no entry fragile handle "
    "care batch lot weight net best before use by made in store cool dry serial model number "
    "voltage power input output warning"
)
_WORDS = _VOCABULARY.split()
_MARGIN = 16
_JPEG_QUALITY = 90


@configuration
class DocumentsConfig:
    """What to draw.

    Attributes:
        clips: number of clips.
        clip_frames: pictures of each clip.
        seed: the same seed gives the same pictures.
    """

    clips: Annotated[int, Field(ge=1)] = 60
    clip_frames: Annotated[int, Field(ge=1)] = 8
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Damage:
    """How a picture was taken.

    Attributes:
        size: height of the letters in pixels.
        contrast: between letters and ground, 0..1.
        blur: standard deviation of the blur in pixels.
        noise: standard deviation of the noise in grey values.
        tilt: rotation in degrees.
        warp: shift of the corners by perspective, as a share of the height.
        shade: how much darker the far side is, 0..1.
    """

    size: int
    contrast: float
    blur: float
    noise: float
    tilt: float
    warp: float
    shade: float

    @staticmethod
    def drawn(rng: np.random.Generator, strength: float, sign: bool) -> Damage:
        """Draw how one device takes pictures.

        Args:
            rng: where chance comes from.
            strength: how bad it may be, 0..1.
            sign: whether large letters are photographed.
        """
        size = rng.integers(26, 40) if sign else rng.integers(15, 23)
        return Damage(
            size=max(int(size * (1 - 0.4 * strength * rng.random())), 9),
            contrast=1 - 0.75 * strength * rng.random(),
            blur=1.5 * strength * rng.random(),
            noise=26 * strength * rng.random(),
            tilt=float(rng.normal(0, 6 * strength)),
            warp=0.12 * strength * rng.random(),
            shade=0.5 * strength * rng.random(),
        )


def document(
    rng: np.random.Generator, kind: str, font: str, damage: Damage
) -> tuple[Frame, list[tuple[str, list[float]]]]:
    """Draw one picture.

    Args:
        rng: where text, colours and noise come from.
        kind: of `KINDS`.
        font: a font's file.
        damage: how it is taken.

    Returns:
        The picture, uint8 [height, width, 3] BGR, and its lines with their boxes
        (x, y, width, height in pixels, before tilt and perspective).
    """
    from PIL import Image, ImageDraw, ImageFont

    lines = _lines(rng, kind)
    face = ImageFont.truetype(font, damage.size)
    step = int(damage.size * 1.5)
    width = int(max(face.getlength(line) for line in lines)) + 2 * _MARGIN
    height = step * len(lines) + 2 * _MARGIN
    ground = rng.integers(0, 256, 3) if kind == "sign" else rng.integers(205, 256, 3)
    far = -ground if ground.mean() > 128 else 255 - ground
    ink = ground + far * damage.contrast
    image = Image.new("RGB", (width, height), tuple(ground.tolist()))
    pen = ImageDraw.Draw(image)
    found = []
    for row, line in enumerate(lines):
        top = _MARGIN + row * step
        pen.text((_MARGIN, top), line, font=face, fill=tuple(int(value) for value in ink))
        box = [float(_MARGIN), float(top), float(face.getlength(line)), float(step)]
        found.append((" ".join(line.split()), box))
    return _taken(rng, np.asarray(image)[:, :, ::-1], damage), found


def write_documents(config: DocumentsConfig, out: Path, progress: Progress = no_progress) -> None:
    """Draw the pictures into a folder in COCO's format, each annotation with its text.

    Args:
        config: what to draw.
        out: the folder; appears whole or not at all.
        progress: called with pictures done and in all.

    Raises:
        ConfigurationError: there are no fonts.
        StorageError: the disk is full.
    """
    total = config.clips * config.clip_frames
    payload = TextPayload(OCR, "text", "receipts, signs and labels")
    with atomic_path(out) as folder:
        (folder / IMAGES_FOLDER).mkdir(parents=True)
        for clip in range(config.clips):
            rng = np.random.default_rng((config.seed, clip))
            kind, font = str(rng.choice(KINDS)), str(rng.choice(np.array(fonts())))
            condition = str(rng.choice(CONDITIONS))
            strength = (CONDITIONS.index(condition) + rng.random()) / len(CONDITIONS)
            start, end = (Damage.drawn(rng, strength, kind == "sign") for _ in range(2))
            for frame in range(config.clip_frames):
                damage = _between(start, end, 0.5 * frame / config.clip_frames)
                picture, lines = document(rng, kind, font, damage)
                name = f"{clip:04d}-{frame:03d}.jpg"
                quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
                cv2.imwrite(str(folder / IMAGES_FOLDER / name), picture, quality)
                attributes = {
                    "clip": f"{kind}-{clip:04d}",
                    "frame_index": frame,
                    "condition": condition,
                }
                texts = [(text, _inside(box, picture)) for text, box in lines]
                payload.add(name, (picture.shape[1], picture.shape[0]), attributes, texts)
                progress(len(payload), total)
        text = json.dumps(payload.content) + "\n"
        (folder / ANNOTATIONS_FILE).write_text(text, encoding="utf-8")


@cache
def fonts() -> Sequence[str]:
    """Files of the fonts; raises ConfigurationError where Matplotlib is not installed."""
    spec = find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the sample documents are drawn with Matplotlib's fonts; pip install 'gearshift[ocr]'"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "mpl-data" / "fonts" / "ttf"
    return tuple(str(folder / f"{name}.ttf") for name in _FONTS)


def _lines(rng: np.random.Generator, kind: str) -> list[str]:
    def words(least: int, most: int) -> str:
        return " ".join(rng.choice(np.array(_WORDS), int(rng.integers(least, most + 1))))

    def price(most: int) -> str:
        return f"{rng.integers(1, most)}.{rng.integers(100):02d}"

    if kind == "receipt":
        items = [f"{words(1, 1):<10}{price(30)}" for _ in range(int(rng.integers(3, 7)))]
        return [words(2, 2).upper(), *items, f"{'TOTAL':<10}{price(200)}"]
    if kind == "sign":
        return [words(1, 2).upper() for _ in range(int(rng.integers(1, 4)))]
    return [
        words(2, 3).capitalize(),
        f"LOT {rng.integers(1000, 99999)}-{chr(65 + int(rng.integers(26)))}",
        f"EXP {rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/20{rng.integers(26, 32)}",
        f"No. {rng.integers(10**5, 10**7)}",
    ]


def _between(start: Damage, end: Damage, share: float) -> Damage:
    mixed = {
        name: (1 - share) * value + share * getattr(end, name)
        for name, value in vars(start).items()
    }
    return Damage(**{**mixed, "size": int(mixed["size"])})


def _taken(rng: np.random.Generator, picture: Any, damage: Damage) -> Frame:
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-damage.warp, damage.warp, (4, 2)).astype(np.float32) * height
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), damage.tilt, 1)
    placed = np.vstack([turn, [0, 0, 1]]) @ cv2.getPerspectiveTransform(corners, moved)
    seen = cv2.warpPerspective(picture, placed, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if damage.blur > 0.2:
        seen = cv2.GaussianBlur(seen, (0, 0), damage.blur)
    light = np.linspace(1, 1 - damage.shade, width)[None, :, None]
    noise = rng.normal(0, damage.noise, seen.shape)
    return np.clip(seen * light + noise, 0, 255).astype(np.uint8)


def _inside(box: list[float], picture: Frame) -> list[float]:
    x, y, width, height = box
    return [x, y, min(width, picture.shape[1] - x), min(height, picture.shape[0] - y)]
