"""Renders a kustomization without kubectl, as far as the project's own manifests go.

Resources, components, JSON patches, image names and the namespace; anything else is refused, so
that nothing is rendered otherwise than on a cluster.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import ConfigurationError

_FIELDS = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}
_FILE = "kustomization.yaml"
_DEPTH = 10


def render(folder: Path) -> list[dict[str, Any]]:
    """The documents of a kustomization, for example of ``manifests/overlays/cpu``.

    Args:
        folder: where its ``kustomization.yaml`` lies.

    Returns:
        Kubernetes documents, in the order of the resources.

    Raises:
        ConfigurationError: a file is missing or broken, a patch does not fit, or a field is used
            that is not known here; the message names the file.
    """
    return _apply(Path(folder), [], 0)


def _apply(folder: Path, documents: list[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    path = folder / _FILE
    if depth > _DEPTH:
        raise ConfigurationError(f"{path} is nested deeper than {_DEPTH}; does it name itself?")
    (content,) = _documents(path, 1)
    if not isinstance(content, dict) or set(content) - _FIELDS:
        unknown = ", ".join(sorted(set(content) - _FIELDS)) if isinstance(content, dict) else "?"
        raise ConfigurationError(f"{path} uses {unknown}; render it with kubectl kustomize")
    documents = list(documents)
    for name in content.get("resources", ()):
        place = folder / name
        if place.is_dir():
            documents += _apply(place, [], depth + 1)
        else:
            documents += copy.deepcopy(_documents(place))
    for name in content.get("components", ()):
        documents = _apply(folder / name, documents, depth + 1)
    for patch in content.get("patches", ()):
        _patch(documents, folder, patch, path)
    for image in content.get("images", ()):
        _rename(documents, image, path)
    if "namespace" in content:
        for one in documents:
            is_namespace = one.get("kind") == "Namespace"
            one["metadata"]["name" if is_namespace else "namespace"] = content["namespace"]
    return documents


def _patch(
    documents: Sequence[dict[str, Any]], folder: Path, patch: Mapping[str, Any], path: Path
) -> None:
    if set(patch) != {"path", "target"} or set(patch["target"]) != {"kind", "name"}:
        raise ConfigurationError(
            f"{path}: a patch has {', '.join(patch)}; give path and a target of kind and name"
        )
    (operations,) = _documents(folder / patch["path"], 1)
    target = patch["target"]
    found = [
        one
        for one in documents
        if one.get("kind") == target["kind"] and re.fullmatch(target["name"], _name(one))
    ]
    if not found:
        raise ConfigurationError(f"{path}: no {target['kind']} {target['name']} to patch")
    for one in found:
        for operation in operations:
            try:
                _operate(one, operation)
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise ConfigurationError(
                    f"{folder / patch['path']}: {operation.get('op')} {operation.get('path')} "
                    f"does not fit {target['kind']} {_name(one)}"
                ) from error


def _operate(document: Any, operation: Mapping[str, Any]) -> None:
    """One operation of RFC 6902."""
    *way, last = (
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    )
    for part in way:
        document = document[int(part) if isinstance(document, list) else part]
    verb = operation["op"]
    value = copy.deepcopy(operation.get("value"))
    if isinstance(document, list):
        if verb == "add":
            place = len(document) if last == "-" else int(last)
            if place > len(document):
                raise IndexError(last)
            document.insert(place, value)
            return
        key: Any = int(last)
    else:
        key = last
    if verb == "remove":
        del document[key]
    elif verb == "add":
        document[key] = value
    elif verb == "replace":
        document[key]  # must be there
        document[key] = value
    else:
        raise ValueError(verb)


def _rename(documents: Any, image: Mapping[str, str], path: Path) -> None:
    """Give an image another name or tag wherever a container has it."""
    if set(image) - {"name", "newName", "newTag"} or "name" not in image:
        raise ConfigurationError(f"{path}: an image has {', '.join(image)}; give name and newTag")
    if isinstance(documents, list):
        for one in documents:
            _rename(one, image, path)
        return
    if not isinstance(documents, dict):
        return
    for key, value in documents.items():
        if key in ("containers", "initContainers") and isinstance(value, list):
            for container in value:
                # A registry's port has a colon too, but a slash behind it.
                name, _, tag = container.get("image", "").rpartition(":")
                if not name or "/" in tag:
                    name, tag = container.get("image", ""), ""
                if name == image["name"]:
                    name, tag = image.get("newName", name), image.get("newTag", tag)
                    container["image"] = f"{name}:{tag}" if tag else name
        _rename(value, image, path)


def _documents(path: Path, count: int | None = None) -> list[Any]:
    try:
        found = [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{path} is no valid YAML: {reason}") from error
    if count is not None and len(found) != count:
        raise ConfigurationError(f"{path} holds {len(found)} documents; it must be {count}")
    return found


def _name(document: Mapping[str, Any]) -> str:
    return str(document.get("metadata", {}).get("name", ""))
