"""Approved feedback merged with training data, so that the next run learns from it.

The rules, in the order in which they are applied:

1. Only approved items count, and only those whose picture is kept.
2. One picture, one item: of several approved items with the same picture (the same bytes) the one
   reviewed last stands, for its reviewer saw the others.
3. No user gets more than ``user_share`` of the pictures of the data set, and all feedback together
   no more than ``feedback_share``: no single user can poison a policy, nor one with several names.
   Which items of a user stay out is drawn by their ids, which are hashes, so no user can steer it.
4. A picture that the data set has already is not added again: the reviewed objects take the place
   of those it had. Crowds stay where the feedback came by the API, which has no word for them.
5. Classes are matched by name (see ``components.data.class_names``), whatever their numbers; one
   that the data set does not list is added, under a free number.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.data.classes import Classes, free_id, match_dataset
from components.data.coco import check_coco
from components.data.dataset import (
    ANNOTATIONS_FILE,
    Dataset,
    dataset_from_coco,
    dataset_to_coco,
    load_dataset,
    save_dataset,
    scene_type_of,
)
from components.data.violations import refuse
from components.feedback.records import Annotated, read_annotated, write_pictures
from components.feedback.store import FeedbackConfig, FeedbackStore
from feature_transformer.makers import DETECTION
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import sha256_file

_FOLDER = "feedback"
"""Below ``images/``: pictures that came with feedback."""


@configuration
class MergeConfig:
    """How much of a training set may come from feedback.

    Attributes:
        user_share: of the data set's pictures, what one user may give or change at most (0 to 1).
        feedback_share: the same for all users together (0 to 1).
    """

    user_share: Share = 0.05
    feedback_share: Share = 0.25

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a user's share is above that of all."""
        if self.user_share > self.feedback_share:
            raise ConfigurationError(
                f"user_share is {self.user_share}, above feedback_share, which is "
                f"{self.feedback_share}"
            )


@configuration
class MergeOptions(FeedbackConfig, MergeConfig):
    """Which feedback is merged, and how much; see FeedbackConfig and MergeConfig."""

    def __post_init__(self) -> None:
        """Refuse values out of range, as both do."""
        FeedbackConfig.__post_init__(self)
        MergeConfig.__post_init__(self)


@dataclass(frozen=True)
class MergeSummary:
    """What was merged.

    Attributes:
        images: pictures of the result.
        added: pictures that came with feedback.
        replaced: pictures of the data set whose objects feedback replaced.
        objects: boxes that came with feedback.
        users: pictures by the user whose feedback it was.
        left_out: approved items that are not in, by reason.
        categories_added: names of classes the data set did not list before.
    """

    images: int
    added: int
    replaced: int
    objects: int
    users: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    categories_added: tuple[str, ...] = ()


