"""How one object of each category is drawn, in units of its own height.

Every sprite stands on the origin: x runs forward (towards the object's front), y runs up, and the
height is 1. Colours are BGR. A sprite draws only from the generator it is given, so one seed
gives the same object in every frame of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[int, int, int]
Point = tuple[float, float]

_SUBPIXEL_BITS = 4
"""OpenCV takes fixed-point coordinates; sixteenths of a pixel keep slow objects from jumping."""


class Brush:
    """Draws shapes given in sprite units onto a frame.

    Args:
        canvas: uint8 ``[H, W, 3]`` BGR, drawn upon in place.
        x: where the sprite's origin lies, in pixels from the left.
        y: where the sprite's origin lies, in pixels from the top.
        height: height of the sprite in pixels.
        facing: +1 looks right, -1 looks left.
    """

    def __init__(self, canvas: np.ndarray, x: float, y: float, height: float, facing: int) -> None:
        self._canvas, self._x, self._y = canvas, x, y
        self._height, self._facing = height, facing

    def _fixed(self, points: Sequence[Point]) -> np.ndarray:
        local = np.asarray(points, np.float64) * self._height
        pixels = np.stack([self._x + self._facing * local[:, 0], self._y - local[:, 1]], axis=1)
        return np.round(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)

    def _length(self, value: float) -> int:
        return max(1, round(value * self._height * (1 << _SUBPIXEL_BITS)))

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a convex or concave polygon."""
        cv2.fillPoly(self._canvas, [self._fixed(points)], colour, cv2.LINE_AA, _SUBPIXEL_BITS)

    def box(self, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], colour)

    def line(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """Draw a stroke; ``width`` is in sprite units and never thinner than a pixel."""
        (x0, y0), (x1, y1) = self._fixed([start, end]).tolist()
        thickness = max(1, round(width * self._height))
        cv2.line(self._canvas, (x0, y0), (x1, y1), colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        cx, cy = self._fixed([centre])[0].tolist()
        cv2.circle(
            self._canvas, (cx, cy), self._length(radius), colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS
        )

    def ring(self, centre: Point, radius: float, width: float, colour: Colour) -> None:
        """Draw a circle's outline."""
        cx, cy = self._fixed([centre])[0].tolist()
        thickness = max(1, round(width * self._height))
        cv2.circle(
            self._canvas,
            (cx, cy),
            self._length(radius),
            colour,
            thickness,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )

    def ellipse(self, centre: Point, axes: Point, colour: Colour) -> None:
        """Fill an upright ellipse with the given half axes."""
        cx, cy = self._fixed([centre])[0].tolist()
        size = (self._length(axes[0]), self._length(axes[1]))
        cv2.ellipse(
            self._canvas,
            (cx, cy),
            size,
            0.0,
            0.0,
            360.0,
            colour,
            -1,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )


def random_colour(rng: np.random.Generator, low: int = 20, high: int = 235) -> Colour:
    """A BGR colour with each channel in ``[low, high)``."""
    blue, green, red = rng.integers(low, high, 3).tolist()
    return blue, green, red


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or brighter (above 1), clipped to 0..255."""
    blue, green, red = (int(min(255.0, max(0.0, channel * factor))) for channel in colour)
    return blue, green, red


def _tinted(base: Colour, rng: np.random.Generator, low: float, high: float) -> Colour:
    return shade(base, rng.uniform(low, high))


def draw_wheel(brush: Brush, x: float, radius: float) -> None:
    """A tyre and its hub, standing on the ground."""
    brush.disc((x, radius), radius, (24, 24, 24))
    brush.disc((x, radius), radius * 0.5, (150, 150, 150))


def draw_person(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """A walker; the legs and arms swing with the phase (radians)."""
    shirt, trousers = random_colour(rng), random_colour(rng, 10, 160)
    skin, hair = _tinted((120, 160, 210), rng, 0.45, 1.1), random_colour(rng, 0, 90)
    stride = 0.13 * np.sin(phase)
    brush.line((0.0, 0.46), (-stride - 0.03, 0.03), 0.11, trousers)
    brush.line((0.0, 0.46), (stride + 0.03, 0.03), 0.11, shade(trousers, 0.8))
    brush.ellipse((0.0, 0.64), (0.12, 0.21), shirt)
    brush.line((-0.10, 0.76), (-0.13 + stride, 0.47), 0.07, shade(shirt, 0.8))
    brush.line((0.10, 0.76), (0.13 - stride, 0.47), 0.07, shade(shirt, 0.8))
    if rng.random() < 0.3:  # a bag, so that not every outline is the same
        brush.box(-0.24, 0.38, -0.11, 0.56, random_colour(rng))
    brush.disc((0.0, 0.91), 0.085, skin)
    brush.ellipse((-0.015, 0.95), (0.085, 0.05), hair)


def draw_bicycle(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Two ringed wheels and a diamond frame."""
    frame = random_colour(rng)
    for x in (-0.5, 0.5):
        brush.ring((x, 0.34), 0.33, 0.06, (28, 28, 28))
        spoke = (0.3 * np.cos(phase), 0.3 * np.sin(phase))
        brush.line(
            (x - spoke[0], 0.34 - spoke[1]), (x + spoke[0], 0.34 + spoke[1]), 0.02, (120, 120, 120)
        )
    hub, seat, crank, head = (-0.5, 0.34), (-0.18, 0.8), (0.02, 0.34), (0.36, 0.8)
    for start, end in ((hub, seat), (seat, crank), (crank, hub), (seat, head), (head, crank)):
        brush.line(start, end, 0.05, frame)
    brush.line(head, (0.5, 0.34), 0.05, frame)
    brush.line(head, (0.33, 0.98), 0.05, (40, 40, 40))
    brush.line((0.33, 0.98), (0.48, 0.97), 0.06, (40, 40, 40))
    brush.line((-0.28, 0.86), (-0.06, 0.86), 0.07, (20, 20, 20))


def draw_car(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """A saloon, an estate or a hatchback, seen from the side."""
    body = random_colour(rng)
    glass = shade((210, 205, 190), rng.uniform(0.3, 0.95))
    rear = rng.uniform(-1.05, -0.62)  # how far back the roof reaches tells the kind of car
    brush.polygon([(rear, 0.56), (rear + 0.22, 1.0), (0.34, 1.0), (0.78, 0.56)], shade(body, 0.88))
    brush.polygon([(rear + 0.12, 0.6), (rear + 0.27, 0.93), (-0.08, 0.93), (-0.08, 0.6)], glass)
    brush.polygon([(0.0, 0.6), (0.0, 0.93), (0.3, 0.93), (0.62, 0.6)], glass)
    brush.polygon(
        [(-1.2, 0.22), (-1.2, 0.56), (-1.02, 0.61), (0.8, 0.6), (1.18, 0.5), (1.2, 0.22)], body
    )
    draw_wheel(brush, -0.68, 0.22)
    draw_wheel(brush, 0.68, 0.22)
    brush.disc((1.13, 0.44), 0.06, (180, 240, 250))
    brush.disc((-1.16, 0.46), 0.05, (40, 40, 210))


def draw_motorcycle(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Filled wheels, a tank and a low saddle: shorter and heavier than a bicycle."""
    tank = random_colour(rng)
    draw_wheel(brush, -0.58, 0.3)
    draw_wheel(brush, 0.58, 0.3)
    brush.polygon(
        [(-0.62, 0.46), (-0.2, 0.76), (0.25, 0.82), (0.52, 0.62), (0.2, 0.32), (-0.3, 0.28)], tank
    )
    brush.ellipse((-0.24, 0.78), (0.3, 0.08), (22, 22, 22))
    brush.line((0.55, 0.3), (0.32, 0.98), 0.06, (70, 70, 70))
    brush.line((0.32, 0.98), (0.2, 0.96), 0.05, (40, 40, 40))
    brush.disc((0.46, 0.74), 0.07, (190, 235, 245))


def draw_bus(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """A long box with a row of windows."""
    body, band = random_colour(rng), random_colour(rng)
    glass = shade((205, 200, 190), rng.uniform(0.3, 0.9))
    brush.box(-1.15, 0.13, 1.15, 1.0, body)
    panes = int(rng.integers(4, 7))
    step = 2.1 / panes
    for pane in range(panes):
        left = -1.05 + pane * step
        brush.box(left + 0.04 * step, 0.52, left + 0.84 * step, 0.87, glass)
    brush.box(-1.15, 0.34, 1.15, 0.4, band)
    draw_wheel(brush, -0.7, 0.15)
    draw_wheel(brush, 0.72, 0.15)
    brush.disc((1.1, 0.24), 0.04, (190, 240, 250))


def draw_truck(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """A cab in front of a taller load."""
    load, cab = random_colour(rng, 90, 240), random_colour(rng)
    brush.box(-1.0, 0.24, 0.36, 1.0, load)
    brush.line((-1.0, 0.62), (0.36, 0.62), 0.02, shade(load, 0.75))
    brush.polygon([(0.4, 0.17), (0.4, 0.78), (0.78, 0.78), (1.0, 0.5), (1.0, 0.17)], cab)
    brush.polygon([(0.56, 0.5), (0.56, 0.71), (0.76, 0.71), (0.91, 0.5)], (170, 170, 150))
    brush.box(-1.0, 0.17, 0.42, 0.24, (45, 45, 45))
    for x in (-0.76, -0.4, 0.7):
        draw_wheel(brush, x, 0.16)


def draw_traffic_light(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """A pole with three lamps, one of them lit."""
    brush.line((0.0, 0.0), (0.0, 0.55), 0.05, (72, 72, 72))
    brush.box(-0.13, 0.5, 0.13, 1.0, (26, 26, 26))
    lit = int(rng.integers(3))
    for lamp, colour in enumerate(((40, 40, 235), (40, 200, 245), (70, 225, 70))):
        brush.disc(
            (0.0, 0.91 - 0.165 * lamp), 0.068, colour if lamp == lit else shade(colour, 0.22)
        )


def draw_stop_sign(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """A red octagon with a white rim and bar on a pole."""
    brush.line((0.0, 0.0), (0.0, 0.55), 0.05, (112, 112, 112))
    angles = np.arange(8) * np.pi / 4 + np.pi / 8
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for radius, colour in ((0.27, (245, 245, 245)), (0.235, (40, 30, 200))):
        brush.polygon([(radius * x, 0.73 + radius * y) for x, y in unit.tolist()], colour)
    brush.line((-0.15, 0.73), (0.15, 0.73), 0.07, (240, 240, 240))


def draw_dog(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """A low body, four legs, a head in front and a tail behind."""
    coat = _tinted((60, 100, 150), rng, 0.3, 1.5)
    stride = 0.08 * np.sin(phase)
    for index, x in enumerate((-0.38, -0.24, 0.24, 0.38)):
        swing = stride if index % 2 else -stride
        brush.line((x, 0.5), (x + swing, 0.04), 0.1, shade(coat, 0.8))
    brush.ellipse((0.0, 0.62), (0.5, 0.2), coat)
    brush.line((-0.46, 0.66), (-0.72, 0.94), 0.08, shade(coat, 0.8))
    brush.disc((0.56, 0.82), 0.18, coat)
    brush.polygon([(0.6, 0.72), (0.82, 0.74), (0.8, 0.84), (0.62, 0.9)], shade(coat, 0.9))


def draw_tree(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: a trunk and a crown."""
    brush.line((0.0, 0.0), (0.0, 0.6), 0.08, (40, 60, 90))
    for _ in range(7):
        x, y = rng.normal(0.0, 0.16), 0.72 + rng.normal(0.0, 0.1)
        brush.disc((x, y), 0.17, (40, int(rng.integers(70, 150)), 50))


def draw_kiosk(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: a box as large as a car, so that a box alone is no evidence."""
    wall = random_colour(rng)
    brush.box(-0.4, 0.0, 0.4, 1.0, wall)
    if rng.random() < 0.6:
        brush.box(-0.28, 0.45, 0.28, 0.85, shade(wall, rng.uniform(0.4, 1.5)))


def draw_pole(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: a lamp post, as tall and thin as a traffic light."""
    grey = int(rng.integers(60, 150))
    brush.line((0.0, 0.0), (0.0, 1.0), 0.04, (grey, grey, grey))
    if rng.random() < 0.5:
        brush.disc((0.0, 0.93), 0.09, random_colour(rng))


def draw_post_box(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: about as large and as round as a person."""
    colour = random_colour(rng)
    brush.box(-0.16, 0.0, 0.16, 0.85, colour)
    brush.disc((0.0, 0.84), 0.16, shade(colour, 0.9))


@dataclass(frozen=True)
class Sprite:
    """One kind of object that can stand in a scene.

    Attributes:
        name: COCO's category name, or the clutter's own name.
        category_id: COCO's category id; 0 for clutter, which is drawn but never annotated.
        metres: height in the world, in metres.
        share: relative frequency among the annotated sprites (or among the clutter).
        speed: the fastest pace, in frame widths per second at the nearest depth; 0 stands still.
        draw: the function that draws it.
    """

    name: str
    category_id: int
    metres: float
    share: float
    speed: float
    draw: Callable[[Brush, np.random.Generator, float], None]


OBJECTS: tuple[Sprite, ...] = (
    Sprite("person", 1, 1.75, 0.32, 0.06, draw_person),
    Sprite("bicycle", 2, 1.1, 0.09, 0.14, draw_bicycle),
    Sprite("car", 3, 1.5, 0.23, 0.25, draw_car),
    Sprite("motorcycle", 4, 1.25, 0.07, 0.25, draw_motorcycle),
    Sprite("bus", 6, 3.1, 0.05, 0.18, draw_bus),
    Sprite("truck", 8, 3.0, 0.07, 0.18, draw_truck),
    Sprite("traffic light", 10, 3.2, 0.06, 0.0, draw_traffic_light),
    Sprite("stop sign", 13, 2.6, 0.05, 0.0, draw_stop_sign),
    Sprite("dog", 18, 0.75, 0.06, 0.1, draw_dog),
)
"""The nine annotated categories; heights are those of the street, frequencies are ours."""

CLUTTER: tuple[Sprite, ...] = (
    Sprite("tree", 0, 4.0, 0.3, 0.0, draw_tree),
    Sprite("kiosk", 0, 2.2, 0.25, 0.0, draw_kiosk),
    Sprite("pole", 0, 4.2, 0.25, 0.0, draw_pole),
    Sprite("post box", 0, 1.5, 0.2, 0.0, draw_post_box),
)

CATEGORY_IDS: tuple[int, ...] = tuple(sprite.category_id for sprite in OBJECTS)
CATEGORY_NAMES: tuple[str, ...] = tuple(sprite.name for sprite in OBJECTS)
