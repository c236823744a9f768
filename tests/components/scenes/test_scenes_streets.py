"""The harder world: what it promises of its frames, and that the plain world is what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from components.data.dataset import load_dataset
from components.scenes.lookalikes import DECOYS, LOOKALIKES
from components.scenes.sprites import OBJECTS, Brush, Sprite
from components.scenes.streets import BLOCKS, WORLDS, StreetWorld
from components.scenes.world import World
from components.scenes.writer import ScenesConfig, write_scenes
from foundation.errors import ConfigurationError

SIZE = (320, 240)


def street(seed: int, fps: float = 1.0) -> StreetWorld:
    return StreetWorld((seed, 5), "day", *SIZE, moving=True, fps=fps)


@pytest.fixture(scope="module")
def clips() -> list[list[int]]:
    """Objects of each frame of twenty clips of six seconds."""
    return [[len(scene.objects) for scene in street(seed).frames(6)] for seed in range(30)]


def test_frames_range_from_empty_to_crowded_and_change_within_a_clip(
    clips: list[list[int]],
) -> None:
    counts = np.array(clips)
    assert (counts <= 2).mean() > 0.2 and (counts >= 8).mean() > 0.15
    assert np.median(np.ptp(counts, axis=1)) >= 2


def test_how_hard_a_frame_is_can_be_predicted_from_the_one_before(clips: list[list[int]]) -> None:
    counts = np.array(clips, float)
    before, after = counts[:, :-1].ravel(), counts[:, 1:].ravel()
    assert np.corrcoef(before, after)[0, 1] > 0.7


def test_objects_are_big_and_close_or_small_and_distant() -> None:
    scenes = [next(street(seed).frames(1)) for seed in range(16)]
    heights = [found.box[3] / SIZE[1] for scene in scenes for found in scene.objects]
    assert np.quantile(heights, 0.1) < 0.08 and max(heights) > 0.5


def test_boxes_lie_in_the_frame_and_are_not_too_small() -> None:
    for seed in range(8):
        for found in next(street(seed).frames(1)).objects:
            x, y, wide, tall = found.box
            assert x >= 0 and y >= 0 and x + wide <= SIZE[0] and y + tall <= SIZE[1]
            assert min(wide, tall) >= SIZE[0] / 80


def test_one_seed_gives_one_street() -> None:
    first, again = ([s.image for s in street(3).frames(2)] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_the_categories_are_those_of_the_plain_world() -> None:
    known = {(sprite.category_id, sprite.name) for sprite in OBJECTS}
    assert {(sprite.category_id, sprite.name) for sprite in LOOKALIKES} == known
    assert {sprite.category_id for sprite in DECOYS} == {0}
    assert sum(block.share for block in BLOCKS) == pytest.approx(1)


@pytest.mark.parametrize("sprite", [*LOOKALIKES, *DECOYS], ids=lambda s: s.draw.__name__)
def test_every_variant_stands_on_the_ground_within_its_patch(sprite: Sprite) -> None:
    """`World` takes a silhouette from 1.5 heights to either side, 1.4 above and 0.1 below."""
    for seed in range(5):
        canvas = np.zeros((400, 600, 3), np.uint8)
        sprite.draw(Brush(canvas, 300, 300, 100, 1), np.random.default_rng(seed), 0.3)
        rows, columns = np.nonzero(canvas.any(axis=2))
        assert columns.min() >= 150 and columns.max() <= 450
        assert rows.min() >= 160 and 290 <= rows.max() <= 310
        assert np.ptp(rows) > 60


def test_the_plain_world_is_what_it_was() -> None:
    """Shipped weights and stored figures depend on these pixels."""
    scenes = [
        scene
        for moving in (False, True)
        for scene in World((11, moving), "rain", *SIZE, moving=moving).frames(2)
    ]
    boxes = repr([scene.objects for scene in scenes]).encode()
    assert hashlib.sha256(boxes).hexdigest()[:16] == "b90059129082f622"
    means = [float(scene.image.mean()) for scene in scenes]
    assert means == pytest.approx([81.892, 82.02, 124.574, 124.308], abs=0.01)


def test_streets_are_written_as_any_data_set(tmp_path: Path) -> None:
    config = ScenesConfig(
        frames=2, clips=1, clip_frames=3, width=320, height=240, workers=1, world="streets"
    )
    write_scenes(config, tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    assert len(data) == 5 and data.info["world"] == "streets" and len(data.clips) == 3
    with pytest.raises(ConfigurationError, match="world 'moon' is unknown; choose one of plain"):
        ScenesConfig(frames=1, world="moon")
    assert list(WORLDS) == ["plain", "streets"]
