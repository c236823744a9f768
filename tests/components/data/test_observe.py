from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coco_samples import box_record, image_record, write_canonical, write_image

from components.data.dataset import load_dataset
from components.data.observe import ObserveConfig, load_observations, observe
from feature_transformer.observation import FRAME_FEATURES, SCHEMA_HASH, frame_features
from foundation.errors import ImageError, InvalidInput, SchemaMismatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_image(root / "images" / "009.png", colour=51)
    images = [image_record(9), *(image_record(number) for number in range(1, 6))]
    return write_canonical(root, images, [box_record(1, 1, [1, 1, 5, 5])])


def test_features_stand_in_the_order_of_the_data(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    summary = observe(
        folder,
        tmp_path / "observations.npz",
        ObserveConfig(workers=2),
        lambda done, total: seen.append((done, total)),
    )
    assert (summary.images, summary.features, summary.schema_hash) == (6, 1028, SCHEMA_HASH)
    assert seen == [(k, 6) for k in range(1, 7)]
    found = load_observations(tmp_path / "observations.npz")
    assert found.image_ids.tolist() == [9, 1, 2, 3, 4, 5]
    assert (found.features.shape, found.features.dtype) == ((6, FRAME_FEATURES), np.float32)
    # An even grey of 51 has no edges: 1024 times 0.2, four times 0.
    assert np.allclose(found.features[0, :1024], 0.2)
    assert not found.features[0, 1024:].any()
    data = load_dataset(folder)
    assert np.array_equal(found.features[3], frame_features(data.read(3)))
    assert np.array_equal(found.select([4, 9]), found.features[[4, 0]])
    with pytest.raises(InvalidInput, match="no image 77"):
        found.select([77])


def test_the_same_data_give_the_same_file(folder: Path, tmp_path: Path) -> None:
    for name, workers in (("a.npz", 1), ("b.npz", 3)):
        observe(folder, tmp_path / name, ObserveConfig(workers=workers))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_broken_picture_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    file = folder / "images" / "004.png"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ImageError, match=r"004\.png"):
        observe(folder, tmp_path / "observations.npz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    with pytest.raises(InvalidInput, match="run the observe stage again"):
        load_observations(file)
    file.write_text("text")
    with pytest.raises(InvalidInput, match="holds no observations"):
        load_observations(file)
    row = np.zeros((1, FRAME_FEATURES), np.float32)
    one = np.ones(1, np.int64)
    np.savez(file, image_ids=one, features=row, schema_hash=np.array("0" * 64))
    with pytest.raises(SchemaMismatch, match="observation schema 000000000000"):
        load_observations(file)
    np.savez(file, image_ids=one, features=row[:, :9], schema_hash=np.array(SCHEMA_HASH))
    with pytest.raises(InvalidInput, match="features of shape"):
        load_observations(file)
    np.savez(file, image_ids=np.array([{}]), features=row, schema_hash=np.array(SCHEMA_HASH))
    with pytest.raises(InvalidInput):  # pickled objects are never loaded
        load_observations(file)
