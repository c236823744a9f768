"""What a harder street adds: variants of the nine categories that look like each other.

A panel van (truck), a people carrier (car) and a minibus (bus) share one outline and differ in
their windows; a scooter (motorcycle) and a cargo bicycle differ in wheels and motor; a no-entry
sign, a statue or a bench is no object at all. What tells them apart is a few pixels wide, so it
takes resolution to see and capacity to learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.scenes.sprites import (
    CLUTTER,
    OBJECTS,
    Brush,
    Colour,
    Point,
    Sprite,
    draw_dog,
    draw_person,
    draw_wheel,
    random_colour,
    shade,
)


def _decals(
    brush: Brush, rng: np.random.Generator, left: float, low: float, right: float, high: float
) -> None:
    """Stripes and patches of any colour within a rectangle: lettering, advertising, dirt."""
    for _ in range(int(rng.integers(0, 5))):
        x0, x1 = np.sort(rng.uniform(left, right, 2)).tolist()
        y0, y1 = np.sort(rng.uniform(low, high, 2)).tolist()
        if rng.random() < 0.5:
            brush.box(x0, y0, x1, y1, random_colour(rng))
        else:
            brush.line((x0, y0), (x1, y1), rng.uniform(0.02, 0.06), random_colour(rng))


def _one_box_body(brush: Brush, rng: np.random.Generator) -> Colour:
    """The outline that people carrier, panel van and minibus share; returns the glass colour."""
    body = random_colour(rng)
    nose = rng.uniform(0.82, 1.12)
    outline: Sequence[Point] = [
        (-1.12, 0.16),
        (-1.12, 0.92),
        (-1.04, 1.0),
        (0.45, 1.0),
        (0.78, 0.62),
        (nose, 0.5),
        (nose, 0.16),
    ]
    brush.polygon(outline, body)
    glass = shade((205, 200, 190), rng.uniform(0.25, 0.9))
    brush.polygon([(0.3, 0.62), (0.3, 0.9), (0.45, 0.9), (0.7, 0.62)], glass)
    _decals(brush, rng, -1.0, 0.2, 0.2, 0.55)
    for x in (-0.66, 0.62):
        draw_wheel(brush, x, 0.17)
    return glass


def draw_people_carrier(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Car: two side windows behind the driver's."""
    glass = _one_box_body(brush, rng)
    brush.box(-0.94, 0.62, -0.4, 0.88, glass)
    brush.box(-0.3, 0.62, 0.2, 0.88, glass)


