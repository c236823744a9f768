from __future__ import annotations

import numpy as np

from components.data.near_duplicates import close_hashes, groups_of


def test_close_hashes_are_those_of_a_comparison_pair_by_pair() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 300, dtype=np.uint64)
    for index in range(100):
        flips = sum(1 << int(bit) for bit in random.choice(64, index % 11, replace=False))
        hashes[200 + index] = hashes[index] ^ np.uint64(flips)
    groups = np.arange(300) % 250
    bits = np.array([[(int(one) ^ int(other)).bit_count() for other in hashes] for one in hashes])
    apart = groups[:, None] != groups[None, :]
    for distance in (0, 3, 7):
        wanted = np.argwhere(np.triu((bits <= distance) & apart, 1))
        assert close_hashes(hashes, groups, distance).tolist() == wanted.tolist()
        assert len(wanted) > 5


def test_groups_are_joined_over_several_pairs() -> None:
    pairs = np.array([[1, 4], [2, 3], [3, 5]])
    assert groups_of(pairs, 7).tolist() == [0, 1, 2, 2, 1, 2, 6]
