"""Ultralytics' own COCO weights as a ladder: fetched, exported to ONNX once, and kept in the cache.

Loading a checkpoint (``.pt``) unpickles it, and that runs whatever code it holds. So it is done
here only with files that came from the stated address over https (a server on this very machine
may use http), and once; what is used afterwards is ONNX, which runs no code. Ultralytics
publishes no digests; those of what came are written into the ladder's card.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from components.data.download import DownloadConfig, download, forget
from components.data.image_facts import cache_folder
from components.data.public_addresses import WEIGHTS_VARIABLE, weights_urls
from components.ladder import export
from components.ladder.export import ExportConfig, export_rung
from components.parallel import Progress, no_progress
from components.profiling.rungs import InferenceConfig, open_ladder
from foundation.errors import InvalidInput, ModelError, StorageError
from foundation.file_lock import file_lock
from foundation.storage import atomic_path, sha256_file
from inference_graph.coco_categories import COCO_IDS
from inference_graph.contract import LADDER

ORIGIN_FILE = "origin.json"
"""The card for programs. ``card.json`` is what ``gearshift ladder card`` measures, if asked to."""

CARD_PAGE = "MODEL_CARD.md"

AS_TRAINED = ExportConfig(height=640, width=640, compress=False)
"""The input that these weights were trained for. A cache has room for whole floats."""

PATIENCE = DownloadConfig(max_bytes=1 << 30, secure=True)

_PERCENT = 100


@dataclass(frozen=True)
class OfficialRung:
    """One rung: its file, and the checkpoint that it was made from.

    Attributes:
        file: name of its ONNX file.
        bytes: size of the file.
        sha256: digest of the file.
        input_size: (height, width) the network sees, pixels.
        checkpoint_url: where the checkpoint came from.
        checkpoint_bytes: its size.
        checkpoint_sha256: its digest, as it came.
    """

    file: str
    bytes: int
    sha256: str
    input_size: tuple[int, int]
    checkpoint_url: str
    checkpoint_bytes: int
    checkpoint_sha256: str


@dataclass(frozen=True)
class OfficialCard:
    """What the ladder is and where it comes from.

    Attributes:
        rungs: by name, cheapest first.
        class_names: in class order.
        category_ids: COCO's id of each class.
        versions: of the libraries that exported it.
        licence: of the weights.
    """

    rungs: Mapping[str, OfficialRung]
    class_names: Sequence[str]
    category_ids: Sequence[int]
    versions: Mapping[str, str]
    licence: str = "AGPL-3.0-or-later"


def official_ladder(
    cache: str = "",
    progress: Progress = no_progress,
    config: ExportConfig = AS_TRAINED,
    patience: DownloadConfig = PATIENCE,
) -> Path:
    """Return the folder with the ONNX files of Ultralytics' YOLOv8 n, s and l.

    The first call downloads about 115 MB and exports for a minute; later ones need no network.

    Args:
        cache: folder for downloads and ladders; by default $GEARSHIFT_CACHE, else the user's own.
        progress: called with per cents done, and 100.
        config: input size and storage.
        patience: patience and limits of the downloads.

    Raises:
        InvalidInput: the server cannot be reached or refuses, or has no https.
        ModelError: what came is no checkpoint of a YOLO that knows COCO's 80 classes.
        ConfigurationError: $GEARSHIFT_WEIGHTS_ADDRESS is no http(s) address.
        StorageError: the disk is full or the cache cannot be written.
    """
    place, urls = cache_folder(cache), weights_urls()
    recipe = {
        "urls": urls,
        "config": asdict(config),
        # Another exporter makes other files.
        "exporter": sha256_file(Path(export.__file__)),
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    ladder = place / "ladders" / f"coco-{key}"
    try:
        ladder.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(ladder.with_name(f"{ladder.name}.lock")):
            if not _is_whole(ladder):
                checkpoints = _fetch(urls, place / "downloads", patience, progress)
                _make(ladder, urls, checkpoints, config, progress)
    except OSError as error:
        raise StorageError(
            f"cannot keep Ultralytics' weights in {place}: {error.strerror or error}; "
            "free some space or set $GEARSHIFT_CACHE to another folder"
        ) from error
    return ladder


def _is_whole(ladder: Path) -> bool:
    """Whether the ladder lies there as its card states."""
    try:
        rungs = json.loads((ladder / ORIGIN_FILE).read_text(encoding="utf-8"))["rungs"]
        return all(sha256_file(ladder / f"{r}.onnx") == rungs[r]["sha256"] for r in LADDER)
    except (OSError, ValueError, KeyError, TypeError, StorageError):
        return False


def _fetch(
    urls: Mapping[str, str], folder: Path, patience: DownloadConfig, progress: Progress
) -> dict[str, Path]:
    """Download every rung's checkpoint; what is no PyTorch file does not stay in the cache."""
    found = {}
    for index, (rung, url) in enumerate(urls.items()):
        try:
            share = _share(progress, index, 2 * len(urls))
            found[rung] = download(url, folder, patience, share)
        except InvalidInput as error:
            names = ", ".join(Path(name).name for name in urls.values())
            raise InvalidInput(
                f"{error}. Without that server: set ${WEIGHTS_VARIABLE} to a mirror, or fetch "
                f"{names} elsewhere, export each (gearshift ladder export) and give their folder"
            ) from error
        if not zipfile.is_zipfile(found[rung]):  # PyTorch's format is a zip
            with found[rung].open("rb") as stream:
                start = stream.read(12)
            forget(found[rung])
            raise ModelError(
                f"{url}: what came is no PyTorch checkpoint (it starts with {start!r}); "
                "check the address, and whether a proxy answered in the server's place"
            )
    return found


