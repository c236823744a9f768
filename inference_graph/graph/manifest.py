"""Reading a manifest strictly: one InferenceGraph in a YAML file, no key written twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import ConfigurationError
from foundation.yaml_text import read_documents

API_VERSION = "serving.kserve.io/v1alpha1"
KIND = "InferenceGraph"
LARGEST_FILE = 1_572_864
"""Bytes: what etcd takes for one request, so no cluster holds a larger resource."""


class _StrictLoader(yaml.SafeLoader):
    """YAML as the API server's strict decoding reads it: a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    mark = key.start_mark
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is written twice", mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Find the InferenceGraph in a YAML file; documents of other kinds are passed over.

    Args:
        path: UTF-8 text with one document or several.

    Raises:
        ConfigurationError: the file cannot be read, is no YAML, or holds none or several graphs.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigurationError(f"{path}: larger than {LARGEST_FILE} bytes, so no manifest")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a text file: {error}") from None
    try:
        documents = read_documents(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    graphs = [one for one in documents if isinstance(one, Mapping) and one.get("kind") == KIND]
    if len(graphs) != 1:
        raise ConfigurationError(
            f"{path}: holds {len(graphs)} documents of kind {KIND}; give a file with exactly one"
        )
    return graphs[0]
