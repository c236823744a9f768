"""Two ways of routing side by side: figures, decisions on the same held-out clips, settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import SCENE_TYPES
from components.policy.closed_loop import route
from components.profiling.replay import Replay
from components.tasks import task_named
from dashboards.pages.policies.reports import ALWAYS, POLICY, KnownPolicy, PolicyRow
from feature_transformer.makers import DETECTION
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER
from inference_graph.router.policy import Policy

RUN_FILE = "run.json"
_RESAMPLES = 1000
_SEPARATOR = ":"

Better = Literal["first", "second", "neither"]


@dataclass(frozen=True)
class Contestant:
    """A policy, or an alternative that its report holds against it.

    Attributes:
        policy: whose report it is in.
        row: its figures there.
    """

    policy: KnownPolicy
    row: PolicyRow

    @property
    def key(self) -> str:
        """Its name in addresses."""
        if self.row.name == POLICY:
            return self.policy.key
        return f"{self.policy.key}{_SEPARATOR}{self.row.name}"

    @property
    def name(self) -> str:
        """What people call it."""
        if self.row.name == POLICY:
            return self.policy.name
        return f"{self.row.name} ({self.policy.name})"


def contestant(key: str, policies: Mapping[str, KnownPolicy]) -> Contestant | None:
    """The contestant of a key; None for a key that names none.

    Raises:
        InvalidInput: the policy's report is missing or broken.
    """
    if key in policies:
        return Contestant(policies[key], policies[key].judgement.policy)
    owner, _, name = key.rpartition(_SEPARATOR)
    if owner not in policies:
        return None
    rows = {row.name: row for row in policies[owner].judgement.rows}
    return Contestant(policies[owner], rows[name]) if name in rows else None


@dataclass(frozen=True)
class Figure:
    """One figure of two contestants.

    Attributes:
        name: what it is.
        first: of the first, in words.
        second: of the second, in words.
        difference: second less first, in words; empty where one of them does not exist.
        better: who is ahead; ``neither`` for a figure without a better side, or a tie.
    """

    name: str
    first: str
    second: str
    difference: str
    better: Better


@dataclass(frozen=True)
class _Kind:
    name: str
    read: Callable[[PolicyRow], float | None]
    form: str
    unit: str
    higher_is_better: bool | None


def _percent(name: str, read: Callable[[PolicyRow], float | None], higher: bool | None) -> _Kind:
    return _Kind(name, lambda row: _times(read(row), 100), ".1f", " %", higher)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _share(rung: str) -> _Kind:
    return _percent(f"frames to {rung}", lambda row: row.shares[rung], None)


_MEASURE = "measure"
"""Stands for the name of the task's accuracy."""
_KINDS = (
    _percent("accuracy retained", lambda row: row.retained, True),
    _percent("mean latency over large's", lambda row: row.latency_ratio, False),
    _Kind("share of the gap", lambda row: row.gap, ".2f", "", True),
    _Kind(_MEASURE, lambda row: row.map, ".3f", "", True),
    _Kind("mean latency", lambda row: row.mean_ms, ".1f", " ms", False),
    _Kind("p95 latency", lambda row: row.p95_ms, ".1f", " ms", False),
    _Kind("p99 latency", lambda row: row.p99_ms, ".1f", " ms", False),
    _Kind("frames per second", lambda row: row.fps, ".1f", "", True),
    _Kind("USD per million frames", lambda row: row.usd_per_million, ".3f", "", False),
    *(_share(rung) for rung in LADDER),
)


def side_by_side(first: PolicyRow, second: PolicyRow, task: str = DETECTION) -> tuple[Figure, ...]:
    """All figures of two rows, with their differences, in the words of a task."""
    named = (
        replace(kind, name=task_named(task).measure) if kind.name == _MEASURE else kind
        for kind in _KINDS
    )
    return tuple(_figure(kind, kind.read(first), kind.read(second)) for kind in named)


def _figure(kind: _Kind, first: float | None, second: float | None) -> Figure:
    if first is None or second is None:
        return Figure(kind.name, _formatted(kind, first), _formatted(kind, second), "", "neither")
    # The difference of what is shown, so that a reader who subtracts finds the same.
    gain = float(format(second, kind.form)) - float(format(first, kind.form))
    unit = " points" if kind.unit == " %" else kind.unit
    difference = f"{gain:+{kind.form}}{unit}".replace("-", "−") if gain else "same"
    better: Better = "neither"
    if gain and kind.higher_is_better is not None:
        better = "second" if (gain > 0) == kind.higher_is_better else "first"
    return Figure(kind.name, _formatted(kind, first), _formatted(kind, second), difference, better)


def _formatted(kind: _Kind, value: float | None) -> str:
    return "–" if value is None else f"{value:{kind.form}}{kind.unit}".replace("-", "−")


