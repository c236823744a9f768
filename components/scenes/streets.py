"""The harder world: a street of blocks, from one big, close object to distant crowds.

How hard a frame is follows from where the camera is: each block of the street keeps its density
and its distance, and a panning camera passes from one to the next within a clip. Look-alikes,
faint objects and painted walls make a detector's capacity count; small, distant objects make its
input size count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from components.scenes.lookalikes import CYCLES, DECOYS, DOGS, FIXED, LOOKALIKES, PEOPLE, VEHICLES
from components.scenes.sprites import Sprite, random_colour
from components.scenes.world import Actor, World


@dataclass(frozen=True)
class StreetBlock:
    """One stretch of the street.

    Attributes:
        share: how often a block is of this kind.
        objects: least and most annotated actors in it.
        depths: farthest and nearest place of an actor, 0 (horizon) to 1 (lower edge).
        family: what stands there.
        huddle: spread of a cluster, in frame widths; 0 spreads them over the whole block.
    """

    share: float
    objects: tuple[int, int]
    depths: tuple[float, float]
    family: tuple[Sprite, ...]
    huddle: float = 0.0


_BLOCK_LENGTH = 1.2
BLOCKS: tuple[StreetBlock, ...] = (
    StreetBlock(0.30, (1, 2), (0.5, 0.9), LOOKALIKES),
    StreetBlock(0.20, (0, 1), (0.3, 0.6), LOOKALIKES),
    StreetBlock(0.26, (3, 6), (0.14, 0.7), LOOKALIKES),
    StreetBlock(0.13, (12, 24), (0.08, 0.4), (*PEOPLE, *PEOPLE, *CYCLES, *DOGS, *FIXED), 0.22),
    StreetBlock(0.11, (6, 14), (0.1, 0.45), (*VEHICLES, *CYCLES, *FIXED)),
)


class StreetWorld(World):
    """A street of blocks; see World for the arguments. A still is one moment of such a street."""

    loop = 7 * _BLOCK_LENGTH
    minimum_side = 1 / 80

    def parallax(self, depth: float) -> float:
        """See World; blocks stay apart in the distance too."""
        return 0.45 + 0.55 * depth

    def scale(self, depth: float) -> float:
        """See World; a near person is half as high as the frame, a distant one a few pixels."""
        return 0.03 + 0.8 * depth**1.6

    def _place_actors(self) -> list[Actor]:
        rng = self._rng
        self._looped = True
        shares = np.array([block.share for block in BLOCKS])
        kinds = rng.choice(len(BLOCKS), 7, p=shares / shares.sum())
        actors = []
        for place, kind in enumerate(kinds.tolist()):
            block = BLOCKS[kind]
            start = place * _BLOCK_LENGTH - self.loop / 2 + rng.uniform(-0.2, 0.2)
            centres = start + rng.uniform(0.0, _BLOCK_LENGTH, 3)
            for _ in range(int(rng.integers(block.objects[0], block.objects[1] + 1))):
                lateral = start + rng.uniform(0.0, _BLOCK_LENGTH)
                if block.huddle:
                    lateral = float(rng.choice(centres)) + rng.normal(0.0, block.huddle)
                actors.append(self._actor(block.family, block.depths, lateral))
            for _ in range(int(rng.integers(0, 4))):
                lateral = start + rng.uniform(0.0, _BLOCK_LENGTH)
                actors.append(self._actor(DECOYS, (0.08, 0.6), lateral))
        return actors

    def _actor(
        self, family: tuple[Sprite, ...], depths: tuple[float, float], lateral: float
    ) -> Actor:
        rng = self._rng
        shares = np.array([sprite.share for sprite in family])
        sprite = family[int(rng.choice(len(family), p=shares / shares.sum()))]
        depth = rng.uniform(*depths)
        if sprite.metres > 1.75:  # a bus as near as a person would fill the frame
            depth *= (1.75 / sprite.metres) ** 0.5
        facing = 1 if rng.random() < 0.5 else -1
        faint = rng.random() < 0.35
        return Actor(
            sprite,
            depth,
            lateral,
            size=rng.uniform(0.8, 1.2),
            pace=0.5 * sprite.speed * rng.uniform(0.0, 1.0) * facing,
            approach=rng.uniform(-0.015, 0.015) if sprite.speed else 0.0,
            facing=facing,
            seed=int(rng.integers(1 << 31)),
            phase=rng.uniform(0.0, 2 * np.pi),
            opacity=rng.uniform(0.4, 0.9) if faint else 1.0,
        )

    def _paint_backdrop(self) -> np.ndarray:
        """The plain world's backdrop with painted walls and an uneven ground."""
        image, rng = super()._paint_backdrop(), self._rng
        height, width = image.shape[:2]
        coarse = rng.integers(0, 50, (height // 16, width // 16), np.uint8)
        uneven = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        image = cv2.subtract(image, cv2.merge([uneven] * 3))
        for _ in range(int(rng.integers(20, 70))):
            x, y = int(rng.integers(width)), round(self._horizon - rng.uniform(-0.12, 0.2) * height)
            size = rng.uniform(0.004, 0.03, 2) * height
            axes = (max(1, round(size[0])), max(1, round(size[1])))
            colour = random_colour(rng)
            if rng.random() < 0.5:
                cv2.ellipse(image, (x, y), axes, 0, 0, 360, colour, -1)
            else:
                cv2.rectangle(image, (x, y), (x + axes[0], y + 2 * axes[1]), colour, -1)
        return image

    def _background(self, camera: float) -> np.ndarray:
        """Cut the backdrop behind the camera; the road runs across, its dashes move with it."""
        width, height, horizon = self._width, self._height, self._horizon
        offset = round(width / 2 + 0.2 * camera * width) % (2 * width)
        frame = np.ascontiguousarray(np.roll(self._backdrop, -offset, axis=1)[:, :width])
        ground = height - horizon
        top, bottom = horizon + round(0.1 * ground), horizon + round(0.62 * ground)
        cv2.addWeighted(
            frame[top:bottom],
            0.35,
            np.full_like(frame[top:bottom], self._asphalt),
            0.65,
            0,
            dst=frame[top:bottom],
        )
        for depth in (0.22, 0.38):
            y = horizon + round(depth * ground)
            speed = self.parallax(depth) * width
            for dash in np.arange(
                -camera * speed % (0.16 * width) - 0.16 * width, width, 0.16 * width
            ):
                cv2.line(
                    frame,
                    (round(dash), y),
                    (round(dash + 0.07 * width), y),
                    (205, 205, 205),
                    max(1, round(depth * width / 120)),
                )
        return frame


WORLDS: Mapping[str, type[World]] = MappingProxyType({"plain": World, "streets": StreetWorld})
"""What can be rendered, by the name that a configuration gives it."""
