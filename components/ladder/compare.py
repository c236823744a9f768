"""Whether each rung earns its place: every network of a ladder at every size that might replace it.

A rung that a lighter network at another input size beats is one that no policy should choose, and
"always the heaviest" is then a baseline that flatters. So each network runs at the input sizes of
all rungs and at sizes around its own, on the same frames, one pair after the other on each frame,
so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.data.classes import Classes, refuse_unjudgeable
from components.data.dataset import Dataset, load_dataset
from components.evaluation.average_precision import SeenDetections
from components.ladder.resize import resize_rung
from components.parallel import Progress, no_progress
from components.profiling.rungs import InferenceConfig, open_ladder, open_rung
from components.tasks import task_named
from foundation.configuration import configuration
from foundation.errors import InvalidInput, ModelError
from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from inference_graph.tasks.rung import Rung

COMPARISON_FILE = "comparison.json"
COMPARISON_PAGE = "comparison.md"

_FACTORS = (0.8, 1.25, 1.6)
"""A network is tried at its own size times these, beside the sizes of all rungs."""
_FASTER = 0.95
"""A pair replaces a rung if it takes at most this share of its time and is as accurate."""
_TOO_SLOW = 1.2
"""A pair that takes longer than this many times the slowest rung can replace none."""


@configuration
class CompareConfig(InferenceConfig):
    """How the networks of a ladder are compared.

    Attributes:
        frames: frames to compare on, evenly spaced over the data set.
        confidence: detections below this score are not kept (0 to 1).
        iou: overlap above which non-maximum suppression removes the weaker box (0 to 1).
        max_detections: detections kept per image.
        threads: threads of one inference.
        providers: ONNX Runtime execution providers, the preferred one first.
    """

    frames: Annotated[int, Field(ge=1)] = 120


@dataclass(frozen=True)
class SizedNetwork:
    """A network at one input size.

    Attributes:
        network: the rung whose weights it has.
        height: rows of its input, pixels.
        width: columns of its input, pixels.
        serves: whether the ladder serves the rung at this size.
        latency_ms: lower quartile of a frame's time, decoding left out.
        overall: mAP50-95; None where no object counts.
        dense: mAP50-95 on frames of 8 objects and more; None without such objects.
    """

    network: str
    height: int
    width: int
    serves: bool
    latency_ms: float
    overall: float | None
    dense: float | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.network} at {self.height}×{self.width}"


@dataclass(frozen=True)
class LadderComparison:
    """Every pair that was tried, and what is wrong with the ladder; nothing where it is sound."""

    frames: int
    pairs: tuple[SizedNetwork, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """See `faults_of`."""
        return faults_of(self.pairs)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> LadderComparison:
        """What ``asdict`` made of a comparison; KeyError and TypeError for anything else."""
        return cls(stored["frames"], tuple(SizedNetwork(**pair) for pair in stored["pairs"]))


def compare_ladder(
    dataset: Path,
    files: Mapping[str, Path],
    out: Path,
    config: CompareConfig,
    progress: Progress = no_progress,
) -> LadderComparison:
    """Compare a ladder's networks and write ``comparison.json`` and ``comparison.md``.

    Args:
        dataset: canonical data set folder that no rung was trained on.
        files: ONNX file of each rung.
        out: the folder to write.
        config: how the networks run, and on how many frames.
        progress: called with frames done and in all.

    Raises:
        ModelError: weights cannot be used, or the rungs' classes differ.
        InvalidInput: the data set holds no frame.
        AnnotationError: no object in it counts.
        StorageError: the disk is full.
    """
    found = measure_pairs(load_dataset(dataset), files, config, progress)
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        content = {**asdict(found), "faults": found.faults}
        text = json.dumps(content, indent=1) + "\n"
        (folder / COMPARISON_FILE).write_text(text, encoding="utf-8")
        (folder / COMPARISON_PAGE).write_text(comparison_page(found), encoding="utf-8")
    return found


def measure_pairs(
    data: Dataset,
    files: Mapping[str, Path],
    config: CompareConfig,
    progress: Progress = no_progress,
) -> LadderComparison:
    """Run every network at every size on the same frames; see `compare_ladder`."""
    if not len(data):
        raise InvalidInput(f"{data.root}: holds no frame to compare networks on; give some")
    rungs = open_ladder(files, config)
    classes = Classes.of(rungs[LADDER[0]])
    chosen = np.linspace(0, len(data) - 1, min(config.frames, len(data))).round().astype(int)
    data = data.subset(data.image_ids[chosen])
    refuse_unjudgeable(data, classes)
    with tempfile.TemporaryDirectory() as folder:
        pairs = _open_pairs(rungs, files, Path(folder), config, data)
        times = np.empty((len(pairs), len(data)))
        found: list[list[Any]] = [[] for _ in pairs]
        for index in range(len(data)):
            frame = data.read(index)
            for place, (_, detector) in enumerate(pairs):
                started = time.perf_counter()
                found[place].append(detector.detect(frame).detections)
                times[place, index] = time.perf_counter() - started
            progress(index + 1, len(data))
    seen = [SeenDetections.of(some, classes.category_ids) for some in found]
    scored = task_named(data.task).score(data, seen, classes)
    dense = np.array([image.scene_type == "dense" for image in data.images], np.float64)
    measured = []
    for place, (rung, detector) in enumerate(pairs):
        overall, crowded = (
            None if np.isnan(value) else float(value)
            for value in (
                scored.accuracy(place),
                scored.accuracy(place, dense),
            )
        )
        height, width = detector.input_size
        serves = detector.input_size == rungs[rung].input_size
        # Other work on the machine only lengthens a frame, so the quick ones are compared.
        milliseconds = float(np.quantile(times[place], 0.25) * 1e3)
        pair = SizedNetwork(rung, height, width, serves, milliseconds, overall, crowded)
        measured.append(pair)
    return LadderComparison(len(data), tuple(measured))


def _open_pairs(
    rungs: Mapping[str, Rung],
    files: Mapping[str, Path],
    folder: Path,
    config: InferenceConfig,
    data: Dataset,
) -> list[tuple[str, Rung]]:
    """The rungs as they serve, then their networks at other sizes, all warmed up."""
    served = {rung: detector.input_size for rung, detector in rungs.items()}
    frame = data.read(0)
    pairs = list(rungs.items())
    slowest = max(_warm_up(detector, frame) for detector in rungs.values())
    for rung, own in served.items():
        if rungs[rung].reads:
            continue  # an engine takes images of any size
        for size in sorted(_sizes(own, served.values()) - {own}):
            file = folder / f"{rung}-{size[0]}x{size[1]}.onnx"
            try:
                resize_rung(files[rung], file, rung, *size)
            except ModelError:  # not an export whose size can change: it is judged as it serves
                break
            detector = open_rung(rung, file, config)
            equal_input = size in served.values()
            if _warm_up(detector, frame) <= _TOO_SLOW * slowest or equal_input:
                pairs.append((rung, detector))
    return pairs


def _sizes(own: tuple[int, int], served: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    around = {
        (max(32, round(own[0] * by / 32) * 32), max(32, round(own[1] * by / 32) * 32))
        for by in _FACTORS
    }
    return {own, *served, *around}


def _warm_up(detector: Rung, frame: np.ndarray) -> float:
    """Seconds of the fastest of three detections."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        detector.detect(frame)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def faults_of(pairs: Sequence[SizedNetwork]) -> tuple[str, ...]:
    """What is wrong with a ladder, one sentence each; empty where every rung earns its place.

    Accuracy has to rise from rung to rung, overall and on dense scenes, as served and at each
    rung's input size; and no other pair may be as accurate as a rung in less time.
    """
    served = {pair.network: pair for pair in pairs if pair.serves}
    rows = [("as served", [served[rung] for rung in LADDER])]
    by_place = {(pair.network, pair.size): pair for pair in pairs}
    for size in sorted({pair.size for pair in served.values()}):
        equal = [by_place[rung, size] for rung in LADDER if (rung, size) in by_place]
        if equal == rows[0][1]:
            continue
        rows.append((f"at {size[0]}×{size[1]}", equal))
    faults = [
        fault
        for where, row in rows
        for scenes in ("overall", "dense")
        if (fault := not_rising({p.network: getattr(p, scenes) for p in row}, scenes, where))
    ]
    return (*faults, *(fault for rung in LADDER for fault in _dominated(served[rung], pairs)))


