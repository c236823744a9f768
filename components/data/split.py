"""Stage split: images to learn from, to choose an operating point on, and to judge by.

Whole clips stay together, because two frames of one clip are nearly the same picture; so do images
with the same bytes, and near-duplicates (``components.data.near_duplicates``). Each part gets its
share of the frames, of every scene type and of every condition, as nearly as whole clips allow.

An image whose record names its part keeps it, and its clip with it: data that a policy was judged
by before must not be learned from afterwards. Only the other clips are handed out.

Method: ``components.data.stratify`` over groupings of the frames: all of them, by scene type, by
condition, by both, and by each of the other slices (``components.data.slices``: brightness, object
size, category pair, time of day, place). The parts' sizes count most, then the scene types, by
which the report judges a policy, then the conditions, then the slices.

Default shares: 0.60 to train, 0.15 to validate, 0.25 to test. Test gets more than validation: every
number of the report, with its confidence interval, is made on it, and mean average precision needs
some hundred frames; validation only picks between policies.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import PARTS, SCENE_TYPES, Dataset, load_dataset
from components.data.image_facts import known_facts
from components.data.near_duplicates import MOST_BITS, AlikeBits, groups_of, near_duplicates
from components.data.slices import coded, imbalance, random_imbalance, slices_of
from components.data.stratify import stratify
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path

# How much a class of each grouping counts: all, scene type, condition, both; each further slice.
_WEIGHTS, _SLICE_WEIGHT = (4.0, 2.0, 1.0, 0.5), 0.5


@configuration
class SplitConfig:
    """How the images are divided.

    Attributes:
        train: share of the frames to learn from.
        validation: share to choose by while training.
        test: share to judge by; the three shares are above 0 and sum up to 1.
        seed: order in which clips of the same size are handed out.
        alike_bits: images stay together whose difference hashes differ in at most so many of 64
            bits (0 to 7), and whose pixels agree.
    """

    train: float = 0.60
    validation: float = 0.15
    test: float = 0.25
    seed: int = 0
    alike_bits: AlikeBits = MOST_BITS


@dataclass(frozen=True, eq=False)
class Split:
    """Ids of the images of each part, int64[n], in the data set's order."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def part(self, name: str) -> NDArray[np.int64]:
        """Return the ids of the part called train, validation or test.

        Raises ConfigurationError for another name.
        """
        if name not in PARTS:
            raise ConfigurationError(f"{name!r} is no part of a split; give {', '.join(PARTS)}")
        ids: NDArray[np.int64] = getattr(self, name)
        return ids


@dataclass(frozen=True)
class SplitSummary:
    """Number of images of each part, and how evenly the slices of the data are shared out.

    Attributes:
        images: of each part.
        clips: of each part.
        scene_types: images of each part by scene type.
        conditions: images of each part by condition.
        near_duplicates: pairs of images that show the same; both are in one part.
        imbalance: of this split, by what is looked at (see ``components.data.slices``).
        random_imbalance: of splits at random, on average.
    """

    images: dict[str, int]
    clips: dict[str, int]
    scene_types: dict[str, dict[str, int]]
    conditions: dict[str, dict[str, int]]
    near_duplicates: int = 0
    imbalance: dict[str, float] = field(default_factory=dict)
    random_imbalance: dict[str, float] = field(default_factory=dict)


def split(dataset: Path, out: Path, config: SplitConfig | None = None) -> SplitSummary:
    """Divide a data set and write the JSON file ``out``; read it with :func:`load_split`.

    The same data and configuration give the same split, byte for byte.

    Raises:
        ConfigurationError: the shares do not add up, or a part would stay empty.
        AnnotationError: the data set folder is broken.
        StorageError: the disk is full.
    """
    config = config or SplitConfig()
    shares = np.array([config.train, config.validation, config.test])
    if not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ConfigurationError(
            f"split: train, validation and test are {config.train:g}, {config.validation:g} and "
            f"{config.test:g}; give shares above 0 that sum up to 1"
        )
    data = load_dataset(dataset)
    pairs = near_duplicates(data, map(known_facts, data.images), config.alike_bits)
    group_of = _groups(data, pairs)
    groups = int(group_of.max(initial=-1)) + 1
    if groups < len(PARTS):
        raise ConfigurationError(
            f"empty split: {dataset} has {groups} clips or stills, and each of "
            f"{', '.join(PARTS)} needs one of its own; give more clips"
        )
    slices = slices_of(data)
    frames, weights = _classes(slices, group_of)
    owner = _kept_parts(data, group_of)
    free = np.flatnonzero(owner < 0)
    if len(free) >= len(PARTS):
        owner[free] = stratify(frames[free], weights, shares, config.seed)
    else:
        owner[free] = 0  # too few to divide: learned from
    missing = [name for number, name in enumerate(PARTS) if not (owner == number).any()]
    if missing:
        raise ConfigurationError(
            f"empty split: no image of {dataset} is left for {', '.join(missing)}; give more clips"
        )
    part_of = owner[group_of]
    ids = {name: data.image_ids[part_of == number] for number, name in enumerate(PARTS)}
    summary = replace(
        _summary(data, part_of),
        near_duplicates=len(pairs),
        imbalance=imbalance(slices, part_of),
        random_imbalance=random_imbalance(slices, group_of, shares, config.seed),
    )
    result: dict[str, Any] = {name: ids[name].tolist() for name in PARTS}
    result |= {"config": asdict(config), "counts": asdict(summary)}
    result["dataset_sha256"] = data.info.get("source_sha256")
    with atomic_path(out) as file:
        file.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return summary


