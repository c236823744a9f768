from __future__ import annotations

import numpy as np
import pytest

from components.scenes.sprites import CLUTTER, OBJECTS, Brush, Sprite, shade

PLAIN = 128


def drawn(sprite: Sprite, height: float = 120.0, facing: int = 1, seed: int = 0) -> np.ndarray:
    """The sprite on grey ground, standing at (200, 180): bool silhouette [240, 400]."""
    canvas = np.full((240, 400, 3), PLAIN, np.uint8)
    brush = Brush(canvas, 200.0, 180.0, height, facing)
    sprite.draw(brush, np.random.default_rng(seed), 0.7)
    return (canvas != PLAIN).any(axis=2)


@pytest.mark.parametrize("sprite", [*OBJECTS, *CLUTTER], ids=lambda sprite: sprite.name)
def test_a_sprite_stands_on_its_origin_and_has_its_stated_height(sprite: Sprite) -> None:
    for seed in range(4):
        mask = drawn(sprite, seed=seed)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert 174 <= rows[-1] <= 192  # its foot, give or take a stroke's round end
        # A tree's crown is drawn at random, everything else stays within a fifth.
        tall = 0.35 if sprite.name == "tree" else 0.2
        assert rows[-1] - rows[0] == pytest.approx(120, rel=tall)
        # World cuts silhouettes out of a window of this size around the origin.
        assert columns[0] >= 200 - 1.5 * 120 - 2 and columns[-1] < 200 + 1.5 * 120 + 3
        assert rows[0] >= 180 - 1.4 * 120 - 2 and rows[-1] < 180 + 0.1 * 120 + 3


@pytest.mark.parametrize("sprite", OBJECTS, ids=lambda sprite: sprite.name)
def test_one_seed_draws_one_sprite_and_facing_mirrors_it(sprite: Sprite) -> None:
    np.testing.assert_array_equal(drawn(sprite), drawn(sprite))
    mirrored = drawn(sprite, facing=-1)[:, ::-1]
    mirrored = np.roll(mirrored, 1, axis=1)  # x = 200 lies one off the middle of 400 columns
    right = drawn(sprite)
    assert (mirrored ^ right).sum() < 0.12 * right.sum()


@pytest.mark.parametrize("sprite", OBJECTS, ids=lambda sprite: sprite.name)
def test_a_small_sprite_is_the_large_one_scaled(sprite: Sprite) -> None:
    large, small = drawn(sprite, 120.0).sum(), drawn(sprite, 60.0).sum()
    assert large / small == pytest.approx(4.0, rel=0.25)


def test_frequencies_add_up() -> None:
    assert sum(sprite.share for sprite in OBJECTS) == pytest.approx(1.0)
    assert sum(sprite.share for sprite in CLUTTER) == pytest.approx(1.0)
    assert len({sprite.category_id for sprite in OBJECTS}) == 9
    assert {sprite.category_id for sprite in CLUTTER} == {0}


def test_shading_by_hand() -> None:
    assert shade((100, 200, 10), 0.5) == (50, 100, 5)
    assert shade((100, 200, 10), 2.0) == (200, 255, 20)
