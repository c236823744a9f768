"""The replay: all that routing needs to know of a data set, so that no detector runs in a loop.

For every frame it holds what the policy sees of it, what the next frame's context would be after
each rung, and what each rung's answer is worth and costs. Labels, cloning, PPO and evaluation all
read this one artifact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from components.policy.reward import Rewards
from feature_transformer.makers import maker_of_schema
from feature_transformer.observation import (
    FRAME_FEATURES,
    FRAME_SLICE,
    LOOK_NAMES,
    LOOK_SLICE,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    SCHEMA_HASH,
)
from foundation.errors import InvalidInput, SchemaMismatch
from foundation.storage import atomic_path
from inference_graph.contract import LADDER

PARTS = ("train", "validation", "test")

REPLAY_FILE = "replay.npz"

_OF_THE_WHOLE = ("observe_ms", "objective", "schema_hash")
"""Fields that do not have a row per frame."""


@dataclass(frozen=True, eq=False)
class Replay(Rewards):
    """Frames in clip order, with what each rung's answer is worth (`Rewards`); N frames, R rungs.

    Attributes:
        image_ids: int64 [N], the data set's ids.
        clips: int64 [N], number of the clip a frame belongs to; frames of a clip are contiguous
            and in order, a still is a clip of its own.
        parts: int64 [N], index into `PARTS`.
        scene_types: int64 [N], 0 sparse, 1 moderate, 2 dense.
        frames: float32 [N, 1028], the frame's own part of the observation.
        looks: float32 [N, R, 16], the look block that each rung's answer to this frame leaves
            for the next frame of the clip.
        observe_ms: float64 [1], milliseconds to make one frame's observation.
        schema_hash: text [], of the observation's schema, which identifies the task.
    """

    image_ids: NDArray[np.int64]
    clips: NDArray[np.int64]
    parts: NDArray[np.int64]
    scene_types: NDArray[np.int64]
    frames: NDArray[np.float32]
    looks: NDArray[np.float32]
    observe_ms: NDArray[np.float64]
    schema_hash: NDArray[np.str_] = field(default_factory=lambda: np.array(SCHEMA_HASH))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.image_ids)

    def __post_init__(self) -> None:
        """Raise InvalidInput where the arrays do not belong together."""
        count, rungs = len(self.image_ids), len(LADDER)
        wanted = {
            "clips": (count,),
            "parts": (count,),
            "scene_types": (count,),
            "frames": (count, FRAME_FEATURES),
            "looks": (count, rungs, len(LOOK_NAMES)),
            "quality": (count, rungs),
            "latency_ms": (count, rungs),
            "cost_usd": (count, rungs),
            "observe_ms": (1,),
            "objective": (3,),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise InvalidInput(
                    f"replay: {name} has shape {getattr(self, name).shape}, expected {shape}; "
                    "run the label stage again"
                )

    @property
    def task(self) -> str:
        """Name of the task whose observations and answers these are."""
        return maker_of_schema(str(self.schema_hash)).task

    @cached_property
    def previous(self) -> NDArray[np.int64]:
        """Position of the frame before, int64 [N]; -1 for the first frame of a clip."""
        before = np.arange(len(self)) - 1
        before[np.flatnonzero(np.diff(self.clips, prepend=-1))] = -1
        return before

    @cached_property
    def clip_bounds(self) -> NDArray[np.int64]:
        """First and one-past-last position of each clip, int64 [K, 2]."""
        starts = np.flatnonzero(self.previous < 0)
        return np.stack([starts, np.append(starts[1:], len(self))], axis=1)

    def part(self, *names: str) -> Replay:
        """The frames of the named parts, in order.

        Raises:
            InvalidInput: the parts hold no frame.
        """
        keep = np.isin(self.parts, [PARTS.index(name) for name in names])
        if not keep.any():
            raise InvalidInput(
                f"the {' and '.join(names)} part is empty; give the data more clips, "
                "or change the shares of the split"
            )
        return self.take(keep)

    def take(self, keep: NDArray[np.bool_]) -> Replay:
        """Some of the frames, bool [N]; take whole clips, or what lay between becomes the past."""
        values = {
            one.name: getattr(self, one.name)[keep]
            for one in fields(self)
            if one.name not in _OF_THE_WHOLE
        }
        return Replay(**values, **{name: getattr(self, name) for name in _OF_THE_WHOLE})


def observations_of(
    frames: NDArray[np.float32], looks: NDArray[np.float32], preference: NDArray[np.float32] | float
) -> NDArray[np.float32]:
    """Assemble ``[n, 1048]`` without load from ``[n, 1028]``, ``[n, 16]`` and ``[n]``."""
    observations = np.zeros((len(frames), OBSERVATION_SIZE), np.float32)
    observations[:, FRAME_SLICE] = frames
    observations[:, LOOK_SLICE] = looks
    observations[:, PREFERENCE_INDEX] = preference
    return observations


def save_replay(replay: Replay, folder: Path) -> None:
    """Write the replay into a folder that exists."""
    with atomic_path(folder / REPLAY_FILE) as partial:
        np.savez(
            partial,
            **{one.name: getattr(replay, one.name) for one in fields(replay)},
        )


def load_replay(folder: Path) -> Replay:
    """Read a replay.

    Raises:
        InvalidInput: there is none, or it is broken.
        SchemaMismatch: it was made for another observation schema.
    """
    path = folder / REPLAY_FILE
    values = _stored(path)
    try:
        maker_of_schema(str(values.get("schema_hash", "")))
    except SchemaMismatch as error:
        raise SchemaMismatch(
            f"{path} was made for another observation schema ({error}); run observe and label again"
        ) from error
    missing = {one.name for one in fields(Replay)} - set(values)
    if missing:
        raise InvalidInput(f"{path} lacks {min(missing)}; run the label stage again")
    return Replay(**values)


def load_objective(folder: Path) -> NDArray[np.float64]:
    """What the reward of a stored replay weighs, float64 [3]; the frames are not read.

    Raises:
        InvalidInput: there is no replay, or it is broken.
    """
    path = folder / REPLAY_FILE
    found = _stored(path, ("objective",)).get("objective")
    if found is None or found.shape != (3,):
        raise InvalidInput(f"{path} lacks objective; run the label stage again")
    return found


def _stored(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a file, those named or all."""
    try:
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files if not names or name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InvalidInput(
            f"{path} is no replay ({type(error).__name__}); run the label stage again"
        ) from error
