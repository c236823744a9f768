"""Sample scenes on disk: a canonical data set of stills and clips.

Besides ``annotations.json`` and ``images/`` each clip has ``clips/<name>.mp4`` and
``clips/<name>.json``, the same annotations frame by frame for programs that read video.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER, SCENE_TYPES
from components.parallel import Progress, no_progress, process_map
from components.scenes.conditions import CONDITIONS, Condition
from components.scenes.sprites import OBJECTS
from components.scenes.streets import WORLDS
from components.scenes.world import Scene, portable_pixels
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, StorageError
from foundation.storage import atomic_path, sha256_file

CLIPS_FOLDER = "clips"
MIXED = "mixed"

_JPEG_QUALITY = 92
_DAY_SHARE = 0.7


@configuration
class ScenesConfig:
    """What to render.

    Attributes:
        frames: number of stills.
        clips: number of clips.
        clip_frames: frames of each clip.
        condition: day, night, fog, rain or blur; "mixed" draws one per still and per clip
            (seven in ten are day).
        width: frame width in pixels.
        height: frame height in pixels.
        fps: frames per second of the clips.
        seed: the same seed gives the same bytes.
        world: "plain", or "streets" with look-alikes, distant crowds and blocks that differ in
            how hard they are.
        workers: rendering processes.
    """

    frames: Annotated[int, Field(ge=0)] = 0
    clips: Annotated[int, Field(ge=0)] = 0
    clip_frames: Annotated[int, Field(ge=1)] = 30
    condition: str = "day"
    width: Annotated[int, Field(ge=64, le=4096)] = 640
    height: Annotated[int, Field(ge=64, le=4096)] = 480
    fps: Annotated[float, Field(gt=0)] = 10.0
    seed: Annotated[int, Field(ge=0)] = 0
    world: str = "plain"
    workers: Annotated[int, Field(ge=1)] = 2

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if self.condition not in (*CONDITIONS, MIXED):
            raise ConfigurationError(
                f"condition {self.condition!r} is unknown; "
                f"choose one of {', '.join(CONDITIONS)} or {MIXED}"
            )
        if self.world not in WORLDS:
            raise ConfigurationError(
                f"world {self.world!r} is unknown; choose one of {', '.join(WORLDS)}"
            )
        if self.frames + self.clips == 0:
            raise ConfigurationError(
                "nothing to render: give --frames or --clips a number above zero"
            )
        for name, value in (("width", self.width), ("height", self.height)):
            if value % 2:  # video encoders take whole blocks of two pixels
                raise ConfigurationError(f"{name} is {value}; choose an even number")


@dataclass(frozen=True)
class ScenesSummary:
    """What was rendered: images (the clips' frames counted), clips, annotations, scene types."""

    images: int
    clips: int
    annotations: int
    by_scene_type: Mapping[str, int]


_Record = dict[str, Any]


def _condition_of(config: ScenesConfig, kind: int, index: int) -> Condition:
    if config.condition != MIXED:
        return next(name for name in CONDITIONS if name == config.condition)
    rng = np.random.default_rng((config.seed, kind, index, 1))
    if rng.random() < _DAY_SHARE:
        return "day"
    return CONDITIONS[int(rng.integers(1, len(CONDITIONS)))]


def _write_frame(folder: Path, name: str, scene: Scene, clip: str | None, at: int) -> _Record:
    """Store one picture; returns its COCO image record with its annotations under "objects"."""
    path = folder / IMAGES_FOLDER / name
    if not cv2.imwrite(str(path), scene.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
        raise StorageError(f"cannot write {path}; free some space or choose another place")
    height, width = scene.image.shape[:2]
    return {
        "file_name": name,
        "width": width,
        "height": height,
        "sha256": sha256_file(path),
        "attributes": {
            "condition": scene.condition,
            "scene_type": scene.scene_type,
            "clip": clip,
            "frame_index": at,
        },
        "objects": scene.objects,
    }


@portable_pixels()
def _render_still(job: tuple[ScenesConfig, Path, int]) -> list[_Record]:
    config, folder, index = job
    world = WORLDS[config.world](
        (config.seed, 0, index),
        _condition_of(config, 0, index),
        config.width,
        config.height,
        moving=False,
    )
    scene = next(world.frames(1))
    return [_write_frame(folder, f"still-{index:06d}.jpg", scene, None, 0)]


@portable_pixels()
def _render_clip(job: tuple[ScenesConfig, Path, int]) -> list[_Record]:
    config, folder, index = job
    world = WORLDS[config.world](
        (config.seed, 1, index),
        _condition_of(config, 1, index),
        config.width,
        config.height,
        moving=True,
        fps=config.fps,
    )
    name = f"clip-{index:04d}"
    video = folder / CLIPS_FOLDER / f"{name}.mp4"
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(video), codec, config.fps, (config.width, config.height))
    if not writer.isOpened():
        raise StorageError(f"cannot write {video}; free some space or choose another place")
    records = []
    for at, scene in enumerate(world.frames(config.clip_frames)):
        writer.write(scene.image)
        records.append(_write_frame(folder, f"{name}-{at:04d}.jpg", scene, name, at))
    writer.release()
    return records


def _to_coco(records: Iterable[_Record], config: ScenesConfig, first_id: int) -> dict[str, Any]:
    """Number images and annotations from ``first_id`` and 1, in the order given."""
    images: list[_Record] = []
    annotations: list[_Record] = []
    for image_id, record in enumerate(records, first_id):
        images.append(
            {"id": image_id} | {key: value for key, value in record.items() if key != "objects"}
        )
        for found in record["objects"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": found.category_id,
                    "bbox": list(found.box),
                    "area": found.area,
                    "iscrowd": 0,
                }
            )
    info = {
        "description": "Gearshift sample scenes (procedural)",
        "seed": config.seed,
        "condition": config.condition,
        **({} if config.world == "plain" else {"world": config.world}),
        "fps": config.fps,
    }
    categories = [{"id": sprite.category_id, "name": sprite.name} for sprite in OBJECTS]
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _dump(payload: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(payload, separators=(",", ":")) + "\n", encoding="utf-8")


