"""How often drift is found where there is none, missed where there is some, or called harmful.

Every trial draws a reference and a window of clips anew from sample scenes that were routed once.
A window is one stream of 500 frames that meets a new street every ten: neighbours are as alike as
in any video, and the check has to find out by itself how few of them count. A share of the rows
has blur, noise and an observation, as in a log with the gateway's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.bench.drift_scenes import Pool, Served, serve_pool
from components.drift.config import DriftConfig
from components.drift.decision import Findings, examine
from components.drift.frames import Frames
from components.drift.online import OnlineConfig, OnlineDetector
from components.drift.reference import Reference
from components.parallel import Progress, part_of
from components.scenes.conditions import CONDITIONS, Condition
from components.scenes.sprites import CATEGORY_NAMES
from feature_transformer.frame_statistics import STATISTICS
from foundation.configuration import configuration
from foundation.errors import ConfigurationError

USUAL: Condition = "day"
SHIFTED = tuple(name for name in CONDITIONS if name != USUAL)
MIX_CLASS = "car"
"""The class whose share the harmless shift raises: streets with more cars lose no accuracy."""


@configuration
class BenchDriftConfig:
    """What is drawn, and how often.

    Attributes:
        unchanged: windows without any change.
        changed: windows of each condition, and of the other mix of classes.
        frames: of a window.
        clip_frames: frames of a street; a window meets a new one that often.
        usual_clips: day streets in the pool; half of them are the reference of a trial.
        other_clips: streets of each other condition.
        measured_share: share of the rows with blur, noise and an observation.
        shadow_share: share of the rows at which large looks too.
        stills: day streets for the online detector.
        references: references that it is set up with; each is run for a while without drift.
        alarms: false alarms that each of them is given time for.
        expected_run: frames between two false alarms that it is asked for.
        seed: entropy of scenes and draws.
        workers: processes that render and detect.
    """

    unchanged: Annotated[int, Field(ge=10, le=10**6)] = 400
    changed: Annotated[int, Field(ge=2, le=10**6)] = 100
    frames: int = 500
    clip_frames: Annotated[int, Field(ge=1, le=1000)] = 10
    usual_clips: int = 200
    other_clips: int = 60
    measured_share: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    shadow_share: Annotated[float, Field(ge=0.01, le=1)] = 0.3
    stills: int = 2500
    references: Annotated[int, Field(ge=1, le=100)] = 4
    alarms: Annotated[int, Field(ge=1, le=1000)] = 30
    expected_run: int = 400
    seed: int = 2026
    workers: Annotated[int, Field(ge=1, le=64)] = 2

    def __post_init__(self) -> None:
        """Raise ConfigurationError where there are too few clips for the windows."""
        needed = math.ceil(self.frames / self.clip_frames)
        if self.usual_clips < 2 * needed + needed // 2 or self.other_clips < needed:
            raise ConfigurationError(
                f"a window of {self.frames} frames has {needed} streets; usual_clips is "
                f"{self.usual_clips}, give {2 * needed + needed // 2} at least, and other_clips "
                f"{self.other_clips}, give {needed}"
            )


def bench_drift(
    policy: Path,
    ladder: Mapping[str, Path],
    out: Path,
    config: BenchDriftConfig,
    progress: Progress,
) -> dict[str, Any]:
    """Measure false alarms, detection, needless retraining, and the online detector.

    Args:
        policy: the policy's ONNX file.
        ladder: every rung's weights.
        out: folder in which rendered and detected scenes are kept for another run.
        config: what is drawn.
        progress: called with tenths of per cents done and 1000.

    Returns:
        ``false_alarm_rate`` with ``false_alarm_interval`` (Wilson's, 95 %), ``detected`` and
        ``retrained`` by condition, ``harmless_retrained``, ``harmless_detected``,
        ``harmless_loss`` (of accuracy retained, over all windows of that shift), ``ert_ratio``
        with its interval, ``detection_delay`` in independent frames by condition, and what it was
        measured on.

    Raises:
        ConfigurationError: alibi-detect is not installed.
        ModelError: policy or weights cannot be used.
    """
    pools = _pools(config, policy, ladder, out / "cache", progress)
    usual = pools[USUAL]
    found = _trials(config, pools, lambda done, of: progress(700 + 200 * done // of, 1000))
    online = _online(
        config,
        usual.stills,
        {name: pools[name].stills for name in SHIFTED},
        lambda done, of: progress(900 + 100 * done // of, 1000),
    )
    return {
        **found,
        **online,
        "measured_on": {
            "windows_unchanged": config.unchanged,
            "windows_each_changed": config.changed,
            "frames_a_window": config.frames,
            "usual_frames": len(usual.clips),
            "stills": len(usual.stills),
            "embedding": "MMD by NumPy",
        },
    }


def _pools(
    config: BenchDriftConfig,
    policy: Path,
    ladder: Mapping[str, Path],
    cache: Path,
    progress: Progress,
) -> dict[str, Served]:
    pools: dict[str, Served] = {}
    for index, name in enumerate(CONDITIONS):
        usual = name == USUAL
        pool = Pool(
            name,
            config.usual_clips if usual else config.other_clips,
            config.clip_frames,
            config.stills if usual else 100,
            config.shadow_share,
            config.seed,
        )
        pools[name] = serve_pool(
            pool, policy, ladder, cache, config.workers, _pool_part(progress, index)
        )
    return pools


def _pool_part(progress: Progress, index: int) -> Progress:
    part = part_of(progress, index, len(CONDITIONS))
    return lambda done, of: part(700 * done // of, 1000)


def _trials(
    config: BenchDriftConfig, pools: Mapping[str, Served], progress: Progress
) -> dict[str, Any]:
    total = config.unchanged + config.changed * (len(SHIFTED) + 1)
    trials = _Trials(config, pools)
    done = 0

    def ask(name: str, count: int) -> list[Findings]:
        nonlocal done
        found = []
        for number in range(count):
            found.append(trials.run(name, number))
            done += 1
            progress(done, total)
        return found

    unchanged = ask(USUAL, config.unchanged)
    alarms = sum(_found(one) for one in unchanged)
    by_condition = {name: ask(name, config.changed) for name in SHIFTED}
    mixed = ask("mix", config.changed)
    return {
        "false_alarm_rate": alarms / config.unchanged,
        "false_alarm_interval": wilson(alarms, config.unchanged),
        "false_alarms_by_test": _by_test(unchanged),
        "detected": {name: _share(found, _found) for name, found in by_condition.items()},
        "retrained": {name: _share(found, _retrained) for name, found in by_condition.items()},
        "harmless_retrained": _share(mixed, _retrained),
        "harmless_detected": _share(mixed, _found),
        "harmless_loss": float(np.mean([one.harm.loss for one in mixed])),
        "independent_frames": {
            "reference": _median_frames(unchanged, "reference_frames"),
            "window": _median_frames(unchanged, "window_frames"),
        },
    }


class _Trials:
    """Draws references and windows, and examines them."""

    def __init__(self, config: BenchDriftConfig, pools: Mapping[str, Served]) -> None:
        self.config, self.pools = config, pools
        # NumPy's and alibi-detect's discrepancy are the same figure; this one is the faster.
        self.drift = DriftConfig(embedding="numpy", tabular=False)
        self.streets = {name: _clips_of(served.clips) for name, served in pools.items()}
        self.mix = _mix(self.streets[USUAL])

    def run(self, name: str, number: int) -> Findings:
        """One window of a condition, or of the other mix, against a reference of its own."""
        rng = np.random.default_rng((self.config.seed, len(name), ord(name[0]), number))
        order = rng.permutation(len(self.streets[USUAL]))
        half = len(order) // 2
        needed = math.ceil(self.config.frames / self.config.clip_frames)
        if name == "mix":
            rest = order[half:]
            richest = rest[np.argsort(-self.mix[rest], kind="stable")]
            streets = [self.streets[USUAL][i] for i in richest[:needed]]
        else:
            there = self.streets[name]
            rest = order[half:] if name == USUAL else rng.permutation(len(there))
            streets = [there[i] for i in rest[:needed]]
        window = self._sampled(_one_stream(streets, self.config.frames, rng), rng)
        usual = _streams([self.streets[USUAL][i] for i in order[:half]])
        reference = Reference(usual, CATEGORY_NAMES, "the benchmark's day scenes")
        return examine(reference, window, replace(self.drift, seed=number))

    def _sampled(self, frames: Frames, rng: np.random.Generator) -> Frames:
        """Only a share of the rows of a log has blur, noise and an observation."""
        missing = rng.random((2, len(frames))) >= self.config.measured_share
        statistics, embedding = frames.statistics.copy(), frames.embedding.copy()
        statistics[np.ix_(missing[0], [STATISTICS.index(n) for n in ("blur", "noise")])] = np.nan
        embedding[missing[1]] = np.nan
        return replace(frames, statistics=statistics, embedding=embedding)


def _clips_of(frames: Frames) -> list[Frames]:
    starts = np.flatnonzero(frames.place == 0)
    ends = np.append(starts[1:], len(frames))
    return [frames.take(np.arange(a, b)) for a, b in zip(starts, ends, strict=True)]


def _streams(clips: Sequence[Frames]) -> Frames:
    """Clips behind each other, each a stream of its own."""
    return _behind(clips, np.repeat(np.arange(len(clips)), [len(clip) for clip in clips]))


def _one_stream(clips: Sequence[Frames], frames: int, rng: np.random.Generator) -> Frames:
    """Clips behind each other as one stream, in random order."""
    taken = [clips[i] for i in rng.permutation(len(clips))]
    whole = _behind(taken, np.zeros(sum(len(clip) for clip in taken), np.int64))
    return whole.take(np.arange(min(frames, len(whole))))


def _behind(clips: Sequence[Frames], stream: NDArray[np.int64]) -> Frames:
    names = (
        "statistics",
        "embedding",
        "objects",
        "confidence",
        "classes",
        "rung",
        "agreement",
        "held_out",
    )
    joined = {name: np.concatenate([getattr(clip, name) for clip in clips]) for name in names}
    return Frames(
        stream=stream.astype(np.int64),
        time=np.arange(len(stream), dtype=np.float64),
        **joined,
        policy_revision=clips[0].policy_revision,
        latency_weight=clips[0].latency_weight,
    )


def _mix(clips: Sequence[Frames]) -> NDArray[np.float64]:
    """Share of the found objects of each clip that are of MIX_CLASS."""
    label = CATEGORY_NAMES.index(MIX_CLASS)
    counts = [clip.classes.sum(axis=0, dtype=np.float64) for clip in clips]
    return np.array([count[label] / max(count.sum(), 1.0) for count in counts])


def _online(
    config: BenchDriftConfig,
    usual: NDArray[np.float32],
    shifted: Mapping[str, NDArray[np.float32]],
    progress: Progress,
) -> dict[str, Any]:
    """Run times without drift, and delays with it."""
    rng = np.random.default_rng((config.seed, 9))
    setup = OnlineConfig(expected_run=config.expected_run)
    steps = alarms = 0
    delays: dict[str, list[int]] = {name: [] for name in shifted}
    for turn in range(config.references):
        order = rng.permutation(len(usual))
        known = max(len(usual) // 5, 4 * setup.window_size)
        detector = OnlineDetector(usual[order[:known]], replace(setup, seed=turn))
        stream = usual[order[known:]]
        for _ in range(config.alarms * config.expected_run):
            steps += 1
            if detector.look(stream[rng.integers(len(stream))]).fires:
                alarms += 1
                detector.forget()
        for name, points in shifted.items():
            for _ in range(10):
                detector.forget()
                delays[name].append(_delay(detector, points, config.expected_run, rng))
        progress(turn + 1, config.references)
    ratio = steps / max(alarms, 1) / config.expected_run
    # The number of alarms is about Poisson's: its relative error is one over its root.
    error = math.exp(1.96 / math.sqrt(max(alarms, 1)))
    return {
        "ert_ratio": ratio,
        "ert_ratio_interval": [ratio / error, ratio * error],
        "ert": {"asked": config.expected_run, "found": steps / max(alarms, 1), "alarms": alarms},
        "detection_delay": {name: float(np.mean(found)) for name, found in delays.items()},
    }


def _delay(
    detector: OnlineDetector, points: NDArray[np.float32], most: int, rng: np.random.Generator
) -> int:
    """Frames until the first alarm after a change; ``most`` where none comes."""
    for step in range(1, most + 1):
        if detector.look(points[rng.integers(len(points))]).fires:
            return step
    return most


def wilson(hits: int, trials: int) -> list[float]:
    """95 % interval of a share (E. Wilson, JASA 22, 1927)."""
    z, share = 1.959964, hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    half /= 1 + z * z / trials
    return [max(centre - half, 0.0), min(centre + half, 1.0)]


def _found(one: Findings) -> bool:
    return one.decision in ("watch", "retrain")


def _retrained(one: Findings) -> bool:
    return one.decision == "retrain"


def _share(found: Sequence[Findings], holds: Any) -> float:
    return sum(holds(one) for one in found) / len(found)


def _by_test(found: Sequence[Findings]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in found:
        for test in one.comparisons:
            counts[test.name] = counts.get(test.name, 0) + test.drifted
    return counts


def _median_frames(found: Sequence[Findings], side: str) -> dict[str, float]:
    values: dict[str, list[int]] = {}
    for one in found:
        for test in one.comparisons:
            values.setdefault(test.name, []).append(getattr(test, side))
    return {name: float(np.median(counts)) for name, counts in values.items()}