def _make(
    ladder: Path,
    urls: Mapping[str, str],
    checkpoints: Mapping[str, Path],
    config: ExportConfig,
    progress: Progress,
) -> None:
    """Export every rung, prove that they work and are siblings, and write the card."""
    rungs = {}
    with atomic_path(ladder) as place:
        place.mkdir()
        for index, (rung, checkpoint) in enumerate(checkpoints.items()):
            file = place / f"{rung}.onnx"
            try:
                summary = export_rung(checkpoint, file, config)
            except ModelError as error:
                raise ModelError(f"what came from {urls[rung]} cannot be used: {error}") from error
            if summary.class_names != tuple(COCO_IDS):
                raise ModelError(
                    f"{urls[rung]}: a checkpoint of {len(summary.class_names)} classes, which are "
                    f"not COCO's {len(COCO_IDS)}; check ${WEIGHTS_VARIABLE}"
                )
            rungs[rung] = OfficialRung(
                file=file.name,
                bytes=summary.bytes,
                sha256=summary.sha256,
                input_size=(config.height, config.width),
                checkpoint_url=urls[rung],
                checkpoint_bytes=checkpoint.stat().st_size,
                checkpoint_sha256=sha256_file(checkpoint),
            )
            _share(progress, len(urls) + index, 2 * len(urls))(1, 1)
        open_ladder({rung: place / rungs[rung].file for rung in LADDER}, InferenceConfig(threads=1))
        card = OfficialCard(rungs, tuple(COCO_IDS), tuple(COCO_IDS.values()), _versions())
        text = json.dumps(asdict(card), indent=1) + "\n"
        (place / ORIGIN_FILE).write_text(text, encoding="utf-8")
        (place / CARD_PAGE).write_text(page(card), encoding="utf-8")


def _versions() -> dict[str, str]:
    """Versions of what exports; loaded by now."""
    import onnx
    import torch
    import ultralytics

    return {library.__name__: str(library.__version__) for library in (onnx, torch, ultralytics)}


def page(card: OfficialCard) -> str:
    """The card as Markdown."""
    lines = [
        "# Model card: Ultralytics' COCO weights",
        "",
        "Three YOLOv8 detectors that Ultralytics trained on COCO train2017, exported to ONNX here.",
        "Nothing was measured on the way: `gearshift pipeline run --data coco2017 --weights coco`",
        "does. val2017 is what Ultralytics chose these weights by, so figures on it are kind.",
        "",
        "| rung | file | bytes | input | SHA-256 |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {rung.file} | {rung.bytes:,} | "
            f"{rung.input_size[0]}×{rung.input_size[1]} | `{rung.sha256}` |"
            for name, rung in card.rungs.items()
        ),
        "",
        "| rung | made from | bytes | SHA-256, as it came |",
        "|---|---|---|---|",
        *(
            f"| {name} | {rung.checkpoint_url} | {rung.checkpoint_bytes:,} | "
            f"`{rung.checkpoint_sha256}` |"
            for name, rung in card.rungs.items()
        ),
        "",
        f"Exported with {', '.join(f'{name} {is_}' for name, is_ in card.versions.items())}.",
        f"Classes: COCO's {len(card.class_names)}. Licence: {card.licence} (Ultralytics).",
    ]
    return "\n".join(lines) + "\n"


def _share(progress: Progress, index: int, parts: int) -> Progress:
    """The progress of one of several equal parts, in per cents of the whole."""

    def report(done: int, total: int) -> None:
        inner = done / total if total else 0.0
        progress(int(_PERCENT * (index + inner) / parts), _PERCENT)

    return report
