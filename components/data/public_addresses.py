"""Where the public data and weights are, in one place, and how a mirror stands in for them.

Nothing here is fetched unless the user gives ``--data coco2017`` or ``--weights coco``.
"""

from __future__ import annotations

import os
import re

from foundation.errors import ConfigurationError

COCO_ADDRESS = "http://images.cocodataset.org"
"""COCO's own server; it has no certificate of its own name, so COCO itself links plain http."""

COCO_VARIABLE = "GEARSHIFT_COCO_ADDRESS"

COCO_IMAGES = "zips/{part}.zip"
"""``val2017``: 5,000 photographs, 0.8 GB; ``train2017``: 118,287, 19 GB; in a folder so called."""

COCO_ANNOTATIONS = "annotations/annotations_trainval2017.zip"
"""0.25 GB; holds ``annotations/instances_val2017.json`` and train2017's,
beside files that are not needed here."""

WEIGHTS_ADDRESS = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
"""Ultralytics' release of its checkpoints: the one that the Ultralytics of the lock fetches."""

WEIGHTS_VARIABLE = "GEARSHIFT_WEIGHTS_ADDRESS"

WEIGHTS_FILES = {"nano": "yolov8n.pt", "small": "yolov8s.pt", "large": "yolov8l.pt"}
"""Checkpoint of each rung, trained by Ultralytics on COCO train2017 at 640 pixels."""


def coco_urls(address: str = "", part: str = "val2017") -> tuple[str, str]:
    """URLs of the images' and of the annotations' archive.

    Args:
        address: a mirror with the same paths below it; by default $GEARSHIFT_COCO_ADDRESS, else
            COCO's own server.
        part: val2017 or train2017.

    Raises:
        ConfigurationError: the mirror is no http(s) address.
    """
    base = _base(address or os.environ.get(COCO_VARIABLE, "") or COCO_ADDRESS)
    return f"{base}/{COCO_IMAGES.format(part=part)}", f"{base}/{COCO_ANNOTATIONS}"


def weights_urls() -> dict[str, str]:
    """URL of each rung's checkpoint, below $GEARSHIFT_WEIGHTS_ADDRESS or Ultralytics' release.

    Raises:
        ConfigurationError: the mirror is no http(s) address.
    """
    base = _base(os.environ.get(WEIGHTS_VARIABLE, "") or WEIGHTS_ADDRESS)
    return {rung: f"{base}/{name}" for rung, name in WEIGHTS_FILES.items()}


def _base(address: str) -> str:
    if not re.match(r"https?://[^/\s]\S*$", address):
        raise ConfigurationError(
            f"mirror {address!r} is no http:// or https:// address; correct "
            f"--coco-address, ${COCO_VARIABLE} or ${WEIGHTS_VARIABLE}"
        )
    return address.rstrip("/")
