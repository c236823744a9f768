from __future__ import annotations

from pathlib import Path

import pytest

from components.ladder.class_map import ClassMap
from foundation.errors import ConfigurationError

NAMES = ("pedestrian", "car", "forklift", "pallet")


def read(folder: Path, text: str) -> ClassMap:
    file = folder / "map.yaml"
    file.write_text(text)
    return ClassMap.read(file)


def test_a_class_takes_coco_s_name_or_an_id_and_the_rest_stay(tmp_path: Path) -> None:
    names, ids = read(tmp_path, "pedestrian: person\nforklift: 200\n").apply(NAMES)
    assert names == ("person", "car", "forklift", "pallet")
    assert ids == (1, 3, 200, 92)  # as without a file, but for the two that it names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no mapping of classes"),
        ("- pedestrian", "no mapping of classes"),
        ("a: [", "no YAML"),
        ("pedestrian: persn", "did you mean 'person'"),
        ("pedestrian: 0", "give a category id from 1"),
        ("pedestrian: true", "give a category id from 1"),
        ("pedestrian: 1.5", "give a category id from 1"),
        ("1: person", "write it in quotes"),
        ("pedestrain: person", "did you mean 'pedestrian'"),
        ("pedestrian: car", "'pedestrian' and 'car' both get the category 3"),
        ("forklift: 3", "'car' and 'forklift' both get the category 3"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read(tmp_path, text).apply(NAMES)


def test_a_map_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        ClassMap.read(tmp_path / "none.yaml")
