"""Stage observe: the frame's part of the observation, for every image of a data set.

The numbers come from the task's maker (``feature_transformer.makers``) and from nowhere else: the
policy learns from the very code that will look at frames when it serves. The context block is not
here, because it depends on what the policy chose for the frame before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import load_dataset
from components.parallel import Progress, ordered_map
from feature_transformer.makers import maker_of, maker_of_schema
from feature_transformer.observation import FRAME_FEATURES
from foundation.errors import InvalidInput, SchemaMismatch
from foundation.storage import atomic_path


@dataclass(frozen=True)
class ObserveConfig:
    """How images are observed.

    Attributes:
        workers: threads that decode and compute; 0 is one per core.
    """

    workers: int = 0


@dataclass(frozen=True)
class ObserveSummary:
    """What was written: images, features of each, and the hash of the observation's schema."""

    images: int
    features: int
    schema_hash: str


@dataclass(frozen=True, eq=False)
class Observations:
    """Frame features of N images.

    Attributes:
        image_ids: int64[N], in the data set's order.
        features: float32[N, FRAME_FEATURES], 0 to 1; of a detector's frames the thumbnail's 1024
            grey values, then the edge density of four quadrants.
        schema_hash: hash of the observation schema they were made with.
    """

    image_ids: NDArray[np.int64]
    features: NDArray[np.float32]
    schema_hash: str

    def select(self, image_ids: Iterable[int]) -> NDArray[np.float32]:
        """Features of these images, float32[n, FRAME_FEATURES], in the order given.

        Raises InvalidInput for an image that was not observed.
        """
        rows = {image_id: row for row, image_id in enumerate(self.image_ids.tolist())}
        try:
            return self.features[[rows[int(image_id)] for image_id in image_ids]]
        except KeyError as error:
            raise InvalidInput(
                f"the observations have no image {error.args[0]}; observe the same data set again"
            ) from None


def observe(
    dataset: Path,
    out: Path,
    config: ObserveConfig | None = None,
    progress: Progress | None = None,
    known: Observations | None = None,
) -> ObserveSummary:
    """Compute the frame features of every image and write the ``.npz`` file ``out``.

    Args:
        dataset: canonical data set folder.
        out: the file; appears whole or not at all. Read it with :func:`load_observations`.
        config: how to work.
        progress: called with images done and in all.
        known: of images that were observed when they were decoded; the others are decoded here.

    Raises:
        AnnotationError: the data set folder is broken.
        ImageError: a picture is missing or damaged.
        StorageError: the disk is full.
    """
    config = config or ObserveConfig()
    data = load_dataset(dataset)
    maker = maker_of(data.task)
    features = np.zeros((len(data), FRAME_FEATURES), dtype=np.float32)

    if known is not None and known.schema_hash == maker.schema_hash:
        there = np.isin(data.image_ids, known.image_ids)
        features[there] = known.select(data.image_ids[there])
    else:
        there = np.zeros(len(data), np.bool_)
    missing = np.flatnonzero(~there).tolist()

    def look(index: int) -> NDArray[np.float32]:
        return maker.features(data.read(index))

    looked_at = ordered_map(look, missing, config.workers)
    for done, (index, row) in enumerate(zip(missing, looked_at, strict=True), 1):
        features[index] = row
        if progress:
            progress(len(data) - len(missing) + done, len(data))
    save_observations(Observations(data.image_ids, features, maker.schema_hash), out)
    return ObserveSummary(len(data), FRAME_FEATURES, maker.schema_hash)


def save_observations(observations: Observations, out: Path) -> None:
    """Write observations; the file appears whole or not at all."""
    # A stream, because numpy would append .npz to a name that does not end in it.
    with atomic_path(out) as file, file.open("wb") as stream:
        np.savez(
            stream,
            image_ids=observations.image_ids,
            features=observations.features,
            schema_hash=np.array(observations.schema_hash),
        )


def load_observations(path: Path) -> Observations:
    """Read what :func:`observe` wrote.

    Raises:
        InvalidInput: the file is something else.
        SchemaMismatch: it was made with another version of the observation.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            image_ids = stored["image_ids"].astype(np.int64)
            features = stored["features"].astype(np.float32)
            schema_hash = str(stored["schema_hash"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InvalidInput(
            f"{path}: holds no observations ({type(error).__name__}); run the observe stage again"
        ) from error
    try:
        maker_of_schema(schema_hash)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{path}: {error}; run the observe stage again") from error
    if features.shape != (len(image_ids), FRAME_FEATURES):
        raise InvalidInput(
            f"{path}: has features of shape {features.shape} for {len(image_ids)} images; "
            "run the observe stage again"
        )
    return Observations(image_ids, features, schema_hash)