def not_rising(figures: Mapping[str, float | None], scenes: str, where: str) -> str | None:
    """What is wrong with accuracies that should rise strictly; None where they do.

    Args:
        figures: mAP of each rung, cheapest first; None where it was not measured. Without any
            there was no object of these scenes, and nothing to compare.
        scenes: on which they were measured, for the message.
        where: at which input size, for the message.
    """
    values = list(figures.values())
    known = [value for value in values if value is not None]
    if not known or (len(known) == len(values) and known == sorted(set(known))):
        return None
    listed = ", ".join(f"{rung} {_number(value)}" for rung, value in figures.items())
    return f"mAP ({scenes}) does not rise from rung to rung {where}: {listed}"


def _dominated(rung: SizedNetwork, pairs: Sequence[SizedNetwork]) -> list[str]:
    """The best pair that makes the rung superfluous, if there is one."""
    if not rung.overall:
        return []
    better = [
        pair
        for pair in pairs
        if pair.overall is not None
        and pair.overall >= rung.overall
        and pair.latency_ms <= _FASTER * rung.latency_ms
        and (pair.network != rung.network or pair.size < rung.size)
    ]
    if not better:
        return []
    best = max(better, key=lambda pair: (pair.overall or 0.0, -pair.latency_ms))
    return [
        f"{best} keeps {100 * (best.overall or 0.0) / rung.overall:.0f} % of {rung.network} at "
        f"{best.latency_ms / rung.latency_ms:.2f} of its time"
    ]


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def comparison_table(found: LadderComparison) -> list[str]:
    """The pairs and the faults as lines of Markdown."""
    slowest = max(pair.latency_ms for pair in found.pairs if pair.serves)
    order = {rung: place for place, rung in enumerate(LADDER)}
    return [
        f"mAP50-95 and latency (lower quartile) on {found.frames:,} frames, all pairs in turn on",
        "each frame.",
        "",
        "| network | input | ms | of the slowest rung | overall | dense |",
        "|---|---|---|---|---|---|",
        *(
            f"| {pair.network} | {pair.height}×{pair.width}{' (serves)' if pair.serves else ''} | "
            f"{pair.latency_ms:.1f} | {pair.latency_ms / slowest:.3f} | {_number(pair.overall)} | "
            f"{_number(pair.dense)} |"
            for pair in sorted(found.pairs, key=lambda pair: (order[pair.network], pair.size))
        ),
        "",
        *(
            [f"- {fault}" for fault in found.faults]
            or ["Accuracy rises from rung to rung, and no pair replaces a rung."]
        ),
        "",
    ]


def comparison_page(found: LadderComparison) -> str:
    """The comparison as Markdown."""
    return "\n".join(["# The ladder's networks at other input sizes", "", *comparison_table(found)])
