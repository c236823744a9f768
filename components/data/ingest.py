"""Stage ingest: annotated data of any known format become a canonical data set.

Everything is checked once, here, so the stages behind it may rely on what they read: every picture
decodes and has its annotated size, every annotation belongs to a picture and a category,
every box lies within its picture (the rules: ``components.data.violations``). By default the first
violation refuses the data. With ``on_invalid="drop"`` the broken records are left out, counted by
rule and listed in ``violations.jsonl``; with "quarantine" they and their pictures are kept, too, in
``quarantine/`` below the data set, itself a COCO folder that can be corrected and ingested.

What was fetched, unpacked and looked at is kept in a cache folder under the hash of its content, so
a run that was interrupted, or is repeated, goes on where the other one stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from components.data.archive import ArchiveLimits, fetch_and_unpack, unpack
from components.data.bucket import copy_prefix, names_bucket
from components.data.capture import UNKNOWN, described_capture
from components.data.coco import ORIGIN, CheckedCoco, check_coco, first_images, read_coco
from components.data.coco2017 import OWN_FAULTS, fetch_coco2017, names_coco2017
from components.data.coco_folder import enter, find_annotations, image_folders
from components.data.coco_text import read_coco_text
from components.data.coco_video import clip_names, read_youtube_vis
from components.data.dataset import dataset_from_coco, save_dataset, scene_type_of
from components.data.download import DownloadConfig
from components.data.formats import read_known
from components.data.image_facts import FactsCache, ImageFacts, cache_folder
from components.data.picture_files import PictureFolders
from components.data.quarantine import quarantine_writer
from components.data.source_check import check_source
from components.data.source_files import (
    SourceFiles,
    look_at_pictures,
    nothing_to_fetch,
    resolved,
)
from components.data.speech_folder import read_recordings, recordings_in
from components.data.text_folder import read_texts, texts_in
from components.data.versions import check_out, find_version, named_version
from components.data.violations import (
    DEPENDENT,
    count_rules,
    refuse,
    write_violations,
)
from components.data.yolo import description_in
from components.parallel import Progress, no_progress
from feature_transformer.image import Frame
from feature_transformer.makers import DETECTION, maker_of
from foundation.configuration import configuration
from foundation.errors import AnnotationError, ConfigurationError, ImageError
from foundation.path_roles import KeptPlace
from foundation.storage import atomic_path, sha256_file
from inference_graph.prediction_log.place import open_place


@configuration
class IngestConfig:
    """How a source is read.

    Attributes:
        annotations: name of the annotation file, where the source has several.
        on_invalid: "error" refuses data with a broken record, "drop" leaves such records out,
            "quarantine" leaves them out and keeps them and their pictures in quarantine/.
        cache: folder for downloads, unpacked archives and facts of images; by default
            $GEARSHIFT_CACHE, else the user's cache folder.
        limit: take the first so many images by id, for a trial; 0 takes all.
        workers: threads that read and decode; 0 is one per core.
        max_download_bytes: larger downloads are refused.
        max_unpacked_bytes: archives that unpack to more are refused.
        coco_address: mirror of COCO's archives, for the source coco2017; by default
            $GEARSHIFT_COCO_ADDRESS, else COCO's own server.
    """

    annotations: str = ""
    on_invalid: Literal["error", "drop", "quarantine"] = "error"
    cache: KeptPlace = ""
    limit: Annotated[int, Field(ge=0)] = 0
    workers: int = 0
    max_download_bytes: int = DownloadConfig.max_bytes
    max_unpacked_bytes: int = ArchiveLimits.max_bytes
    coco_address: str = ""


@dataclass(frozen=True)
class IngestSummary:
    """What came in.

    Attributes:
        images: pictures in the data set.
        annotations: boxes in the data set.
        categories: kinds of object the data set lists.
        crowd: boxes that stand for a crowd.
        clipped: boxes cut at the border, by at most one pixel.
        found_elsewhere: pictures whose path in the annotation file is written for another machine.
        dropped: records left out, by kind.
        decoded: pictures decoded in this run; the others were known from an earlier one.
        source_sha256: hash of the source's content: of the annotation file and every picture.
    """

    images: int
    annotations: int
    categories: int
    crowd: int
    clipped: int
    decoded: int
    source_sha256: str
    found_elsewhere: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


def ingest(
    source: str,
    out: Path,
    config: IngestConfig | None = None,
    progress: Progress | None = None,
    violations: Path | None = None,
) -> IngestSummary:
    """Read a source and write it to ``out`` as a canonical data set folder.

    Args:
        source: a folder in COCO's format or one of ``components.data.formats``, or with a text file
            beside each picture (``sign.jpg``, ``sign.txt``), a ``.zip`` of one, the http(s) URL of
            such a zip, a bucket's prefix or zip (``s3://``, ``gs://``), a stored version
            (``STORE@VERSION``), ``coco2017`` or ``coco2017-train``: COCO's archives.
        out: the data set folder; appears whole or not at all. Pictures are hard links to the source
            where that is possible, copies elsewhere.
        config: how to read it.
        progress: called with bytes while downloading and unpacking, then with pictures.
        violations: file for every violation, one JSON object a line, also where they are an error.

    Raises:
        AnnotationError: no annotation file, several, or a broken record in it; no data are left.
        ImageError: a picture is missing, damaged, or has another size than its record states.
        InvalidInput: the URL or the zip cannot be used.
        ConfigurationError: an option is out of its range, or the output would replace the source.
        StorageError: the disk is full or a folder cannot be written.
    """
    config = config or IngestConfig()
    return ingest_files(source_files(source, config, progress), out, config, progress, violations)


def ingest_files(
    found: SourceFiles,
    out: Path,
    config: IngestConfig,
    progress: Progress | None = None,
    violations: Path | None = None,
    decoded: Callable[[int, Frame], None] | None = None,
) -> IngestSummary:
    """Write a source whose files are known to ``out``; see ``ingest``.

    ``decoded`` gets the id and the pixels of each image that is decoded in this run, on any thread.
    """
    strict = config.on_invalid == "error"
    if found.root.resolve().is_relative_to(out.resolve()):
        # Putting the result in place would remove what it was made from.
        raise ConfigurationError(f"{out}: is or holds the source; choose another output folder")
    file = found.annotations
    shown = found.shown or file
    payload = read_coco(file)
    for name in ("images", "annotations"):
        if not payload[name] and found.places is None:
            raise AnnotationError(f"{shown}: lists no {name}; give annotated data")
    for name, origins in found.origins.items():
        for record, origin in zip(payload[name], origins, strict=True):
            record[ORIGIN] = origin
    payload = first_images(payload, config.limit) if config.limit else payload
    elsewhere = _resolve(payload, found)
    checked = check_coco(payload, found.places)
    faults = [fault for fault in checked.violations if fault.rule not in found.tolerated]
    if strict and violations is None:
        refuse(shown, faults, drop=found.drop)
    with FactsCache(cache_folder(config.cache) / "images.sqlite") as facts_cache:
        pictures = look_at_pictures(checked, found, facts_cache, config.workers, progress, decoded)
    every = [*checked.violations, *pictures.violations]
    if violations is not None:
        write_violations(every, shown, violations)
    if strict:
        refuse(shown, faults, drop=found.drop)
        refuse(shown, pictures.violations, ImageError, found.drop)

    annotations = [a for a in checked.annotations if a["image_id"] in pictures.found]
    dropped = count_rules(every)
    dependents = checked.dependents + len(checked.annotations) - len(annotations)
    if dependents:
        dropped[DEPENDENT] = dependents
    if not annotations and not dropped and found.places is None:
        raise AnnotationError(
            f"{shown}: its first {config.limit} images have no annotation; take more of them"
        )
    if not annotations and found.places is None:
        raise AnnotationError(
            f"{shown}: nothing is left after dropping broken records "
            f"({', '.join(f'{count} {rule}' for rule, count in dropped.items())}); correct the data"
        )
    records = _image_records(checked, pictures.found, annotations)
    # A version that is taken whole keeps its name, by which it is checked out again.
    kept = {} if dropped else found.version
    digest = kept.get("sha256") or _content_hash(file, records)
    result = {
        "info": {
            "source_sha256": digest,
            "annotation_file": shown.name,
            "dropped": dropped,
            "clipped": checked.clipped,
            "origin": texts_of(payload.get("info")),
            "archives": dict(found.archives),
            **({"version": dict(kept)} if kept else {}),
            **_task(payload),
        },
        "images": records,
        "annotations": annotations,
        "categories": checked.categories,
    }
    dataset = dataset_from_coco(out, result, file)
    beside = quarantine_writer(
        payload, every, shown, pictures.files, keep=config.on_invalid == "quarantine"
    )
    save_dataset(dataset, out, [pictures.found[image.id][0] for image in dataset.images], beside)
    return IngestSummary(
        images=len(dataset),
        annotations=len(annotations),
        categories=len(dataset.categories),
        crowd=int(dataset.is_crowd.sum()),
        clipped=checked.clipped,
        decoded=pictures.decoded,
        source_sha256=digest,
        found_elsewhere=elsewhere,
        dropped=dropped,
    )


def source_files(
    source: str,
    config: IngestConfig,
    progress: Progress | None = None,
    defer_pictures: bool = False,
) -> SourceFiles:
    """Find a source's files, fetched and unpacked where need be; raises as ``ingest`` does.

    With ``defer_pictures``, those of a bucket have their size, and no content before ``fetch``.
    """
    stored = named_version(source)
    if stored is None:
        return _files_of(source, config, progress, defer_pictures)
    store, name = stored
    version = find_version(store, name)
    folder = cache_folder(config.cache) / "versions" / version.id
    if not folder.is_dir():
        check_out(store, version.id, folder, progress or no_progress)
    about = {"id": version.id, "store": open_place(store).name, "sha256": version.dataset_sha256}
    whole = not config.limit
    return replace(_files_of(str(folder), config, progress), version=about if whole else {})


def _files_of(
    source: str, config: IngestConfig, progress: Progress | None, defer_pictures: bool = False
) -> SourceFiles:
    cache = cache_folder(config.cache)
    fetching = DownloadConfig(max_bytes=config.max_download_bytes)
    unpacking = ArchiveLimits(max_bytes=config.max_unpacked_bytes)
    path = Path(source).expanduser()
    fetch: Callable[[Iterable[Path]], None] = nothing_to_fetch
    if names_coco2017(source):
        coco = fetch_coco2017(
            cache, config.coco_address, config.annotations, fetching, unpacking, progress, source
        )
        folders = image_folders(coco.images, coco.annotations)
        return SourceFiles(coco.images, coco.annotations, folders, OWN_FAULTS, coco.archives)
    if names_bucket(source):
        most = config.max_download_bytes
        copied = copy_prefix(source, cache, most, progress or no_progress, defer_pictures)
        path, fetch = copied.path, copied.fetch
    elif "://" in source:
        path = fetch_and_unpack(source, cache, fetching, unpacking, progress)
    if path.is_file() and description_in(path) is None or not path.exists():
        check_source(str(path))
        path = unpack(path, cache / "unpacked", unpacking, progress)
    folder = path if path.is_file() else enter(path)
    # Only who names data.yaml itself lets it name folders beside its own.
    if read := read_known(folder, config.annotations, cache, confined=path.is_dir()):
        place = SourceFiles(read.root, read.file, PictureFolders(read.images))
        return _converted(place, read.payload, cache)
    if recordings_in(folder):
        payload, root = read_recordings(folder, cache)
        return _converted(SourceFiles(root, folder, PictureFolders((root,))), payload, cache)
    if texts_in(folder):
        with FactsCache(cache / "images.sqlite") as facts:
            payload = read_texts(folder, facts)
        return _converted(SourceFiles(folder, folder, PictureFolders((folder,))), payload, cache)
    file = find_annotations(folder, config.annotations)
    place = SourceFiles(folder, file, image_folders(folder, file), fetch=fetch)
    other = read_coco_text(file) or read_youtube_vis(file)
    return _converted(place, other, cache) if other else place


def _converted(place: SourceFiles, payload: Mapping[str, Any], cache: Path) -> SourceFiles:
    """A source of another format, its annotations written into the cache as COCO's."""
    origins = {
        name: [record.pop(ORIGIN, "") for record in payload[name]]
        for name in ("images", "annotations")
    }
    text = json.dumps(payload)
    file = cache / "converted" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    with atomic_path(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return replace(place, annotations=file, shown=place.annotations, origins=origins)


def _resolve(payload: dict[str, Any], found: SourceFiles) -> int:
    """Write the images' records as ``resolved`` has them; returns how many paths were changed."""
    videos = payload.get("videos")
    clips = clip_names(videos if isinstance(videos, list) else ())
    records = [resolved(record, found, clips) for record in payload["images"]]
    changed = sum(
        new is not old and new["file_name"] != old["file_name"]
        for new, old in zip(records, payload["images"], strict=True)
        if isinstance(old, dict) and "file_name" in old
    )
    payload["images"] = records
    return changed


def _image_records(
    checked: CheckedCoco,
    found: dict[int, tuple[Path, ImageFacts]],
    annotations: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    counts: dict[int, int] = {}
    for annotation in annotations:
        counts[annotation["image_id"]] = counts.get(annotation["image_id"], 0) + 1
    records = []
    for record in checked.images:
        if record["id"] not in found:
            continue
        facts = found[record["id"]][1]
        attributes = dict(record.get("attributes") or {})
        # Counted anew: records may have been dropped, and one definition holds for every source.
        attributes["scene_type"] = scene_type_of(counts.get(record["id"], 0))
        described = described_capture(record)._asdict()
        attributes |= facts.attributes
        attributes |= {name: value for name, value in described.items() if value != UNKNOWN}
        kept = {key: record[key] for key in ("id", "file_name", "width", "height")}
        records.append({**kept, "sha256": facts.sha256, "attributes": attributes})
    return records


def texts_of(info: Any) -> dict[str, str]:
    """Return what a source states of itself (description, version, url, ...), texts only."""
    if not isinstance(info, dict):
        return {}
    return {key: value for key, value in info.items() if isinstance(value, str)}


def _task(payload: Mapping[str, Any]) -> dict[str, str]:
    """The task that the source's info names; nothing where it is detection."""
    info = payload.get("info")
    task = info.get("task", DETECTION) if isinstance(info, dict) else DETECTION
    return {} if task == DETECTION else {"task": maker_of(str(task)).task}


def _content_hash(file: Path, records: Sequence[dict[str, Any]]) -> str:
    digest = hashlib.sha256(sha256_file(file).encode())
    for record in records:
        digest.update(f"\n{record['sha256']} {record['file_name']}".encode())
    return digest.hexdigest()