def merge_feedback(
    store: FeedbackStore, dataset_folder: Path, out: Path, config: MergeConfig | None = None
) -> MergeSummary:
    """Write a data set with the approved feedback in it.

    The same store and the same data set give the same result; without approved feedback it is the
    data set. Merge into the data as they were before any feedback: what was approved once and is
    rejected now is then gone.

    Args:
        store: the feedback.
        dataset_folder: the training data, a folder that ingest or scenes made.
        out: the new data set folder; appears whole or not at all.
        config: how much may come from feedback.

    Raises:
        AnnotationError: the folder is no data set, or two of its categories mean one class.
        ConfigurationError: ``out`` is the data set itself.
        InvalidInput: feedback was approved for data of texts, which it cannot correct.
        StorageError: the log cannot be read, or the disk is full.
    """
    config = config or MergeConfig()
    if dataset_folder.resolve().is_relative_to(out.resolve()):
        raise ConfigurationError(f"{out}: is or holds the data set; choose another output folder")
    dataset = load_dataset(dataset_folder)
    approved = store.select("approved")
    records, lost = read_annotated(approved, store.pictures(approved), _FOLDER)
    chosen, left_out = _choose(store, records, len(dataset), config)
    if lost:
        left_out["picture gone"] = len(lost)
    if chosen and dataset.task != DETECTION:
        raise InvalidInput(
            f"{dataset_folder} holds texts, and feedback has boxes without texts; correct the "
            "texts in a folder of your own, or name a store without approved feedback"
        )
    payload = dataset_to_coco(dataset)
    ids, names = _category_ids(payload["categories"], store.classes, chosen, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        sources = [dataset.path_of(index) for index in range(len(dataset))]
        added, replaced = _put(payload, dataset, chosen, ids)
        sources += write_pictures(added, Path(scratch))
        file = dataset_folder / ANNOTATIONS_FILE
        before = dict(payload.get("info") or {}).get("feedback") or {}
        payload["info"] = {
            **dict(payload.get("info") or {}),
            "feedback": {**before, **{one.sha256: one.item.item_id for one in chosen}},
        }
        refuse(file, check_coco(payload).violations)
        save_dataset(dataset_from_coco(out, payload, file), out, sources)
    return MergeSummary(
        images=len(sources),
        added=len(added),
        replaced=replaced,
        objects=sum(len(one.objects) for one in chosen),
        users=dict(sorted(Counter(one.item.user for one in chosen).items())),
        left_out=left_out,
        categories_added=names,
    )


def _choose(
    store: FeedbackStore, records: Sequence[Annotated], size: int, config: MergeConfig
) -> tuple[list[Annotated], dict[str, int]]:
    """Rules 2 and 3: one item per picture, and no user beyond their share."""
    reviewed = sorted(
        records, key=lambda one: (store.decisions[one.item.item_id].time, one.item.item_id)
    )
    by_picture = {one.sha256: one for one in reviewed}  # the last one stays
    left_out = Counter({"same picture": len(records) - len(by_picture)})
    most_each, most = int(config.user_share * size), int(config.feedback_share * size)
    chosen: list[Annotated] = []
    users: Counter[str] = Counter()
    for one in sorted(by_picture.values(), key=lambda one: one.item.item_id):
        if users[one.item.user.casefold()] >= most_each:
            left_out["over the user's share"] += 1
        elif len(chosen) >= most:
            left_out["over the share of feedback"] += 1
        else:
            users[one.item.user.casefold()] += 1
            chosen.append(one)
    return chosen, {reason: count for reason, count in left_out.items() if count}


def _category_ids(
    categories: list[dict[str, Any]],
    classes: Classes,
    chosen: Sequence[Annotated],
    dataset: Dataset,
) -> tuple[dict[int, int], tuple[str, ...]]:
    """The data set's id of every class in use; adds those it does not list to ``categories``."""
    labels = dict(match_dataset(dataset, classes).labels)
    for one in dataset.categories:
        meant = classes.meant_by(one.name)
        if len(meant) == 1 and meant[0] not in labels.values():
            labels[one.id] = meant[0]  # listed, and not in use so far
    ids = {classes.category_ids[label]: number for number, label in labels.items()}
    added = []
    used = {one["category_id"] for record in chosen for one in record.objects}
    for category in sorted(used - set(ids)):
        name = classes.name_of(category)
        number = free_id(category, {one["id"] for one in categories})
        categories.append({"id": number, "name": name})
        ids[category] = number
        added.append(name)
    return ids, tuple(added)


def _put(
    payload: dict[str, Any], dataset: Dataset, chosen: Sequence[Annotated], ids: Mapping[int, int]
) -> tuple[list[Annotated], int]:
    """Put records into a payload; returns those whose picture is new, and how many were not."""
    known = {
        image.sha256 or sha256_file(dataset.path_of(index)): payload["images"][index]
        for index, image in enumerate(dataset.images)
    }
    next_image = max((image["id"] for image in payload["images"]), default=0) + 1
    next_object = max((one["id"] for one in payload["annotations"]), default=0) + 1
    there = {one.sha256: known[one.sha256] for one in chosen if one.sha256 in known}
    relabelled = {there[one.sha256]["id"]: one for one in chosen if one.sha256 in there}
    payload["annotations"] = [
        one
        for one in payload["annotations"]
        if (by := relabelled.get(one["image_id"])) is None
        or (one["iscrowd"] and by.item.origin == "stream")
    ]
    kept = Counter(one["image_id"] for one in payload["annotations"])
    added = []
    for record in chosen:
        image = there.get(record.sha256)
        if image is None:
            image = {"id": next_image, **record.image}
            payload["images"].append(image)
            added.append(record)
            next_image += 1
        else:
            scene_type = scene_type_of(len(record.objects) + kept[image["id"]])
            image["attributes"] = {**image["attributes"], "scene_type": scene_type}
        for one in record.objects:
            payload["annotations"].append(
                {
                    **one,
                    "id": next_object,
                    "image_id": image["id"],
                    "category_id": ids[one["category_id"]],
                }
            )
            next_object += 1
    return added, len(there)
