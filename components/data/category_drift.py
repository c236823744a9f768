"""Categories of a data set held against those of an earlier version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from scipy.stats import norm  # type: ignore[import-untyped]

from components.data.class_names import in_coco
from components.data.dataset import Dataset

_CHANCE = 0.001
"""Probability, over all categories together, that chance alone is reported."""


def drifted_categories(data: Dataset, reference: Dataset, least: float) -> Iterator[dict[str, Any]]:
    """Categories, matched by name, whose share of the boxes changed.

    Shares are compared by the two-sample test of proportions (pooled variance), its level divided
    by the number of categories (Bonferroni).

    Args:
        data: the data set.
        reference: the earlier version.
        least: smallest difference of a share that counts, 0 to 1.
    """
    now, before = _counts(data), _counts(reference)
    boxes, boxes_before = sum(now.values()), sum(before.values())
    if not boxes or not boxes_before:
        return
    names = sorted(now.keys() | before.keys())
    limit = float(norm.isf(_CHANCE / 2 / len(names)))
    shown = {in_coco(one.name): one.name for one in (*reference.categories, *data.categories)}
    for name in names:
        share, share_before = now[name] / boxes, before[name] / boxes_before
        pooled = (now[name] + before[name]) / (boxes + boxes_before)
        error = (pooled * (1 - pooled) * (1 / boxes + 1 / boxes_before)) ** 0.5
        change = abs(share - share_before)
        gone_or_new = not now[name] or not before[name]
        if error and change > limit * error and (change > least or gone_or_new):
            yield {
                "name": shown[name],
                "share": round(share, 4),
                "reference_share": round(share_before, 4),
            }


def _counts(data: Dataset) -> Counter[str]:
    names = {category.id: in_coco(category.name) for category in data.categories}
    return Counter(names[number] for number in data.category_ids.tolist())
