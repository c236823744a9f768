"""Stage timing: what each rung, and looking at a frame before routing it, costs in milliseconds.

Rungs are timed interleaved, image by image and repeat by repeat in rotating order, so that whatever
else the machine does meanwhile (heat, other work) meets all of them alike. The median of the
repeats is an image's latency. A sample of images suffices: latency hardly depends on the content.

Price: ``price_per_hour_usd`` defaults to 0.08925 USD, the on-demand list price of an AWS EC2
c7i.large (two vCPUs of Intel Sapphire Rapids with AMX, Linux, us-east-1), the class of machine the
embedded default is measured on. For a GPU give its own price; the same list has 0.526 USD for a
g4dn.xlarge (NVIDIA T4).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import Dataset, load_dataset
from components.parallel import Progress
from components.profiling.machine import library_versions, machine_facts
from components.profiling.rungs import InferenceConfig, open_ladder
from feature_transformer.image import Frame
from feature_transformer.makers import maker_of
from foundation.errors import AnnotationError, ConfigurationError, InvalidInput
from foundation.storage import atomic_path
from inference_graph.contract import LADDER


@dataclass(frozen=True)
class TimingConfig(InferenceConfig):
    """How latency is measured; the other attributes are InferenceConfig's.

    Attributes:
        images: size of the sample.
        repeats: measurements per image and rung; their median counts.
        warmup: runs of each rung before the first measurement.
        seed: of the sample.
        price_per_hour_usd: price of the machine, or accelerator, for one hour (USD).
        price_source: where the price comes from; it stands in every report.
    """

    images: int = 120
    repeats: int = 5
    warmup: int = 5
    seed: int = 0
    price_per_hour_usd: float = 0.08925
    price_source: str = "AWS EC2 c7i.large, Linux, on demand, us-east-1"


@dataclass(frozen=True)
class TimingSummary:
    """What was measured.

    Attributes:
        images: size of the sample.
        median_ms: median latency of each rung, milliseconds.
        p95_ms: 95th percentile of each rung, milliseconds.
        usd_per_million: cost of a million frames on each rung, USD, at its mean latency.
        observe_ms: median time to compute the frame's part of the observation, milliseconds.
    """

    images: int
    median_ms: dict[str, float]
    p95_ms: dict[str, float]
    usd_per_million: dict[str, float]
    observe_ms: float


@dataclass(frozen=True, eq=False)
class Timings:
    """Latencies of a ladder on a sample of S frames of a data set.

    Attributes:
        rungs: the R rungs, cheapest first.
        sample_ids: int64[S], ids of the timed frames in the data set's order.
        sample_ms: float32[S, R], median latency of ``Detector.detect``, milliseconds.
        sample_observe_ms: float32[S], median time of the observation, milliseconds.
        dataset_ids: int64[N], ids of the data set in its order.
        price_per_hour_usd: price of the machine for one hour, USD.
        facts: how it was measured: settings, weights, machine, versions.
    """

    rungs: tuple[str, ...]
    sample_ids: NDArray[np.int64]
    sample_ms: NDArray[np.float32]
    sample_observe_ms: NDArray[np.float32]
    dataset_ids: NDArray[np.int64]
    price_per_hour_usd: float
    facts: Mapping[str, Any]

    @property
    def observe_ms(self) -> float:
        """Median over the sample of the time to make the observation, milliseconds."""
        return float(np.median(self.sample_observe_ms))

    @cached_property
    def _sample_of(self) -> dict[int, int]:
        """Row of the sample for every frame of the data set."""
        rows = {image_id: row for row, image_id in enumerate(self.sample_ids.tolist())}
        others = [image_id for image_id in self.dataset_ids.tolist() if image_id not in rows]
        return rows | {image_id: k % len(self.sample_ids) for k, image_id in enumerate(others)}

    def latencies(self, image_ids: Iterable[int]) -> NDArray[np.float32]:
        """Latency of every rung on these frames, milliseconds, float32[N, R].

        A timed frame has its own latencies. The other frames of the data set take those of the
        timed ones in turn: the k-th untimed frame, in the data set's order, takes row k mod S of
        the sample, the latencies of all rungs from the same row, so that what slowed down one rung
        on a frame and not another stays together. A frame therefore has the same latencies in
        every call. Frames of another data set take rows in turn in the order of the call.
        """
        return self.sample_ms[self._rows(image_ids)]

    def usd_per_million(self, mean_ms: float) -> float:
        """Cost in USD of a million frames of this mean latency."""
        return usd_per_million(mean_ms, self.price_per_hour_usd)

    def _rows(self, image_ids: Iterable[int]) -> NDArray[np.int64]:
        rows, strangers = [], 0
        for image_id in image_ids:
            row = self._sample_of.get(int(image_id))
            if row is None:
                row = strangers % len(self.sample_ids)
                strangers += 1
            rows.append(row)
        return np.array(rows, dtype=np.int64)


def usd_per_million(mean_ms: float, price_per_hour_usd: float) -> float:
    """Cost in USD of a million frames that keep one machine busy for ``mean_ms`` each.

    A million frames take mean_ms * 10^6 ms; an hour has 3.6 * 10^6 ms.
    """
    return mean_ms * price_per_hour_usd / 3.6


def time_ladder(
    dataset: Path,
    ladder: Mapping[str, Path],
    out: Path,
    config: TimingConfig | None = None,
    progress: Progress | None = None,
) -> TimingSummary:
    """Measure the latency of all rungs and write it to the JSON file ``out``.

    Args:
        dataset: canonical data set folder.
        ladder: the ONNX file of every rung.
        out: the file; appears whole or not at all. Read it with :func:`load_timings`.
        config: how to measure.
        progress: called with measured frames done and in all.

    Raises:
        ModelError: weights cannot be used, or the rungs' classes differ.
        ConfigurationError: a setting is out of range, or a rung has no weights.
        AnnotationError: the data set folder is broken or empty.
        ImageError: a picture is missing or damaged.
        StorageError: the disk is full.
    """
    config = config or TimingConfig()
    _check(config)
    data = load_dataset(dataset)
    if not len(data):
        raise AnnotationError(f"{dataset}: has no images to time; give a data set with some")
    detectors = open_ladder(ladder, config)
    steps: list[Callable[[Frame], object]] = [maker_of(data.task).features]
    steps += [detectors[rung].detect for rung in LADDER]
    sample = _sample(data, config)
    runs = np.zeros((len(sample), config.repeats, len(steps)), dtype=np.float64)
    for position, index in enumerate(sample):
        frame = data.read(int(index))
        if position == 0:
            _warm_up(steps, frame, config.warmup)
        for repeat in range(config.repeats):
            for turn in range(len(steps)):
                step = (turn + position + repeat) % len(steps)
                runs[position, repeat, step] = _milliseconds(steps[step], frame)
        if progress:
            progress(position + 1, len(sample))
    result = {
        "rungs": list(LADDER),
        "lanes": ["observe", *LADDER],
        "sample_ids": data.image_ids[sample].tolist(),
        "runs_ms": runs.round(4).tolist(),
        "dataset_ids": data.image_ids.tolist(),
        "price_per_hour_usd": config.price_per_hour_usd,
        "facts": {
            "settings": asdict(config),
            "sha256": {rung: detectors[rung].sha256 for rung in LADDER},
            "input_size": {rung: list(detectors[rung].input_size) for rung in LADDER},
            "frame_sizes": _frame_sizes(data, sample),
            "dataset_sha256": data.info.get("source_sha256"),
            "versions": library_versions(),
            "machine": machine_facts(),
        },
    }
    with atomic_path(out) as file:
        file.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return _summary(load_timings(out))


def load_timings(path: Path) -> Timings:
    """Read what :func:`time_ladder` wrote; raises InvalidInput when the file is something else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        medians = np.median(np.array(result["runs_ms"], dtype=np.float64), axis=1)
        timings = Timings(
            rungs=tuple(result["rungs"]),
            sample_ids=np.array(result["sample_ids"], dtype=np.int64),
            sample_ms=medians[:, 1:].astype(np.float32),
            sample_observe_ms=medians[:, 0].astype(np.float32),
            dataset_ids=np.array(result["dataset_ids"], dtype=np.int64),
            price_per_hour_usd=float(result["price_per_hour_usd"]),
            facts=dict(result["facts"]),
        )
        sound = timings.sample_ms.shape == (len(timings.sample_ids), len(timings.rungs))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidInput(
            f"{path}: holds no timings ({type(error).__name__}); run the timing stage again"
        ) from error
    if not sound or not len(timings.sample_ids):
        raise InvalidInput(f"{path}: holds no whole timings; run the timing stage again")
    return timings


