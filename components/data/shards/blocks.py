"""Blocks: consecutive images of a data set, worked on at once and never twice.

A stage's folder holds one result for each block and, beside it, a stamp::

    000017/ or 000017.npz   what the stage made of images 17,000 to 17,999
    000017.stamp            {"key", "summary"}; the key names the stage's input and code

A result without a stamp, or with another key, is made anew. So a run that was killed goes on with
the block that it was at, and an unchanged one makes nothing. A *shard* is the blocks that one
process, or one pod, works through; blocks do not depend on how many shards there are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.parallel import Progress, no_progress
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path

STAMP = ".stamp"


@dataclass(frozen=True)
class Block:
    """A stage's result for one block.

    Attributes:
        name: number of the block, six digits.
        path: the result.
        key: names what it was made from, and by what.
        summary: what the stage records of it, in types that JSON knows.
    """

    name: str
    path: Path
    key: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class StageSummary:
    """Names of a stage's blocks, and how many of them were made in this run."""

    names: tuple[str, ...]
    made: int


def check_shard(shard: int, shards: int) -> None:
    """Raise ConfigurationError unless ``shard`` is one of ``shards``."""
    if not 0 <= shard < shards:
        raise ConfigurationError(f"shard is {shard} of {shards}; give 0 to {max(shards, 1) - 1}")


def share_of(blocks: int, shard: int, shards: int) -> range:
    """Numbers of the blocks that a shard works through."""
    return range(blocks * shard // shards, blocks * (shard + 1) // shards)


def blocks_in(folders: Sequence[Path]) -> list[Block]:
    """Blocks of the folders of one stage, in the data set's order.

    Raises:
        InvalidInput: a stamp is damaged, or a block is in two of the folders.
    """
    found: dict[str, Block] = {}
    for folder in folders:
        for stamp in folder.glob(f"*{STAMP}"):
            try:
                noted = json.loads(stamp.read_text(encoding="utf-8"))
                block = Block(stamp.stem, folder / noted["result"], noted["key"], noted["summary"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InvalidInput(
                    f"{stamp}: is damaged ({type(error).__name__}); delete it and run again"
                ) from error
            if block.name in found:
                raise InvalidInput(f"{folder}: block {block.name} is in another folder, too")
            found[block.name] = block
    return [found[name] for name in sorted(found)]


def totals_of(folder: Path) -> dict[str, int]:
    """Whole numbers of the summaries of a folder's blocks, added up."""
    totals: Counter[str] = Counter()
    for block in blocks_in([folder]):
        totals.update({name: n for name, n in block.summary.items() if isinstance(n, int)})
    return dict(totals)


def stamped(folder: Path, name: str, result: str, key: str) -> Block | None:
    """A block's result where it is there, whole, and made from this very input."""
    try:
        noted = json.loads((folder / f"{name}{STAMP}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if noted.get("key") != key or not (folder / result).exists():
        return None
    return Block(name, folder / result, key, noted["summary"])


def stamp(folder: Path, block: Block) -> None:
    """Note that a block's result is whole."""
    noted = {"key": block.key, "result": block.path.name, "summary": block.summary}
    with atomic_path(folder / f"{block.name}{STAMP}") as file:
        file.write_text(json.dumps(noted), encoding="utf-8")


def each_block(
    inputs: Path,
    out: Path,
    stage: str,
    work: Callable[[Block, Path], Mapping[str, Any]],
    *,
    only: Container[str] | None = None,
    suffix: str = "",
    progress: Progress = no_progress,
) -> StageSummary:
    """Let a stage make its result of every block that has none, or one of another input.

    Args:
        inputs: folder of the stage before.
        out: folder of this stage.
        stage: names the stage, its options and its code.
        work: makes the result of a block at a path, whole or not at all; returns its summary.
        only: names of the blocks to work on; all of the folder's without it.
        suffix: of the results' names.
        progress: called with blocks done and in all.
    """
    out.mkdir(parents=True, exist_ok=True)
    blocks = [one for one in blocks_in([inputs]) if only is None or one.name in only]
    made = 0
    for done, block in enumerate(blocks, 1):
        key = key_of(stage, block.key)
        result = f"{block.name}{suffix}"
        if stamped(out, block.name, result, key) is None:
            summary = work(block, out / result)
            stamp(out, Block(block.name, out / result, key, summary))
            made += 1
        progress(done, len(blocks))
    return StageSummary(tuple(block.name for block in blocks), made)


def forget_behind(folder: Path, count: int) -> None:
    """Take the stamps from what a folder holds behind its first ``count`` blocks.

    They are of a source that had more images.
    """
    for file in folder.glob(f"*{STAMP}"):
        if int(file.stem) >= count:
            file.unlink()


def key_of(*parts: str) -> str:
    """A key of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def names_of(count: int) -> Iterator[str]:
    """Names of so many blocks, in order."""
    return (f"{number:06d}" for number in range(count))
