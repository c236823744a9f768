"""Stage profile: one rung looks at every image, and all it sees is kept.

Detections are stored raw, down to a low score: labels, context and every alternative in the report
are made from them, and none of those needs the detector again. The stage times stored along are
those of one pass; latency that is compared between rungs comes from
``components.profiling.timing``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.dataset import Dataset, load_dataset
from components.parallel import Progress, ordered_map
from components.profiling.detections import (
    DETECTIONS_FILE,
    DETECTIONS_SCHEMA,
    FACTS_KEY,
    IMAGES_FILE,
    IMAGES_SCHEMA,
    STAGES,
    TEXT,
    RungDetections,
    load_detections,
    load_profiles,
)
from components.profiling.machine import library_versions, machine_facts
from components.profiling.rungs import InferenceConfig, check_siblings, open_rung
from components.profiling.stored_clips import short_digest, stored_answers
from foundation.errors import StorageError
from foundation.storage import atomic_path, sha256_file
from inference_graph.contract import Detections
from inference_graph.detector.providers import agree
from inference_graph.tasks.rung import Rung

__all__ = [
    "ProfileConfig",
    "ProfileSummary",
    "RungDetections",
    "load_detections",
    "load_profiles",
    "profile_rung",
]

_BATCH = 1000  # images per row group: bounds the memory, whatever the size of the data set
_TRIED = 4
"""Pictures with stored detections that are detected all the same."""
_LEAST_ALIKE = 0.8
"""Share of their detections that must be the same as a provider's must be; bfloat16 reaches 0.96
of those in float32."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProfileConfig(InferenceConfig):
    """How a rung is profiled; see InferenceConfig for the attributes."""


@dataclass(frozen=True)
class ProfileSummary:
    """What a profile holds.

    Attributes:
        rung: its place in the ladder.
        images: images of the data set.
        stored: those whose detections lay beside the weights already.
        detections: boxes stored.
        sha256: of the weights.
        input_size: (height, width) the network sees, pixels.
        median_ms: median over the images that were looked at, by stage; 0 where there are none.
    """

    rung: str
    images: int
    stored: int
    detections: int
    sha256: str
    input_size: tuple[int, int]
    median_ms: dict[str, float]


def profile_rung(
    dataset: Path,
    weights: Path,
    rung: str,
    out: Path,
    config: ProfileConfig | None = None,
    progress: Progress | None = None,
    siblings: Mapping[str, Path] | None = None,
) -> ProfileSummary:
    """Run one rung over a data set and write its profile (see ``components.profiling.detections``).

    Pictures that `components.profiling.stored_clips` knows of these weights are not detected again,
    unless the rung finds something else on some of them.

    Args:
        dataset: canonical data set folder.
        weights: the rung's ONNX file.
        rung: its place in the ladder.
        out: profile folder; appears whole or not at all.
        config: how the detector runs.
        progress: called with images done and in all.
        siblings: weights of other rungs whose classes have to be the same; checked first.

    Raises:
        ModelError: the weights are no ONNX detector, or have other classes than a sibling.
        AnnotationError: the data set folder is broken.
        ImageError: a picture is missing or damaged.
        ConfigurationError: a setting is out of range.
        StorageError: the disk is full.
    """
    config = config or ProfileConfig()
    data = load_dataset(dataset)
    detector = open_rung(rung, weights, config)
    for name, file in (siblings or {}).items():
        if name != rung:
            check_siblings({name: open_rung(name, file, config), rung: detector})
    facts = _facts(detector, config, data)
    notes = {FACTS_KEY: json.dumps(facts).encode()}
    times = np.zeros((len(data), len(STAGES)), dtype=np.float32)
    counts = np.zeros(len(data), dtype=np.int32)
    stored = _stored(stored_answers(weights, detector, config), data, detector)
    looked = np.array([answer is None for answer in stored], dtype=bool)
    with atomic_path(out) as folder:
        folder.mkdir()
        columns = [*DETECTIONS_SCHEMA, *([TEXT] if detector.reads else [])]
        schema = pa.schema(columns).with_metadata(notes)
        with pq.ParquetWriter(folder / DETECTIONS_FILE, schema) as writer:
            batch: list[tuple[int, Detections]] = []
            # One thread decodes ahead, so the detector never waits for the disk.
            frames = ordered_map(data.read, np.flatnonzero(looked).tolist(), workers=1)
            for index, found in enumerate(stored):
                if found is None:
                    answer = detector.detect(next(frames))
                    times[index] = [answer.milliseconds[stage] for stage in STAGES]
                    found = answer.detections
                counts[index] = len(found.scores)
                batch.append((data.images[index].id, found))
                if len(batch) == _BATCH or index == len(data) - 1:
                    writer.write_table(_rows(batch, detector, schema))
                    batch.clear()
                if progress:
                    progress(index + 1, len(data))
        _write_images(folder / IMAGES_FILE, data, counts, times, notes)
    medians = np.median(times[looked], axis=0) if looked.any() else np.zeros(len(STAGES))
    return ProfileSummary(
        rung=rung,
        images=len(data),
        stored=int((~looked).sum()),
        detections=int(counts.sum()),
        sha256=detector.sha256,
        input_size=detector.input_size,
        median_ms=dict(zip(STAGES, (round(float(m), 3) for m in medians), strict=True)),
    )


