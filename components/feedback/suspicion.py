"""What a reviewer should look at twice. Nothing is refused here: a person decides.

==============  ====================================================================================
sign            meaning
==============  ====================================================================================
far             the boxes agree with the reference's detections by less than asked (F1 at an overlap
                of 0.5, as the shadow's agreement)
unchecked       the reference has not looked at the frame; ``gearshift feedback check`` has it look
contradicted    another user disagrees about the same frame (agreement likewise)
outside         a box reaches out of the frame
tiny            a box is smaller than 3 pixels across
crowded         many more objects than the reference found
doubtful user   at least half of the user's reviewed feedback was rejected
unusable        it can never be used, and why
==============  ====================================================================================
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from components.feedback.decisions import ReviewDecision
from components.feedback.item import FeedbackItem
from inference_graph.contract import Detections
from inference_graph.prediction_log.agreement import AGREEMENT_SCORE, agreement

_TINY = 3.0
_CROWD, _CROWD_LEAST = 3, 10
"""More objects than three times the reference's, and ten more, are many."""
_DOUBTFUL, _DOUBTFUL_LEAST = 0.5, 4
"""Share of rejected items, of at least so many reviewed ones."""


def agreement_of(item: FeedbackItem, other: Detections, ids_by_label: Sequence[int]) -> float:
    """F1 of an item's boxes with a detector's, 0 to 1.

    Args:
        item: the feedback; every box counts as certain.
        other: what the detector saw, in pixels of the same frame.
        ids_by_label: COCO ids of the detector's classes.
    """
    ids = np.array(ids_by_label, np.int32)
    known = other.labels < len(ids)
    seen = Detections(other.boxes[known], other.scores[known], ids[other.labels[known]])
    return agreement(_certain(item), seen)


def signs_of(
    items: Sequence[FeedbackItem],
    decisions: Mapping[str, ReviewDecision],
    ids_by_label: Sequence[int],
    least_agreement: float,
) -> dict[str, tuple[str, ...]]:
    """The signs of every item, by its id, each as one sentence that begins with its name.

    Args:
        items: all feedback there is, so that users can contradict each other.
        decisions: those that count, by item.
        ids_by_label: COCO ids of the detectors' classes.
        least_agreement: below it an item is far from the reference, 0 to 1.
    """
    on_frame: dict[str, list[FeedbackItem]] = defaultdict(list)
    for item in items:
        on_frame[item.frame].append(item)
    doubtful = _doubtful_users(items, decisions)
    return {
        item.item_id: (
            *(f"unusable: {blocker}" for blocker in item.blockers),
            *_against_reference(item, ids_by_label, least_agreement),
            *_contradictions(item, on_frame[item.frame], least_agreement),
            *_shapes(item),
            *((doubtful[item.user],) if item.user in doubtful else ()),
        )
        for item in items
    }


def _against_reference(item: FeedbackItem, ids_by_label: Sequence[int], least: float) -> list[str]:
    if item.reference is None:
        return [] if item.blockers else ["unchecked: the reference has not looked at this frame"]
    signs = []
    found = agreement_of(item, item.reference, ids_by_label)
    if found < least:
        signs.append(f"far: agrees with the reference by {found:.2f} only ({least:.2f} expected)")
    seen = len(item.reference.at_least(AGREEMENT_SCORE))
    if len(item) > _CROWD * seen and len(item) >= seen + _CROWD_LEAST:
        signs.append(f"crowded: {len(item)} objects where the reference found {seen}")
    return signs


def _contradictions(item: FeedbackItem, others: Sequence[FeedbackItem], least: float) -> list[str]:
    mine = _certain(item)
    against = sorted(
        {
            other.user
            for other in others
            if other.user != item.user and agreement(mine, _certain(other)) < least
        }
    )
    if not against:
        return []
    return [f"contradicted: {', '.join(against)} sees something else on this frame"]


def _shapes(item: FeedbackItem) -> list[str]:
    if not len(item) or not item.width or not item.height:
        return []
    signs = []
    corners = item.boxes
    out = (corners[:, :2] < -1).any() or (
        corners[:, 2:] > np.array([item.width + 1, item.height + 1])
    ).any()
    if out:
        signs.append(f"outside: a box reaches out of the {item.width}x{item.height} frame")
    sides = corners[:, 2:] - corners[:, :2]
    if (sides.min(axis=1) < _TINY).any():
        signs.append(f"tiny: a box is smaller than {_TINY:g} pixels across")
    return signs


def _doubtful_users(
    items: Sequence[FeedbackItem], decisions: Mapping[str, ReviewDecision]
) -> dict[str, str]:
    reviewed: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for item in items:
        decision = decisions.get(item.item_id)
        if decision is not None:
            reviewed[item.user] += 1
            rejected[item.user] += decision.decision == "rejected"
    return {
        user: f"doubtful user: {rejected[user]} of {count} reviewed pieces of {user} were rejected"
        for user, count in reviewed.items()
        if count >= _DOUBTFUL_LEAST and rejected[user] >= _DOUBTFUL * count
    }


def _certain(item: FeedbackItem) -> Detections:
    """An item as if a detector had seen it without any doubt; no detector sees crowds."""
    single = ~item.is_crowd
    return Detections(
        item.boxes[single].astype(np.float32),
        np.ones(int(single.sum()), np.float32),
        item.category_ids[single].astype(np.int32),
    )
