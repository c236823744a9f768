"""COCO itself: the archives of val2017 or train2017, fetched and put side by side.

The images come in one archive and the annotations in another, so neither is a COCO-format source
of its own. Both are downloaded (resumed where a connection broke), unpacked and kept in the cache.
COCO publishes no digests; those of what came are recorded in the data set's ``info``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components.data.archive import ArchiveLimits, fetch_and_unpack
from components.data.download import DownloadConfig
from components.data.public_addresses import coco_urls
from components.parallel import Progress
from foundation.errors import InvalidInput

PARTS = {"coco2017": "val2017", "coco2017-train": "train2017"}
"""What a user gives instead of a folder, and the part of COCO that is meant."""

OWN_FAULTS = frozenset({"zero_area", "box_outside"})
"""Kinds of broken record (see ``components.data.coco``) for which COCO's own file is not refused.

It cannot be corrected, and a box without area in 36,781 is no reason to stop. They are counted."""


@dataclass(frozen=True)
class CocoFiles:
    """COCO on this machine.

    Attributes:
        images: folder that holds the folder ``val2017`` or ``train2017``.
        annotations: the instances' annotation file.
        archives: SHA-256 of each archive, by URL.
    """

    images: Path
    annotations: Path
    archives: Mapping[str, str]


def names_coco2017(source: str) -> bool:
    """Whether a source means COCO's archives; a file or folder of that name goes first."""
    return source in PARTS and not Path(source).exists()


def fetch_coco2017(
    cache: Path,
    address: str = "",
    annotations: str = "",
    fetching: DownloadConfig | None = None,
    unpacking: ArchiveLimits | None = None,
    progress: Progress | None = None,
    source: str = "coco2017",
) -> CocoFiles:
    """Bring the images and annotations of a part of COCO into the cache.

    Args:
        cache: folder for downloads and unpacked archives.
        address: a mirror with the same paths below it; by default $GEARSHIFT_COCO_ADDRESS, else
            COCO's own server.
        annotations: another annotation file of the archive than the part's instances.
        fetching: patience and limits of the downloads.
        unpacking: what is unpacked at most.
        progress: called with bytes, for each archive anew.
        source: one of PARTS.

    Raises:
        InvalidInput: the server cannot be reached or refuses, or what came is not COCO's archive.
        ConfigurationError: the mirror is no http(s) address.
        StorageError: the disk is full or the cache cannot be written.
    """
    part = PARTS[source]
    images_url, annotations_url = coco_urls(address, part)
    wanted = annotations or f"instances_{part}.json"
    try:
        # The smaller one first: where something is wrong, less time is lost until it shows.
        texts = fetch_and_unpack(annotations_url, cache, fetching, unpacking, progress, wanted)
        pictures = fetch_and_unpack(images_url, cache, fetching, unpacking, progress)
    except InvalidInput as error:
        raise InvalidInput(
            f"{error}. Without that server: name a mirror with --coco-address, or fetch "
            f"{images_url} and {annotations_url} elsewhere, unpack both into one folder and give it"
        ) from error
    if not (pictures / part).is_dir():
        raise InvalidInput(
            f"{images_url}: the archive holds no folder {part}, so it is not COCO's; "
            "check the address of the mirror"
        )
    name = PurePosixPath(wanted).name
    file = next(place for place in sorted(texts.rglob("*.json")) if place.name == name)
    # unpack names its folders by the archive's digest.
    archives = {images_url: pictures.name[:64], annotations_url: texts.name[:64]}
    return CocoFiles(pictures, file, archives)
