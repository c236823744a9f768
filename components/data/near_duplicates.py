"""Pictures that show the same: found by their difference hash, confirmed by their pixels.

Two pictures are near-duplicates when their 64-bit difference hashes differ in at most
``distance`` bits and small grey copies of both agree. Hashes are not compared pair by pair:

- 64 bits are four words of 16. Hashes that differ in at most 7 bits have a word that differs in at
  most one (pigeonhole), so looking up each word and its 16 neighbours finds every such pair;
  with few pictures a word, the work grows with the number of pictures, not with its square.
- Pictures of flat areas (sky, road) share words by the thousand. Only pairs within the distance
  leave the lookup, and those are confirmed by the correlation of the small copies.

Source of the lookup: M. Norouzi, A. Punjani, D. Fleet, "Fast Exact Search in Hamming Space with
Multi-Index Hashing", arXiv 1307.2982.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from components.data.dataset import Dataset
from components.data.image_facts import BLANK, ImageFacts
from feature_transformer.image import Frame

MOST_BITS = 7
"""Largest distance that the lookup is exact for."""
_SIDE = 32
"""Pixels of a small copy's side; large enough to tell scenes apart that share their layout."""
_LEAST_CORRELATION = 0.95
_BLOCK = 1 << 18  # candidate pairs compared at once: what bounds the memory


def close_hashes(
    hashes: NDArray[np.uint64], groups: NDArray[np.int64], distance: int = MOST_BITS
) -> NDArray[np.int64]:
    """Pairs of hashes that differ in at most so many bits and are not of one group.

    Args:
        hashes: uint64[N].
        groups: int64[N]; pairs within a group are left out before they take memory.
        distance: 0 to MOST_BITS.

    Returns:
        int64[P, 2], positions, the smaller one first, in order; each pair once.
    """
    found = [np.empty((0, 2), np.int64)]
    for word in range(4):
        words = ((hashes >> np.uint64(16 * word)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(words, kind="stable")
        starts = np.searchsorted(words[order], np.arange(0x10001))
        for flip in (0, *(1 << bit for bit in range(16))):
            probes = words ^ flip
            # Each pair is met from both ends; the end with the smaller word is enough.
            asking = np.flatnonzero(words <= probes)
            counts = starts[probes[asking] + 1] - starts[probes[asking]]
            for block in _blocks(counts):
                left = np.repeat(asking[block], counts[block])
                before = np.repeat(np.cumsum(counts[block]) - counts[block], counts[block])
                first = np.repeat(starts[probes[asking[block]]], counts[block])
                right = order[first + np.arange(len(left)) - before]
                apart = np.flatnonzero(groups[left] != groups[right])
                left, right = left[apart], right[apart]
                near = _bit_counts(hashes[left] ^ hashes[right]) <= distance
                found.append(np.sort(np.stack((left[near], right[near]), axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def near_duplicates(
    data: Dataset, facts: Iterable[ImageFacts | None], distance: int = MOST_BITS
) -> NDArray[np.int64]:
    """Pairs of different images that show the same and are not frames of one clip.

    Args:
        data: the data set; images whose hashes are close are decoded.
        facts: of every image, in the data set's order; images without are left out.
        distance: bits in which the hashes of a pair may differ, 0 to MOST_BITS.

    Returns:
        int64[P, 2], positions, the smaller one first, in order. Of images with the same bytes,
        and of frames of one clip with the same hash, the first stands for all.

    Raises:
        ImageError: a picture is missing or damaged.
    """
    clips: dict[str, int] = {}
    seen: set[int] = set()
    chosen, hashes, groups = array("q"), array("Q"), array("q")
    for index, (image, fact) in enumerate(zip(data.images, facts, strict=True)):
        if fact is None or fact.contrast < BLANK:
            continue
        clip = "" if image.clip is None else image.clip
        # Sixty-four bits of each key tell apart as many images as there are.
        keys = {int(fact.sha256[:16], 16)} | ({hash((clip, fact.dhash))} if clip else set())
        if keys & seen:
            continue
        seen |= keys
        chosen.append(index)
        hashes.append(int(fact.dhash, 16))
        groups.append(clips.setdefault(clip, len(clips)) if clip else -1 - index)
    pairs = close_hashes(
        np.frombuffer(hashes, np.uint64), np.frombuffer(groups, np.int64), distance
    )
    return _confirmed(np.frombuffer(chosen, np.int64)[pairs], data)


def _confirmed(pairs: NDArray[np.int64], data: Dataset) -> NDArray[np.int64]:
    """The pairs whose pixels agree; each image is decoded once."""
    copies: dict[int, NDArray[np.float32]] = {}
    last = {int(index): place for place, pair in enumerate(pairs) for index in pair}
    agree = np.zeros(len(pairs), np.bool_)
    for place, pair in enumerate(pairs.tolist()):
        for index in pair:
            if index not in copies:
                copies[index] = _small_copy(data.read(index))
        agree[place] = (copies[pair[0]] * copies[pair[1]]).mean() >= _LEAST_CORRELATION
        for index in pair:
            if last[index] == place:
                del copies[index]  # not asked for again
    return pairs[agree]


def groups_of(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The smallest position that each of ``count`` positions is joined to, int64[count]."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    _, first = np.unique(labels, return_index=True)
    return np.asarray(first[labels], dtype=np.int64)


def _small_copy(frame: Frame) -> NDArray[np.float32]:
    """A grey copy of 32x32 pixels, mean 0 and deviation 1; zeros for a flat picture."""
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    spread = float(small.std())
    copy: NDArray[np.float32] = (small - small.mean()) / spread if spread > 1 else small * 0
    return copy


def _bit_counts(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    octets = values.view(np.uint8).reshape(len(values), 8)
    return _BITS[octets].sum(axis=1, dtype=np.int64)


def _blocks(counts: NDArray[np.int64]) -> Iterator[slice]:
    """Slices whose counts add up to about a block each."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _BLOCK, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


_BITS = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)
