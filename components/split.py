"""Stage split: images to learn from, to choose an operating point on, and to judge by.

Whole clips stay together, because two frames of one clip are nearly the same picture; so do images
with the same bytes. Each part gets its share of the frames, of every scene type and of every
condition, as nearly as whole clips allow.

Method: a part's mismatch is the chi-square distance between the frames it has and its share of
them, summed over four groupings (all, by scene type, by condition, by both). Clips are handed out
one by one, the largest first, each to the part where it lowers the mismatch most; then single moves
and swaps go on while they lower it. This is the iterative stratification of Sechidis, Tsoumakas and
Vlahavas (ECML 2011) with groups in place of single examples, and a local search after it.

Default shares: 0.60 to train, 0.15 to validate, 0.25 to test. Test gets more than validation: every
number of the report, with its confidence interval, is made on it, and mean average precision needs
some hundred frames; validation only picks between policies.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.dataset import SCENE_TYPES, Dataset, load_dataset
from feature_transformer.errors import ConfigurationError, InvalidInput
from feature_transformer.storage import atomic_path

PARTS = ("train", "validation", "test")

_SEARCH_LIMIT = 600  # groups; beyond, handing out leaves nothing that swapping could mend
_ROUNDS = 20


@dataclass(frozen=True)
class SplitConfig:
    """How the images are divided.

    Attributes:
        train: share of the frames to learn from.
        validation: share to choose by while training.
        test: share to judge by; the three shares are above 0 and sum up to 1.
        seed: order in which clips of the same size are handed out.
    """

    train: float = 0.60
    validation: float = 0.15
    test: float = 0.25
    seed: int = 0


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
    """Number of images of each part, in all, by scene type and by condition."""

    images: dict[str, int]
    clips: dict[str, int]
    scene_types: dict[str, dict[str, int]]
    conditions: dict[str, dict[str, int]]


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
    groups = _groups(data)
    if len(groups) < len(PARTS):
        raise ConfigurationError(
            f"empty split: {dataset} has {len(groups)} clips or stills, and each of "
            f"{', '.join(PARTS)} needs one of its own; give more clips"
        )
    owner = _assign(_frames_of(data, groups), shares, config.seed)
    part_of = np.zeros(len(data), dtype=np.int64)
    for group, part in zip(groups, owner, strict=True):
        part_of[group] = part
    ids = {name: data.image_ids[part_of == number] for number, name in enumerate(PARTS)}
    summary = _summary(data, part_of)
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


def _groups(data: Dataset) -> list[NDArray[np.int64]]:
    """Positions that have to stay together: clips, joined where they share an image's bytes."""
    leader: dict[str, int] = {}
    parent = list(range(len(data.clips)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for number, clip in enumerate(data.clips):
        for index in clip.indexes.tolist():
            sha256 = data.images[index].sha256
            if sha256 is not None:
                first, second = root(leader.setdefault(sha256, number)), root(number)
                parent[max(first, second)] = min(first, second)
    members: dict[int, list[NDArray[np.int64]]] = {}
    for number, clip in enumerate(data.clips):
        members.setdefault(root(number), []).append(clip.indexes)
    return [np.concatenate(indexes) for indexes in members.values()]


def _frames_of(data: Dataset, groups: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Frames of each group in every class of the four groupings, float64[groups, classes]."""
    classes: dict[tuple[str | None, str | None], int] = {}
    rows = np.zeros((len(data), 4), dtype=np.int64)
    for index, image in enumerate(data.images):
        scene_type, condition = image.scene_type, image.condition
        kinds = ((None, None), (scene_type, None), (None, condition), (scene_type, condition))
        rows[index] = [classes.setdefault(kind, len(classes)) for kind in kinds]
    frames = np.zeros((len(groups), len(classes)))
    for number, group in enumerate(groups):
        np.add.at(frames[number], rows[group].ravel(), 1.0)
    return frames


def _assign(
    frames: NDArray[np.float64], shares: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """Return the part of each group, int64[groups]; every part gets one at least."""
    wanted = shares[:, None] * frames.sum(axis=0)
    sizes = frames[:, 0]
    shuffled = np.random.default_rng(seed).permutation(len(frames))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    owner = np.full(len(frames), -1, dtype=np.int64)
    have = np.zeros_like(wanted)
    for number in order:
        gain = _mismatch(have, wanted) - _mismatch(have + frames[number], wanted)
        owner[number] = int(np.argmax(gain))
        have[owner[number]] += frames[number]
    _fill_empty(owner, have, frames, wanted)
    if len(frames) <= _SEARCH_LIMIT:
        _search(owner, have, frames, wanted)
    return owner


def _mismatch(have: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chi-square distance of each part's frames from its share, over the last axis."""
    distance: NDArray[np.float64] = ((have - wanted) ** 2 / wanted).sum(axis=-1)
    return distance


def _fill_empty(
    owner: NDArray[np.int64],
    have: NDArray[np.float64],
    frames: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> None:
    """Give each empty part the group whose loss and gain cost least; changes owner and have."""
    for part in range(len(wanted)):
        if (owner == part).any():
            continue
        counts = np.bincount(owner, minlength=len(wanted))
        movable = np.flatnonzero(counts[owner] > 1)
        costs = [_move_cost(number, part, owner, have, frames, wanted) for number in movable]
        _move(int(movable[int(np.argmin(costs))]), part, owner, have, frames)


def _search(
    owner: NDArray[np.int64],
    have: NDArray[np.float64],
    frames: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> None:
    """Move and swap groups while that lowers the mismatch; changes owner and have."""
    for _ in range(_ROUNDS):
        improved = False
        for number in range(len(frames)):
            for part in range(len(wanted)):
                alone = np.count_nonzero(owner == owner[number]) == 1
                if part == owner[number] or alone:
                    continue
                if _move_cost(number, part, owner, have, frames, wanted) < -1e-9:
                    _move(number, part, owner, have, frames)
                    improved = True
            others = np.flatnonzero(owner != owner[number])
            costs = _swap_costs(number, others, owner, have, frames, wanted)
            best = int(np.argmin(costs)) if len(others) else 0
            if len(others) and costs[best] < -1e-9:
                mine, theirs = int(owner[number]), int(owner[others[best]])
                _move(number, theirs, owner, have, frames)
                _move(int(others[best]), mine, owner, have, frames)
                improved = True
        if not improved:
            return


def _move_cost(
    number: int,
    part: int,
    owner: NDArray[np.int64],
    have: NDArray[np.float64],
    frames: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> float:
    pair = [int(owner[number]), part]
    change = np.stack([-frames[number], frames[number]])
    after = _mismatch(have[pair] + change, wanted[pair])
    return float((after - _mismatch(have[pair], wanted[pair])).sum())


def _swap_costs(
    number: int,
    others: NDArray[np.int64],
    owner: NDArray[np.int64],
    have: NDArray[np.float64],
    frames: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Change of the mismatch for swapping one group with each of the others, float64[others]."""
    mine, theirs = int(owner[number]), owner[others]
    change = frames[others] - frames[number]
    before = _mismatch(have[mine], wanted[mine]) + _mismatch(have[theirs], wanted[theirs])
    after = _mismatch(have[mine] + change, wanted[mine])
    after = after + _mismatch(have[theirs] - change, wanted[theirs])
    return after - before


def _move(
    number: int,
    part: int,
    owner: NDArray[np.int64],
    have: NDArray[np.float64],
    frames: NDArray[np.float64],
) -> None:
    have[owner[number]] -= frames[number]
    have[part] += frames[number]
    owner[number] = part


def _summary(data: Dataset, part_of: NDArray[np.int64]) -> SplitSummary:
    conditions = sorted({image.condition for image in data.images})
    images, clips = {}, {}
    by_type: dict[str, dict[str, int]] = {}
    by_condition: dict[str, dict[str, int]] = {}
    for number, name in enumerate(PARTS):
        members = [data.images[index] for index in np.flatnonzero(part_of == number)]
        images[name] = len(members)
        clips[name] = sum(part_of[clip.indexes[0]] == number for clip in data.clips)
        types: Counter[str] = Counter(image.scene_type for image in members)
        kinds = Counter(image.condition for image in members)
        by_type[name] = {scene_type: types[scene_type] for scene_type in SCENE_TYPES}
        by_condition[name] = {condition: kinds[condition] for condition in conditions}
    return SplitSummary(images, {k: int(v) for k, v in clips.items()}, by_type, by_condition)
