"""Pictures that show the same: found by their difference hashes, confirmed by their pixels.

Two pictures are near-duplicates when a 64-bit difference hash of one, of its rows or its columns,
differs in at most ``distance`` bits from one of the other's: of the whole, of its middle, or of
its mirror image; and when the edges in small grey copies of both, cut alike, agree. So copies that
were scaled, encoded anew, brightened, stamped, mirrored, or cropped by up to 6 % of each side are
found. Hashes are not compared pair by pair:

- 64 bits are four words of 16. Hashes that differ in at most 7 bits have a word that differs in at
  most one (pigeonhole), so looking up each word and its 16 neighbours finds every such pair;
  with few pictures a word, the work grows with the number of pictures, not with its square.
- Pictures of flat areas (sky, road) share words by the thousand, and are alike in their light.
  Only pairs within the distance leave the lookup, and where their edges are tells those apart.

Source of the lookup: M. Norouzi, A. Punjani, D. Fleet, "Fast Exact Search in Hamming Space with
Multi-Index Hashing", arXiv 1307.2982.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from components.data.dataset import Dataset
from components.data.image_facts import BLANK, CUTS, ImageFacts, middles_of
from feature_transformer.image import Frame
from feature_transformer.sound import seen

MOST_BITS = 7
"""Largest distance that the lookup is exact for."""
AlikeBits = Annotated[int, Field(ge=0, le=MOST_BITS)]
_SIDE = 32
"""Pixels of a small copy's side; large enough to distinguish scenes that share their layout."""
_COUNTED = round(0.98 * _SIDE**2)
"""Pixels of it by which two are compared."""
_LEAST_AGREEMENT = 0.92
_FLAT = 0.1
"""Spread of the edges, in grey levels, of a picture that has none."""
_VIEWS = 1 + 2 * len(CUTS)
_BLOCK = 1 << 18  # candidate pairs compared at once: what bounds the memory


def close_hashes(
    hashes: NDArray[np.uint64],
    groups: NDArray[np.int64],
    distance: int = MOST_BITS,
    others: NDArray[np.uint64] | None = None,
) -> NDArray[np.int64]:
    """Pairs of hashes that differ in at most so many bits and are not of one group.

    Args:
        hashes: uint64[N].
        groups: int64[N]; pairs within a group are left out before they take memory.
        distance: 0 to MOST_BITS.
        others: uint64[K, N], further hashes of the same N, with which ``hashes`` are compared, too.

    Returns:
        int64[P, 2], positions, the smaller one first, in order; each pair once.
    """
    count = len(hashes)
    known = hashes if others is None else np.concatenate((hashes, others.ravel()))
    found = [np.empty((0, 2), np.int64)]
    for word in range(4):
        words, asked = (
            ((many >> np.uint64(16 * word)) & np.uint64(0xFFFF)).astype(np.int64)
            for many in (known, hashes)
        )
        order = np.argsort(words, kind="stable")
        starts = np.searchsorted(words[order], np.arange(0x10001))
        for flip in (0, *(1 << bit for bit in range(16))):
            probes = asked ^ flip
            counts = starts[probes + 1] - starts[probes]
            for block in _blocks(counts):
                left = np.repeat(np.arange(count)[block], counts[block])
                before = np.repeat(np.cumsum(counts[block]) - counts[block], counts[block])
                first = np.repeat(starts[probes[block]], counts[block])
                place = order[first + np.arange(len(left)) - before]
                right = place % count
                near = np.flatnonzero(groups[left] != groups[right])
                left, right, place = left[near], right[near], place[near]
                near = np.flatnonzero(_bit_counts(hashes[left] ^ known[place]) <= distance)
                pairs = np.sort(np.stack((left[near], right[near]), axis=1), axis=1)
                found.append(np.unique(pairs, axis=0))
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
    taken: set[int] = set()
    chosen, groups = array("q"), array("q")
    hashes = bytearray()
    for index, (image, fact) in enumerate(zip(data.images, facts, strict=True)):
        if fact is None or fact.contrast < BLANK:
            continue
        clip = "" if image.clip is None else image.clip
        # Sixty-four bits of each key distinguish as many images as there are.
        keys = {int(fact.sha256[:16], 16)} | ({hash((clip, fact.dhash))} if clip else set())
        if keys & taken:
            continue
        taken |= keys
        chosen.append(index)
        # Of a data set of an earlier version only the rows' hash is known.
        hashes += bytes.fromhex(fact.dhash + (fact.views or fact.dhash * _VIEWS))
        groups.append(clips.setdefault(clip, len(clips)) if clip else -1 - index)
    known = np.frombuffer(hashes, np.uint8).reshape(-1, 1 + _VIEWS, 8)
    rows, columns = known[:, 0], known[:, 1]
    looked_up = (
        (rows, (*known[:, 2::2].swapaxes(0, 1), ~_MIRRORED[rows])),
        (columns, (*known[:, 3::2].swapaxes(0, 1), _MIRRORED[columns])),
    )
    found = [
        close_hashes(
            _numbers(own),
            np.frombuffer(groups, np.int64),
            distance,
            np.array([_numbers(one) for one in others]),
        )
        for own, others in looked_up
    ]
    pairs = np.unique(np.concatenate(found), axis=0)
    return _confirmed(np.frombuffer(chosen, np.int64)[pairs], data)


def _numbers(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes of eight bytes each as numbers, uint64[N] of uint8[N, 8]."""
    return np.ascontiguousarray(hashes).view(np.uint64).ravel()


def _confirmed(pairs: NDArray[np.int64], data: Dataset) -> NDArray[np.int64]:
    """The pairs whose pixels agree; each image is decoded once."""
    copies: dict[int, NDArray[np.float32]] = {}
    last = {int(index): place for place, pair in enumerate(pairs) for index in pair}
    agree = np.zeros(len(pairs), np.bool_)
    for place, pair in enumerate(pairs.tolist()):
        for index in pair:
            if index not in copies:
                copies[index] = _edges(seen(data.read(index)))
        one, other = (copies[index] for index in pair)
        agree[place] = max(_agreement(one[0], other), _agreement(other[0], one)) >= _LEAST_AGREEMENT
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


def _edges(frame: Frame) -> NDArray[np.float32]:
    """Where a picture has edges, float32[views, pixels], each view of mean 0 and deviation 1.

    The views are the whole, its middles, and its mirror image; of a flat one all are zeros.
    """
    copies = [
        cv2.resize(view, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        for view in middles_of(np.asarray(cv2.cvtColor(seen(frame), cv2.COLOR_BGR2GRAY), np.uint8))
    ]
    found = np.array(
        [
            cv2.magnitude(cv2.Sobel(one, cv2.CV_32F, 1, 0), cv2.Sobel(one, cv2.CV_32F, 0, 1))
            for one in (*copies, np.ascontiguousarray(copies[0][:, ::-1]))
        ]
    ).reshape(len(copies) + 1, -1)
    spread = found.std(axis=1, keepdims=True)
    spread[spread < _FLAT] = np.inf
    edges: NDArray[np.float32] = (found - found.mean(axis=1, keepdims=True)) / spread
    return edges


def _agreement(whole: NDArray[np.float32], views: NDArray[np.float32]) -> float:
    """The best correlation of a picture with one of another's views.

    The few pixels that differ most are left out: a stamp or a logo does not make another picture.
    """
    products = np.partition((whole - views) ** 2, _COUNTED - 1, axis=1)[:, :_COUNTED]
    return float(1 - products.mean(axis=1).min() / 2) if whole.any() else 0.0


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
_MIRRORED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1])
"""A byte, which is a row of a hash, with its bits in the other order."""
