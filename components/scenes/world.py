"""A street: what stands where, how it moves, and what the camera sees.

The ground is a plane seen in perspective. An actor's *depth* runs from 0 (the horizon) to 1 (the
lower edge of the frame), its *lateral* place is in frame widths at depth 1. A clip's street is a
loop (actors that leave on one side come back on the other, out of sight), so a panning camera
meets crowds and empty stretches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from components.data.dataset import SCENE_TYPES, scene_type_of
from components.scenes.conditions import Atmosphere, Condition, apply, sample_atmosphere
from components.scenes.sprites import CLUTTER, OBJECTS, Brush, Sprite, random_colour, shade

_OBJECTS_WANTED = {"sparse": (1, 3), "moderate": (3, 8), "dense": (9, 22)}
_TYPE_SHARES = (0.38, 0.35, 0.27)
_MINIMUM_VISIBLE = 0.4
"""An object of which less than this share can be seen is not annotated."""
_METRE = 0.745
"""Pixels of a metre at scale 1: an adult at the lower edge is a fifth of the frame high."""


@contextmanager
def portable_pixels() -> Iterator[None]:
    """Render on one thread in OpenCV's plain code, so that a seed gives the same bytes everywhere.

    Code for newer instruction sets rounds some pixels otherwise, and is no faster here.
    """
    threads, optimised = cv2.getNumThreads(), cv2.useOptimized()
    cv2.setNumThreads(1)
    cv2.setUseOptimized(False)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        cv2.setUseOptimized(optimised)


@dataclass(frozen=True)
class SceneObject:
    """One annotated object.

    Attributes:
        category_id: COCO's category id.
        box: x, y, width, height in pixels, within the frame.
        area: pixels of the whole silhouette inside the frame.
    """

    category_id: int
    box: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True)
class Scene:
    """One rendered frame: uint8 ``[H, W, 3]`` BGR, its objects and its condition."""

    image: np.ndarray
    objects: tuple[SceneObject, ...]
    condition: Condition

    @property
    def scene_type(self) -> str:
        """Sparse up to 2 annotated objects, moderate up to 7, dense from 8 on."""
        return scene_type_of(len(self.objects))


@dataclass
class Actor:
    """One object in the street: what it is, where it stands and how it moves.

    ``opacity`` below 1 lets the background show through, so that it is faint.
    """

    sprite: Sprite
    depth: float
    lateral: float
    size: float
    pace: float
    approach: float
    facing: int
    seed: int
    phase: float
    opacity: float = 1.0


class World:
    """A street with its actors, its light and its camera, all drawn from one seed.

    Args:
        seed: the entropy of everything in this world.
        condition: light and weather.
        width: frame width in pixels.
        height: frame height in pixels.
        moving: True for a clip (looped street, panning camera), False for a still.
        fps: frames per second of a clip; it turns paces into steps.
    """

    loop = 4.2
    """Length of a clip's looped street, in frame widths: more than the farthest row shows."""
    minimum_side = 1 / 64
    """Neither side of an annotated box is shorter than this share of the frame's width."""

    def __init__(
        self,
        seed: tuple[int, ...],
        condition: Condition,
        width: int,
        height: int,
        *,
        moving: bool,
        fps: float = 10.0,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._width, self._height, self._moving, self._fps = width, height, moving, fps
        self._looped = moving
        rng = self._rng
        self._horizon = round(height * rng.uniform(0.3, 0.48))
        self._atmosphere: Atmosphere = sample_atmosphere(condition, width, height, rng)
        self._vanishing = rng.uniform(0.3, 0.7)
        self._backdrop = self._paint_backdrop()
        self._pan = rng.uniform(-0.4, 0.4) if moving else 0.0
        self._sway = rng.uniform(0.0, 0.25) if moving else 0.0
        self._actors = self._place_actors()

    def parallax(self, depth: float) -> float:
        """How far an actor moves in the frame when the camera moves, relative to depth 1."""
        return 0.3 + 0.7 * depth

    def scale(self, depth: float) -> float:
        """Height of an actor of 1 / ``_METRE`` metres, as a share of the ground's height."""
        return 0.035 + 0.22 * depth

    def _paint_backdrop(self) -> np.ndarray:
        """Sky, houses and ground, half a frame wider on either side than the frame."""
        rng, horizon, height = self._rng, self._horizon, self._height
        width = self._width * 2
        sky = np.array(random_colour(rng, 110, 255), np.float64)
        ground = np.array(random_colour(rng, 60, 150), np.float64)
        image = np.zeros((height, width, 3), np.uint8)
        down = np.linspace(0.0, 1.0, horizon)[:, None]
        image[:horizon] = (sky * (1 - 0.35 * down) + 21.0 * down).clip(0, 255)[:, None]
        down = np.linspace(0.0, 1.0, height - horizon)[:, None]
        image[horizon:] = (ground * (0.7 + 0.4 * down)).clip(0, 255)[:, None]
        left = 0.0
        while left < width:
            house = rng.uniform(0.08, 0.25) * self._width
            top = horizon - rng.uniform(0.1, 0.4) * height
            wall = random_colour(rng, 50, 190)
            cv2.rectangle(
                image, (round(left), round(top)), (round(left + house), horizon), wall, -1
            )
            pane = self._width / 110
            for y in np.arange(top + pane, horizon - 2 * pane, 2.3 * pane):
                for x in np.arange(left + pane, left + house - 2 * pane, 2.3 * pane):
                    if rng.random() < 0.7:
                        glass = shade(wall, rng.uniform(0.4, 1.5))
                        corner = (round(x + pane), round(y + 1.2 * pane))
                        cv2.rectangle(image, (round(x), round(y)), corner, glass, -1)
            left += house + rng.uniform(-0.02, 0.06) * self._width
        self._asphalt = shade(
            (int(ground[0]), int(ground[1]), int(ground[2])), rng.uniform(0.55, 0.8)
        )
        return image

    def _place_actors(self) -> list[Actor]:
        rng = self._rng
        kind = SCENE_TYPES[int(rng.choice(3, p=_TYPE_SHARES))]
        wanted = int(rng.integers(*_OBJECTS_WANTED[kind]))
        clutter = int(rng.integers(0, 5))
        if self._moving:
            # A looped street shows about two fifths of itself at a time.
            wanted, clutter = round(wanted * 2.4), round(clutter * 2.4)
        crowds = rng.uniform(-self.loop / 2, self.loop / 2, max(1, wanted // 6))
        actors = []
        for index in range(wanted + clutter):
            family = OBJECTS if index < wanted else CLUTTER
            shares = np.array([sprite.share for sprite in family])
            sprite = family[int(rng.choice(len(family), p=shares / shares.sum()))]
            depth = rng.uniform(0.03, 1.0) ** (1.4 if kind == "dense" else 1.1)
            if self._moving and rng.random() < 0.6:
                lateral = float(rng.choice(crowds)) + rng.normal(0.0, 0.3)
            elif self._moving:
                lateral = rng.uniform(-self.loop / 2, self.loop / 2)
            else:
                lateral = rng.uniform(-0.52, 0.52) / self.parallax(depth)
            facing = 1 if rng.random() < 0.5 else -1
            pace = sprite.speed * rng.uniform(0.2, 1.0) * facing
            approach = rng.uniform(-0.04, 0.04) if sprite.speed else 0.0
            actors.append(
                Actor(
                    sprite,
                    depth,
                    lateral,
                    rng.uniform(0.85, 1.15),
                    pace,
                    approach,
                    facing,
                    int(rng.integers(1 << 31)),
                    rng.uniform(0.0, 2 * np.pi),
                )
            )
        return actors

    def frames(self, count: int) -> Iterator[Scene]:
        """Look at the street for ``count`` frames, everything moving between them."""
        start = self._rng.uniform(0.0, 2 * np.pi)
        for index in range(count):
            seconds = index / self._fps
            camera = self._pan * seconds + self._sway * np.sin(start + 0.9 * seconds)
            yield self._render(float(camera))
            self._step()

    def _step(self) -> None:
        for actor in self._actors:
            actor.lateral += actor.pace / self._fps
            actor.depth += actor.approach / self._fps
            if not 0.03 <= actor.depth <= 1.0:
                actor.approach = -actor.approach
                actor.depth = min(1.0, max(0.03, actor.depth))
            actor.phase += 6.0 / self._fps if actor.pace else 0.0

    def _render(self, camera: float) -> Scene:
        frame = self._background(camera)
        owner = np.full(frame.shape[:2], -1, np.int16)
        drawn: list[tuple[Sprite, np.ndarray, int, int, int]] = []
        for actor in sorted(self._actors, key=lambda actor: actor.depth):
            silhouette = self._draw(frame, actor, camera)
            if silhouette is None:
                continue
            mask, left, top = silhouette
            index = len(drawn) if actor.sprite.category_id else -1
            owner[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = index
            if actor.sprite.category_id:
                drawn.append((actor.sprite, mask, left, top, index))
        objects = tuple(
            found
            for sprite, mask, left, top, index in drawn
            if (found := self._annotate(sprite, mask, left, top, owner, index)) is not None
        )
        image = apply(frame, self._atmosphere, self._horizon, self._rng)
        return Scene(image, objects, self._atmosphere.condition)

    def _background(self, camera: float) -> np.ndarray:
        """Cut the backdrop behind the camera and lay the road over it."""
        width, height, horizon = self._width, self._height, self._horizon
        offset = round(width / 2 + 0.2 * camera * width) % (2 * width)
        frame = np.ascontiguousarray(np.roll(self._backdrop, -offset, axis=1)[:, :width])
        vanish = (self._vanishing - 0.3 * camera) * width
        near = 0.5 - camera
        road = np.array(
            [
                [vanish - width / 64, horizon],
                [vanish + width / 64, horizon],
                [(near + 0.7) * width, height],
                [(near - 0.7) * width, height],
            ]
        )
        cv2.fillPoly(frame, [road.astype(np.int32)], self._asphalt)
        for down in np.linspace(0.12, 1.0, 7):
            ends = [
                (
                    round(vanish + (near * width - vanish) * at),
                    round(horizon + (height - horizon) * at),
                )
                for at in (down, down + 0.06)
            ]
            cv2.line(frame, ends[0], ends[1], (200, 200, 200), max(1, round(width / 90 * down)))
        return frame

    def _draw(
        self, frame: np.ndarray, actor: Actor, camera: float
    ) -> tuple[np.ndarray, int, int] | None:
        """Draw one actor; returns its silhouette (bool) and the silhouette's left and top."""
        width, height = self._width, self._height
        away = actor.lateral - camera
        if self._looped:
            away = (away + self.loop / 2) % self.loop - self.loop / 2
        x = width * (0.5 + away * self.parallax(actor.depth))
        y = self._horizon + (height - self._horizon) * actor.depth
        scale = (height - self._horizon) * self.scale(actor.depth)
        tall = scale * actor.sprite.metres * _METRE * actor.size
        left, right = max(0, int(x - 1.5 * tall - 2)), min(width, int(x + 1.5 * tall + 3))
        top, bottom = max(0, int(y - 1.4 * tall - 2)), min(height, int(y + 0.1 * tall + 3))
        if left >= right or top >= bottom:
            return None
        patch = frame[top:bottom, left:right]
        before = patch.copy()
        brush = Brush(frame, x, y, tall, actor.facing)
        actor.sprite.draw(brush, np.random.default_rng(actor.seed), actor.phase)
        mask = (before != patch).any(axis=2)
        if actor.opacity < 1.0:
            patch[mask] = cv2.addWeighted(patch, actor.opacity, before, 1 - actor.opacity, 0)[mask]
        return mask, left, top

    def _annotate(
        self, sprite: Sprite, mask: np.ndarray, left: int, top: int, owner: np.ndarray, index: int
    ) -> SceneObject | None:
        area = int(np.count_nonzero(mask))
        shortest = self._width * self.minimum_side
        if area < shortest * shortest:
            return None
        window = owner[top : top + mask.shape[0], left : left + mask.shape[1]]
        if np.count_nonzero(window == index) < _MINIMUM_VISIBLE * area:
            return None
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        wide, tall = int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
        if min(wide, tall) < shortest:
            return None
        box = (float(left + columns[0]), float(top + rows[0]), float(wide), float(tall))
        return SceneObject(sprite.category_id, box, float(area))