def write_scenes(
    config: ScenesConfig,
    out: Path,
    progress: Progress = no_progress,
) -> ScenesSummary:
    """Render stills and clips into a canonical data set folder.

    Args:
        config: what to render.
        out: the folder; it appears complete or not at all, replacing one of that name.
        progress: called with frames done and frames in all.

    Returns:
        Counts of what was rendered.

    Raises:
        ConfigurationError: the configuration makes no sense.
        StorageError: the disk is full or ``out`` cannot be written.
    """
    total = config.frames + config.clips * config.clip_frames
    stills: list[_Record] = []
    clips: list[list[_Record]] = []
    done = 0
    with atomic_path(out) as folder:
        (folder / IMAGES_FOLDER).mkdir(parents=True)
        if config.clips:
            (folder / CLIPS_FOLDER).mkdir()
        with process_map(config.workers) as run:
            jobs = ((config, folder, index) for index in range(config.frames))
            for records in run(_render_still, jobs, chunksize=8):
                stills += records
                done += 1
                progress(done, total)
            jobs = ((config, folder, index) for index in range(config.clips))
            for records in run(_render_clip, jobs):
                clips.append(records)
                done += len(records)
                progress(done, total)
        everything = stills + [record for records in clips for record in records]
        payload = _to_coco(everything, config, 1)
        _dump(payload, folder / ANNOTATIONS_FILE)
        first_id = len(stills) + 1
        for records in clips:
            name = records[0]["attributes"]["clip"]
            _dump(_to_coco(records, config, first_id), folder / CLIPS_FOLDER / f"{name}.json")
            first_id += len(records)
    counted = Counter(record["attributes"]["scene_type"] for record in everything)
    return ScenesSummary(
        len(everything),
        len(clips),
        len(payload["annotations"]),
        {kind: counted[kind] for kind in SCENE_TYPES},
    )
