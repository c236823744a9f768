from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from components.scenes.world import Scene, SceneObject, World

SIZE = (320, 240)


def still(seed: int, without: int | None = None) -> tuple[Scene, World]:
    """A still by day, with all its actors or without the one at a position."""
    world = World((seed, 0, 0), "day", *SIZE, moving=False)
    actors = copy.copy(world._actors)
    if without is not None:
        world._actors = actors[:without] + actors[without + 1 :]
    return next(world.frames(1)), world


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def corners(found: SceneObject) -> tuple[float, float, float, float]:
    x, y, width, height = found.box
    return x, y, x + width, y + height


def sharp(seed: int) -> bool:
    return World((seed, 0, 0), "day", *SIZE, moving=False)._atmosphere.kernel is None


def test_boxes_are_tight_around_what_is_drawn() -> None:
    """Rendered with and without each actor: what differs is the actor, and its box holds it."""
    compared = 0
    for seed in filter(sharp, range(40)):
        compared += boxes_hold_what_differs(seed)
        if compared == 6:
            break
    assert compared == 6


def boxes_hold_what_differs(seed: int) -> bool:
    """Whether the nearest actor, of which all can be seen, was annotated and so compared."""
    whole, world = still(seed)
    order = sorted(range(len(world._actors)), key=lambda i: world._actors[i].depth)
    compared = False
    for place in order:
        rest, _ = still(seed, without=place)
        difference = (whole.image != rest.image).any(axis=2)
        number = world._actors[place].sprite.category_id
        gone = [found for found in whole.objects if found not in rest.objects]
        found = next((one for one in gone if one.category_id == number), None)
        if not difference.any() or found is None:
            continue
        x1, y1, x2, y2 = bounds(difference)
        left, top, right, bottom = corners(found)
        assert left <= x1 and top <= y1 and x2 <= right and y2 <= bottom
        if place == order[-1]:
            # A pixel that light or noise makes equal to what is behind it does not show.
            assert max(x1 - left, y1 - top, right - x2, bottom - y2) <= 2
            assert int(difference.sum()) == pytest.approx(found.area, rel=0.1)
            compared = True
    return compared


def test_a_thing_that_is_hidden_is_not_annotated() -> None:
    """A bus before a dog: less than two fifths of the dog can be seen."""
    from components.scenes.sprites import OBJECTS

    by_name = {sprite.name: sprite for sprite in OBJECTS}
    world = World((3, 0, 0), "day", *SIZE, moving=False)
    model = world._actors[0] if world._actors else None
    assert model is not None

    def actor(name: str, depth: float, lateral: float = 0.0) -> Any:
        made = copy.copy(model)
        made.sprite, made.depth, made.lateral, made.size = by_name[name], depth, lateral, 1.0
        return made

    world._actors = [actor("dog", 0.85), actor("bus", 0.9)]
    names = [found.category_id for found in next(world.frames(1)).objects]
    assert names == [by_name["bus"].category_id]
    world._actors = [actor("dog", 0.85, -0.45), actor("bus", 0.9)]
    names = [found.category_id for found in next(world.frames(1)).objects]
    assert names == [by_name["dog"].category_id, by_name["bus"].category_id]


def test_near_things_are_larger_and_lower() -> None:
    from components.scenes.sprites import OBJECTS

    world = World((3, 0, 0), "day", *SIZE, moving=False)
    model = world._actors[0]
    boxes = []
    for depth in (0.3, 0.6, 0.9):
        one = copy.copy(model)
        one.sprite, one.depth, one.lateral, one.size, one.facing = OBJECTS[0], depth, 0.0, 1.0, 1
        world._actors = [one]
        boxes.append(corners(next(world.frames(1)).objects[0]))
    heights = [y2 - y1 for _, y1, _, y2 in boxes]
    assert heights[0] < heights[1] < heights[2]
    assert boxes[0][3] < boxes[1][3] < boxes[2][3]


def test_one_seed_gives_one_world() -> None:
    for moving in (False, True):
        a, b = (list(World((9, 1, 2), "rain", *SIZE, moving=moving).frames(3)) for _ in range(2))
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
            assert one.objects == other.objects


def test_a_clip_keeps_its_things_and_moves_them() -> None:
    world = World((4, 1, 0), "day", *SIZE, moving=True, fps=10.0)
    scenes = list(world.frames(20))
    counts = [len(scene.objects) for scene in scenes]
    assert max(counts) > 0
    boxes = [{found.box for found in scene.objects} for scene in scenes]
    assert all(
        first != second for first, second in zip(boxes[:-1], boxes[1:], strict=True) if first
    )
    # Everything goes on smoothly: an object is near where it was a tenth of a second ago.
    for first, second in zip(scenes[:-1], scenes[1:], strict=True):
        for found in first.objects:
            near = [
                abs(found.box[0] - other.box[0])
                for other in second.objects
                if other.category_id == found.category_id
            ]
            assert not near or min(near) < 0.25 * SIZE[0]


def test_dense_moderate_and_sparse_streets_all_occur() -> None:
    kinds = {still(seed)[0].scene_type for seed in range(20)}
    assert kinds == {"sparse", "moderate", "dense"}
