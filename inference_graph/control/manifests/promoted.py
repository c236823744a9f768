"""What rollouts have promoted, as patches that every overlay ends with.

A promotion changes an InferenceService on the cluster; applying manifests that still name the
weights before would undo it. ``gearshift rollout promoted`` writes these patches from what the
cluster serves, and ``gearshift manifests`` keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.control.manifests.names import ROUTER, Document
from inference_graph.control.manifests.render import KUSTOMIZATION

SERVICES = (*LADDER, ROUTER)
DIGEST = "--sha256="
"""Argument of detector and router: what the file must be."""
_FOLDER = "components/promoted"
_MODEL = "/spec/predictor/model"


@dataclass(frozen=True)
class Promoted:
    """A revision that a rollout put in the place of the manifests' own.

    Attributes:
        source: its ``storageUri``.
        sha256: digest of its file.
    """

    source: str
    sha256: str


def promoted_files(promoted: Mapping[str, Promoted]) -> dict[str, list[Any]]:
    """The component ``promoted``, by file name; without a patch it changes nothing.

    Args:
        promoted: by InferenceService.
    """
    files: dict[str, list[Any]] = {
        f"{_FOLDER}/{name}.yaml": [_patch(one)] for name, one in sorted(promoted.items())
    }
    patches = [
        {"path": f"{name}.yaml", "target": {"kind": "InferenceService", "name": name}}
        for name in sorted(promoted)
    ]
    component: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "components": ["../../site/namespace"],  # kustomize refuses an empty component
    }
    files[f"{_FOLDER}/{KUSTOMIZATION}"] = [component | ({"patches": patches} if patches else {})]
    return files


def read_promoted(out: Path) -> dict[str, Promoted]:
    """What a folder of manifests has of it, by InferenceService; nothing where there is none.

    Raises:
        ConfigurationError: a patch that :func:`promoted_files` did not write.
    """
    listing = out / _FOLDER / KUSTOMIZATION
    if not listing.is_file():
        return {}
    found = {}
    try:
        patches = yaml.safe_load(listing.read_text("utf-8")).get("patches", ())
        for name in (one["target"]["name"] for one in patches):
            text = (out / _FOLDER / f"{name}.yaml").read_text("utf-8")
            source, digest = (str(one["value"]) for one in yaml.safe_load(text))
            found[name] = Promoted(source, digest.removeprefix(DIGEST))
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{out / _FOLDER} holds other patches than gearshift rollout promoted writes "
            f"({type(error).__name__}); put yours into a kustomization of your own"
        ) from error
    return found


def _patch(one: Promoted) -> list[Document]:
    return [
        {"op": "replace", "path": f"{_MODEL}/storageUri", "value": one.source},
        {"op": "add", "path": f"{_MODEL}/args/-", "value": f"{DIGEST}{one.sha256}"},
    ]
