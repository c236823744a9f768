from __future__ import annotations

import pytest

from inference_graph.coco_categories import category_ids


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("person", "toothbrush"), (1, 90)),
        (("forklift", "person", "pallet", "car"), (91, 1, 92, 3)),  # the others keep theirs
        (("forklift", "pallet"), (1, 2)),
        ((), ()),
    ],
)
def test_one_class_outside_coco_renumbers_no_other(
    names: tuple[str, ...], ids: tuple[int, ...]
) -> None:
    assert category_ids(names) == ids