def _check(config: TimingConfig) -> None:
    least = {"images": 1, "repeats": 1, "warmup": 0}
    for name, bound in least.items():
        if getattr(config, name) < bound:
            raise ConfigurationError(
                f"timing: {name} is {getattr(config, name)}; give at least {bound}"
            )
    if not config.price_per_hour_usd > 0:
        raise ConfigurationError(
            f"timing: price_per_hour_usd is {config.price_per_hour_usd}; give a price above 0"
        )


def _sample(data: Dataset, config: TimingConfig) -> NDArray[np.int64]:
    size = min(config.images, len(data))
    chosen = np.random.default_rng(config.seed).choice(len(data), size=size, replace=False)
    return np.sort(chosen).astype(np.int64)


def _warm_up(steps: list[Callable[[Frame], object]], frame: Frame, runs: int) -> None:
    for _ in range(runs):
        for step in steps:
            step(frame)


def _milliseconds(step: Callable[[Frame], object], frame: Frame) -> float:
    start = time.perf_counter()
    step(frame)
    return (time.perf_counter() - start) * 1e3


def _frame_sizes(data: Dataset, sample: NDArray[np.int64]) -> list[list[int]]:
    """Return the different (height, width) of the timed frames."""
    sizes = {(data.images[index].height, data.images[index].width) for index in sample.tolist()}
    return [list(size) for size in sorted(sizes)]


def _summary(timings: Timings) -> TimingSummary:
    columns = dict(zip(timings.rungs, timings.sample_ms.T.astype(np.float64), strict=True))
    return TimingSummary(
        images=len(timings.sample_ids),
        median_ms={rung: round(float(np.median(ms)), 3) for rung, ms in columns.items()},
        p95_ms={rung: round(float(np.percentile(ms, 95)), 3) for rung, ms in columns.items()},
        usd_per_million={
            rung: round(timings.usd_per_million(float(ms.mean())), 4)
            for rung, ms in columns.items()
        },
        observe_ms=round(timings.observe_ms, 4),
    )