def _stored(
    known: Mapping[str, Detections], data: Dataset, detector: Rung
) -> list[Detections | None]:
    """What is known of each picture; nothing where the rung itself finds something else on some.

    The folder may be of another runtime, another version, or somebody else's.
    """
    found = [known.get(short_digest(image.sha256) or "") for image in data.images]
    for index, answer in enumerate(found):
        if answer is not None and not _is_as_recorded(data, index):
            found[index] = None
    places = [index for index, answer in enumerate(found) if answer is not None]
    chosen = {places[len(places) * part // _TRIED] for part in range(_TRIED) if places}
    pairs = [
        (answer, detector.detect(data.read(index)).detections)
        for index in sorted(chosen)
        if (answer := found[index]) is not None
    ]
    agreement = agree(pairs)
    if agreement.detections and agreement.matched < _LEAST_ALIKE:
        _logger.warning(
            "the clips beside %s are not used: only %.0f %% of what they hold of %d pictures is "
            "what the rung finds; make them again with gearshift ladder clips",
            detector.config.weights,
            100 * agreement.matched,
            len(pairs),
        )
        return [None] * len(data)
    return found


def _is_as_recorded(data: Dataset, index: int) -> bool:
    """Whether a picture is still the one whose digest the data set states."""
    try:
        return sha256_file(data.path_of(index)) == data.images[index].sha256
    except StorageError:
        return False  # whoever detects it says what is wrong


def _facts(detector: Rung, config: ProfileConfig, data: Dataset) -> dict[str, Any]:
    return {
        "rung": detector.config.rung,
        "sha256": detector.sha256,
        "revision": detector.revision,
        "class_names": list(detector.class_names),
        "category_ids": list(detector.category_ids),
        "input_size": list(detector.input_size),
        "settings": asdict(config),
        "dataset_sha256": data.info.get("source_sha256"),
        "versions": library_versions(),
        "machine": machine_facts(),
    }


def _rows(batch: list[tuple[int, Detections]], detector: Rung, schema: pa.Schema) -> pa.Table:
    found = [detections for _, detections in batch]
    counts = [len(detections.scores) for detections in found]
    boxes = np.concatenate([detections.boxes for detections in found]).astype(np.float32)
    labels = np.concatenate([detections.labels for detections in found]).astype(np.int32)
    columns: list[Any] = [
        np.repeat(np.array([image_id for image_id, _ in batch], dtype=np.int64), counts),
        *np.ascontiguousarray(boxes.T),
        np.concatenate([detections.scores for detections in found]).astype(np.float32),
        np.array(detector.category_ids, dtype=np.int64)[labels],
        labels,
    ]
    if detector.reads:
        columns.append([text for detections in found for text in detections.texts or ()])
    return pa.table([pa.array(column) for column in columns], schema=schema)


def _write_images(
    file: Path,
    data: Dataset,
    counts: NDArray[np.int32],
    times: NDArray[np.float32],
    notes: Mapping[bytes, bytes],
) -> None:
    columns = [data.image_ids, counts, *times.T]
    arrays = [pa.array(np.ascontiguousarray(column)) for column in columns]
    pq.write_table(pa.table(arrays, schema=IMAGES_SCHEMA.with_metadata(notes)), file)