def draw_panel_van(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Truck: no window behind the driver's, often one painted on it."""
    _one_box_body(brush, rng)
    if rng.random() < 0.5:
        brush.box(-0.9, 0.6, rng.uniform(-0.4, 0.1), 0.88, random_colour(rng))
    brush.line((-0.35, 0.2), (-0.35, 0.95), 0.015, (60, 60, 60))


def draw_minibus(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Bus: four narrow windows and a lit destination above the windscreen."""
    glass = _one_box_body(brush, rng)
    for pane in range(4):
        left = -1.0 + 0.31 * pane
        brush.box(left, 0.62, left + 0.25, 0.88, glass)
    brush.box(0.2, 0.92, 0.44, 0.98, (90, 200, 245))


def draw_coach(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Bus: one dark band of glass from end to end."""
    brush.box(-1.2, 0.13, 1.2, 1.0, random_colour(rng))
    band = int(rng.integers(20, 70))
    brush.box(-1.16, 0.5, 1.2, 0.84, (band, band, band))
    for pillar in range(int(rng.integers(2, 5))):
        brush.line((-0.8 + 0.45 * pillar, 0.5), (-0.8 + 0.45 * pillar, 0.84), 0.015, (90, 90, 90))
    _decals(brush, rng, -1.1, 0.18, 1.0, 0.46)
    for x in (-0.66, 0.74):
        draw_wheel(brush, x, 0.15)


def draw_box_truck(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Truck: a box that reaches over the cab, often with a dark band like a coach's."""
    brush.box(-1.2, 0.22, 0.72, 1.0, random_colour(rng))
    if rng.random() < 0.5:
        band = int(rng.integers(20, 70))
        brush.box(-1.16, 0.54, 0.68, 0.84, (band, band, band))
    _decals(brush, rng, -1.1, 0.28, 0.6, 0.95)
    brush.box(0.74, 0.15, 1.2, 0.74, random_colour(rng))
    brush.box(0.9, 0.46, 1.18, 0.68, (165, 170, 150))
    brush.box(-1.2, 0.15, 0.74, 0.22, (40, 40, 40))
    for x in (-0.82, -0.5, 0.86):
        draw_wheel(brush, x, 0.15)


def draw_pick_up(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Truck: a car's front and an open bed behind."""
    body = random_colour(rng)
    glass = shade((210, 205, 190), rng.uniform(0.3, 0.95))
    brush.polygon([(-0.28, 0.56), (-0.24, 1.0), (0.34, 1.0), (0.7, 0.58)], shade(body, 0.88))
    brush.polygon([(0.0, 0.6), (0.0, 0.92), (0.3, 0.92), (0.58, 0.6)], glass)
    brush.box(-1.2, 0.22, 1.16, 0.58, body)
    brush.box(-1.12, 0.54, -0.34, 0.6, shade(body, 0.4))
    for x in (-0.7, 0.7):
        draw_wheel(brush, x, 0.22)


def _step_through(brush: Brush, rng: np.random.Generator) -> Colour:
    """The low frame that a scooter and a cargo bicycle share; returns its colour."""
    colour = random_colour(rng)
    brush.line((-0.5, 0.5), (0.1, 0.26), 0.08, colour)
    brush.line((0.1, 0.26), (0.42, 0.9), 0.07, colour)
    brush.line((0.3, 0.97), (0.46, 0.93), 0.06, (40, 40, 40))
    brush.ellipse((-0.36, 0.74), (0.22, 0.06), (24, 24, 24))
    brush.line((-0.36, 0.7), (-0.4, 0.45), 0.06, (60, 60, 60))
    return colour


def draw_scooter(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Motorcycle: small solid wheels and a filled tail."""
    colour = _step_through(brush, rng)
    brush.polygon([(-0.7, 0.36), (-0.66, 0.68), (-0.2, 0.66), (-0.12, 0.3)], colour)
    for x in (-0.5, 0.52):
        draw_wheel(brush, x, 0.2)


def draw_cargo_bicycle(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Bicycle: ringed wheels, and often a box where a scooter has its tail."""
    colour = _step_through(brush, rng)
    for x, radius in ((-0.52, 0.3), (0.54, 0.22)):
        brush.ring((x, radius), radius, 0.06, (28, 28, 28))
    if rng.random() < 0.6:
        brush.box(-0.74, 0.62, -0.44, 0.86, shade(colour, 0.8))


def draw_dressed_person(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Person: a walker in a long coat, with stripes, a rucksack or an umbrella."""
    draw_person(brush, rng, phase)
    coat = random_colour(rng)
    choice = rng.random()
    if choice < 0.4:
        brush.polygon([(-0.13, 0.22), (-0.1, 0.8), (0.1, 0.8), (0.14, 0.22)], coat)
    elif choice < 0.65:
        for height in (0.54, 0.62, 0.7):
            brush.line((-0.1, height), (0.1, height), 0.03, coat)
    elif choice < 0.85:
        brush.ellipse((-0.16, 0.66), (0.08, 0.13), coat)
    else:
        brush.line((0.1, 0.6), (0.1, 1.1), 0.02, (40, 40, 40))
        brush.polygon([(-0.25, 1.08), (0.1, 1.28), (0.45, 1.08)], coat)


def draw_statue(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: a person's outline in one stone colour, on a plinth."""
    grey = int(rng.integers(70, 190))
    stone = (grey, grey, grey)
    brush.box(-0.2, 0.0, 0.2, 0.22, shade(stone, 0.8))
    brush.line((-0.04, 0.5), (-0.06, 0.2), 0.09, stone)
    brush.line((0.04, 0.5), (0.06, 0.2), 0.09, stone)
    brush.ellipse((0.0, 0.66), (0.11, 0.19), stone)
    brush.disc((0.0, 0.91), 0.08, stone)


def draw_bench(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: legs and a low body like a dog's, without a head."""
    wood = shade((60, 100, 150), rng.uniform(0.3, 1.5))
    for x in (-0.6, -0.45, 0.45, 0.6):
        brush.line((x, 0.5), (x, 0.0), 0.08, shade(wood, 0.8))
    brush.box(-0.75, 0.48, 0.75, 0.66, wood)
    if rng.random() < 0.5:
        brush.box(-0.75, 0.8, 0.75, 0.98, wood)


def draw_cat(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: a dog's outline with pointed ears and a long upright tail."""
    draw_dog(brush, rng, phase)
    coat = shade((90, 110, 130), rng.uniform(0.3, 1.5))
    brush.disc((0.56, 0.82), 0.19, coat)
    brush.polygon([(0.4, 0.92), (0.44, 1.16), (0.56, 0.98)], coat)
    brush.polygon([(0.58, 0.98), (0.68, 1.16), (0.72, 0.92)], coat)
    brush.line((-0.48, 0.66), (-0.56, 1.2), 0.07, coat)


def draw_other_sign(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: no entry (a red disc with the stop sign's bar), or a plain octagon."""
    brush.line((0.0, 0.0), (0.0, 0.55), 0.05, (112, 112, 112))
    brush.disc((0.0, 0.73), 0.27, (245, 245, 245))
    brush.disc((0.0, 0.73), 0.235, (40, 30, 200) if rng.random() < 0.6 else random_colour(rng))
    if rng.random() < 0.7:
        brush.line((-0.15, 0.73), (0.15, 0.73), 0.07, (240, 240, 240))


def draw_signal_box(brush: Brush, rng: np.random.Generator, phase: float) -> None:
    """Clutter: a traffic light's pole and box with two lamps, or none, instead of three."""
    brush.line((0.0, 0.0), (0.0, 0.55), 0.05, (72, 72, 72))
    brush.box(-0.13, 0.5, 0.13, 1.0, (26, 26, 26))
    for lamp in range(int(rng.integers(0, 3))):
        brush.disc((0.0, 0.87 - 0.24 * lamp), 0.068, random_colour(rng))


def _variants(category_id: int, shares: Sequence[float]) -> tuple[Sprite, ...]:
    """The category's plain sprite and its look-alikes, in the order of ``_DRAWN``."""
    plain = next(sprite for sprite in OBJECTS if sprite.category_id == category_id)
    kinds = ((plain.metres, plain.draw), *_DRAWN[category_id])
    return tuple(
        Sprite(plain.name, category_id, metres, share, plain.speed, draw)
        for (metres, draw), share in zip(kinds, shares, strict=True)
    )


_DRAWN = {
    1: ((1.75, draw_dressed_person), (1.15, draw_dressed_person)),
    2: ((1.15, draw_cargo_bicycle),),
    3: ((2.0, draw_people_carrier),),
    4: ((1.15, draw_scooter),),
    6: ((2.4, draw_minibus), (3.3, draw_coach)),
    8: ((2.2, draw_panel_van), (3.3, draw_box_truck), (1.7, draw_pick_up)),
    10: (),
    13: (),
    18: (),
}

PEOPLE = _variants(1, (0.14, 0.12, 0.06))
VEHICLES = (
    *_variants(3, (0.14, 0.08)),
    *_variants(6, (0.03, 0.04, 0.04)),
    *_variants(8, (0.03, 0.05, 0.05, 0.03)),
)
CYCLES = (*_variants(2, (0.05, 0.05)), *_variants(4, (0.04, 0.05)))
FIXED = (*_variants(10, (0.05,)), *_variants(13, (0.04,)))
DOGS = _variants(18, (0.06,))
LOOKALIKES: tuple[Sprite, ...] = (*PEOPLE, *VEHICLES, *CYCLES, *FIXED, *DOGS)
"""Every annotated variant; categories and ids are those of ``OBJECTS``."""

DECOYS: tuple[Sprite, ...] = (
    *CLUTTER,
    Sprite("statue", 0, 1.9, 0.2, 0.0, draw_statue),
    Sprite("bench", 0, 0.9, 0.15, 0.0, draw_bench),
    Sprite("cat", 0, 0.5, 0.1, 0.05, draw_cat),
    Sprite("other sign", 0, 2.6, 0.2, 0.0, draw_other_sign),
    Sprite("signal box", 0, 3.2, 0.15, 0.0, draw_signal_box),
)
"""Drawn but never annotated; half of them resemble a category."""
