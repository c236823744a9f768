"""Renders a kustomization without kubectl, as far as the project's own manifests go.

Resources, components, JSON patches, replacements, labels and the namespace; anything else is
refused, so that nothing is rendered otherwise than on a cluster. As with kubectl, what a patch or a
replacement selects may be absent, and a document annotated ``config.kubernetes.io/local-config`` is
left out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import ConfigurationError

KUSTOMIZATION = "kustomization.yaml"
_FIELDS = {
    *("apiVersion", "kind", "namespace", "labels", "resources", "components", "patches"),
    "replacements",
}
_DEPTH = 10
_SEPARATOR = re.compile(r"(?<!\\)\.(?![^\[]*\])")


def render(folder: Path) -> list[dict[str, Any]]:
    """The documents of a kustomization, for example of ``manifests/overlays/cpu``.

    Args:
        folder: where its ``kustomization.yaml`` lies.

    Returns:
        Kubernetes documents, in the order of the resources.

    Raises:
        ConfigurationError: a file is missing or broken, a patch or replacement does not fit, or a
            field is used that is not known here; the message names the file.
    """
    documents = _apply(Path(folder), [], 0)
    return [one for one in documents if not _is_local(one)]


def _apply(folder: Path, documents: list[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    path = folder / KUSTOMIZATION
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
    if "namespace" in content:
        for one in documents:
            is_namespace = one.get("kind") == "Namespace"
            one["metadata"]["name" if is_namespace else "namespace"] = content["namespace"]
    for labels in content.get("labels", ()):
        if set(labels) != {"pairs"}:
            raise ConfigurationError(f"{path}: labels have {', '.join(labels)}; give pairs alone")
        for one in documents:
            one["metadata"]["labels"] = {**one["metadata"].get("labels", {}), **labels["pairs"]}
    for replacement in content.get("replacements", ()):
        _replace(documents, replacement, path)
    return documents


def _select(
    documents: Sequence[dict[str, Any]],
    selector: Mapping[str, str],
    path: Path,
    matches: Callable[[str, str], object],
) -> list[dict[str, Any]]:
    """The documents of a kind, and of a name where one is given."""
    if set(selector) - {"kind", "name"} or "kind" not in selector:
        raise ConfigurationError(f"{path} selects by {', '.join(selector)}; give kind and name")
    return [
        one
        for one in documents
        if matches(selector["kind"], str(one.get("kind")))
        and ("name" not in selector or matches(selector["name"], _name(one)))
    ]


def _patch(
    documents: Sequence[dict[str, Any]], folder: Path, patch: Mapping[str, Any], path: Path
) -> None:
    if set(patch) not in ({"path", "target"}, {"patch", "target"}):
        raise ConfigurationError(
            f"{path}: a patch has {', '.join(patch)}; give a target, and a path or a patch"
        )
    if "path" in patch:
        path = folder / patch["path"]
        (operations,) = _documents(path, 1)
    else:
        operations = yaml.safe_load(patch["patch"])
    for one in _select(documents, patch["target"], path, re.fullmatch):
        for operation in operations:
            try:
                _operate(one, operation)
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise ConfigurationError(
                    f"{path}: {operation.get('op')} {operation.get('path')} "
                    f"does not fit {one['kind']} {_name(one)}"
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


def _replace(
    documents: Sequence[dict[str, Any]], replacement: Mapping[str, Any], path: Path
) -> None:
    """Copy one field into others, whole or between delimiters; names are no expressions here."""
    source = dict(replacement["source"])
    field = source.pop("fieldPath")
    found = [
        holder[key]
        for one in _select(documents, source, path, str.__eq__)
        for holder, key in _at(one, field)
    ]
    if len(found) != 1:
        raise ConfigurationError(f"{path}: {len(found)} fields are {field}; a source must be one")
    for target in replacement["targets"]:
        for one in _select(documents, target["select"], path, str.__eq__):
            for wanted in target["fieldPaths"]:
                places = list(_at(one, wanted))
                if not places:
                    raise ConfigurationError(
                        f"{path}: {one['kind']} {_name(one)} has no field {wanted}"
                    )
                for holder, key in places:
                    holder[key] = _replaced(holder[key], found[0], target.get("options", {}))


def _replaced(old: Any, new: str, options: Mapping[str, Any]) -> Any:
    """A field's new value; it keeps its type, as a port is a number and a setting is text."""
    if "delimiter" not in options:
        return type(old)(new)
    parts = str(old).split(options["delimiter"])
    parts[options.get("index", 0)] = new
    return options["delimiter"].join(parts)


def _at(document: Any, field: str) -> Iterator[tuple[Any, Any]]:
    """Where a field path leads: what holds each value, and by which key; nowhere if it is absent.

    A part is a key, an index, ``*`` for every item, or ``[key=value]`` for the items that have it.
    """
    places: list[tuple[Any, Any]] = [({"": document}, "")]
    for part in _SEPARATOR.split(field):
        part = part.replace("\\.", ".")
        places = [
            (holder[key], inner) for holder, key in places for inner in _keys(holder[key], part)
        ]
    yield from places


def _keys(value: Any, part: str) -> Iterator[Any]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            name, _, wanted = part.strip("[]").partition("=")
            if part in ("*", str(index)) or (part[0] == "[" and item.get(name) == wanted):
                yield index
    elif isinstance(value, dict) and part in value:
        yield part


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


def _is_local(document: Mapping[str, Any]) -> bool:
    annotations = document.get("metadata", {}).get("annotations") or {}
    return "config.kubernetes.io/local-config" in annotations