@dataclass(frozen=True)
class Paired:
    """The decisions of two contestants on the same held-out frames.

    Attributes:
        frames: how many.
        clips: they belong to.
        confusion: frames by the first's rung (outer) and the second's.
        differing: share of the frames on which they differ.
        differing_by_type: the same by scene type.
        quality: mean quality of the second less the first's, over all frames.
        latency_ms: the same of latency, without the router's own.
        reward: the same of the reward at ``latency_weight``, and its 95 % interval over clips.
        reward_interval: see above.
        latency_weight: what latency weighs in that reward.
    """

    frames: int
    clips: int
    confusion: tuple[tuple[int, ...], ...]
    differing: float
    differing_by_type: Mapping[str, float]
    quality: float
    latency_ms: float
    reward: float
    reward_interval: tuple[float, float]
    latency_weight: float


def decisions(one: Contestant, replay: Replay) -> NDArray[np.int64]:
    """The rung of every frame, int64 [N], as the contestant routes the clips.

    Raises:
        InvalidInput: its decisions cannot be had: the policy's file is not on this machine, or
            it is an alternative that the report keeps only the figures of.
        ModelError: the policy was made for another schema, or is broken.
    """
    if one.row.name.startswith(ALWAYS):
        return np.full(len(replay), LADDER.index(one.row.name.removeprefix(ALWAYS)))
    if one.row.name != POLICY:
        raise InvalidInput(
            f"the report keeps the figures of {one.row.name}, not its decisions; "
            "compare policies or fixed rungs to see where they differ"
        )
    file = one.policy.policy_file
    if file is None:
        raise InvalidInput(
            f"the file of {one.policy.name} is not on this machine; "
            "open the dashboard where MLflow keeps its artifacts"
        )
    policy = Policy(file)
    return route(replay, lambda seen: policy.decide(seen)[0], policy.latency_weight)


def paired(
    replay: Replay,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    latency_weight: float,
    seed: int = 0,
) -> Paired:
    """Hold two ways to decide against each other, frame by frame.

    Args:
        replay: the frames.
        first: rungs int64 [N].
        second: rungs int64 [N].
        latency_weight: what latency weighs in the reward.
        seed: of the resamples; whole clips are drawn, for their frames resemble each other.
    """
    rows = np.arange(len(replay))
    confusion = np.zeros((len(LADDER), len(LADDER)), np.int64)
    np.add.at(confusion, (first, second), 1)
    differ = first != second
    reward = replay.reward(latency_weight).astype(np.float64)
    gain = reward[rows, second] - reward[rows, first]
    starts, ends = replay.clip_bounds.T
    by_clip, lengths = np.add.reduceat(gain, starts), ends - starts
    drawn = np.random.default_rng(seed).integers(0, len(starts), (_RESAMPLES, len(starts)))
    means = by_clip[drawn].sum(axis=1) / lengths[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5)).tolist()

    def more(values: NDArray[np.float32]) -> float:
        wide = values.astype(np.float64)
        return float((wide[rows, second] - wide[rows, first]).mean())

    return Paired(
        frames=len(replay),
        clips=len(starts),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        differing=float(differ.mean()),
        differing_by_type={
            name: float(differ[replay.scene_types == index].mean())
            for index, name in enumerate(SCENE_TYPES)
            if (replay.scene_types == index).any()
        },
        quality=more(replay.quality),
        latency_ms=more(replay.latency_ms),
        reward=float(gain.mean()),
        reward_interval=(low, high),
        latency_weight=latency_weight,
    )


def settings(policy: KnownPolicy) -> dict[str, dict[str, str]]:
    """What is known of how a policy was made, by where that stands, then by name.

    Returns:
        ``report`` (how it was judged), ``policy`` (the card in its file) and ``run`` (the options
        of every stage), each where it can be read.
    """
    report = policy.report
    kept = {key: report.get(key) for key in ("latency_weight", "config", "measurement", "data")}
    found = {"report": _flat(kept)}
    if policy.policy_file is not None:
        found["policy"] = _flat({"policy": Policy(policy.policy_file).card})
    if policy.run is not None:
        try:
            record = json.loads((policy.run.folder / RUN_FILE).read_text(encoding="utf-8"))
            found["run"] = _flat(record["arguments"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a folder that was put together by hand; the rest is shown
    return found


@dataclass(frozen=True)
class Change:
    """A setting that two policies differ in, as text; ``–`` where one of them lacks it."""

    name: str
    first: str
    second: str


def changes(first: KnownPolicy, second: KnownPolicy) -> tuple[Change, ...]:
    """Settings that differ, of those places that can be read of both.

    Raises:
        InvalidInput: a report is missing or broken.
        ModelError: a policy's file is broken.
    """
    one, other = settings(first), settings(second)
    mine: dict[str, str] = {}
    theirs: dict[str, str] = {}
    for place in one.keys() & other.keys():
        mine |= one[place]
        theirs |= other[place]
    return tuple(
        Change(name, mine.get(name, "–"), theirs.get(name, "–"))
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    )


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _flat(item, f"{name}.{key}" if name else str(key))
        return found
    return {name: value if isinstance(value, str) else json.dumps(value)}