def load_split(path: Path) -> Split:
    """Read what :func:`split` wrote; raises InvalidInput when the file is something else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: np.array(result[name], dtype=np.int64) for name in PARTS}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InvalidInput(
            f"{path}: holds no split ({type(error).__name__}); run the split stage again"
        ) from error
    everything = np.concatenate(list(parts.values()))
    if any(ids.ndim != 1 or not len(ids) for ids in parts.values()) or len(
        np.unique(everything)
    ) != len(everything):
        raise InvalidInput(
            f"{path}: a part is empty, or an image is in it twice; run the split stage again"
        )
    return Split(**parts)


def _groups(data: Dataset, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group of each image, int64[N]: clips stay together, joined where they share a picture.

    Args:
        data: the data set.
        pairs: positions of images that show the same.
    """
    first: dict[str, int] = {}
    joined = array("q", pairs.ravel().tolist())
    for index, image in enumerate(data.images):
        if image.clip is not None:
            joined.extend((first.setdefault(f"clip {image.clip}", index), index))
        if image.sha256 is not None:
            joined.extend((first.setdefault(image.sha256, index), index))
    leaders = groups_of(np.frombuffer(joined, np.int64).reshape(-1, 2), len(data))
    groups: NDArray[np.int64] = np.unique(leaders, return_inverse=True)[1]
    return groups


def _kept_parts(data: Dataset, group_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Part that each group has from before, int64[groups]; -1 where none of its images has one.

    What was ever learned from stays so: of several parts the first counts.
    """
    unknown = len(PARTS)
    kept = np.full(int(group_of.max()) + 1, unknown)
    parts = (unknown if one.part is None else PARTS.index(one.part) for one in data.images)
    np.minimum.at(kept, group_of, np.fromiter(parts, np.int64, len(data)))
    return np.where(kept == unknown, -1, kept)


def _classes(
    slices: Mapping[str, Sequence[str]], group_of: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Frames of each group in every class, float32[groups, classes], and the classes' weights."""
    codes = {kind: coded(names)[1] for kind, names in slices.items()}
    scene_types, conditions = codes.pop("density"), codes.pop("condition")
    both = np.unique(scene_types * (conditions.max() + 1) + conditions, return_inverse=True)[1]
    groupings = (np.zeros_like(both), scene_types, conditions, both, *codes.values())
    weights = _WEIGHTS + (_SLICE_WEIGHT,) * len(codes)
    widths = [int(one.max()) + 1 for one in groupings]
    frames = np.zeros((int(group_of.max()) + 1, sum(widths)), np.float32)
    start = 0
    for one, width in zip(groupings, widths, strict=True):
        np.add.at(frames, (group_of, start + one), 1.0)
        start += width
    return frames, np.repeat(weights, widths)


def _summary(data: Dataset, part_of: NDArray[np.int64]) -> SplitSummary:
    found: dict[str, Counter[tuple[str, str]]] = {
        kind: Counter() for kind in ("images", "clips", "scene_types", "conditions")
    }
    clips: set[str] = set()
    for image, part in zip(data.images, part_of.tolist(), strict=True):
        name = PARTS[part]
        found["images"][name, ""] += 1
        found["clips"][name, ""] += image.clip is None or image.clip not in clips
        if image.clip is not None:
            clips.add(image.clip)
        found["scene_types"][name, image.scene_type] += 1
        found["conditions"][name, image.condition] += 1
    conditions = sorted({condition for _, condition in found["conditions"]})
    return SplitSummary(
        images={name: found["images"][name, ""] for name in PARTS},
        clips={name: found["clips"][name, ""] for name in PARTS},
        scene_types={
            name: {one: found["scene_types"][name, one] for one in SCENE_TYPES} for name in PARTS
        },
        conditions={
            name: {one: found["conditions"][name, one] for one in conditions} for name in PARTS
        },
    )
