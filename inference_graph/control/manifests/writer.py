"""Writes the manifests for a cluster: the hand-written tree, and its site beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import ConfigurationError, StorageError
from foundation.storage import atomic_path
from foundation.yaml_text import Dumper
from inference_graph.control.manifests.names import MANIFESTS
from inference_graph.control.manifests.options import ManifestOptions
from inference_graph.control.manifests.promoted import Promoted, promoted_files, read_promoted
from inference_graph.control.manifests.render import KUSTOMIZATION
from inference_graph.control.manifests.site import site_files

_HEADER = "# Written by {}.\n"
_WRITTEN = ("site/", "components/promoted/")
"""What is not copied: it is a cluster's own."""


def write_manifests(out: Path, options: ManifestOptions | None = None) -> tuple[Path, ...]:
    """Write all manifests below a folder; other files there stay, and so does what was promoted.

    Args:
        out: the folder, for example ``deploy``.
        options: what differs between clusters; the committed ones without it.

    Returns:
        The files written.

    Raises:
        StorageError: the folder cannot be written.
        ConfigurationError: its patches of what was promoted are broken.
    """
    if not MANIFESTS.is_dir():
        raise ConfigurationError(f"{MANIFESTS} is missing; install Gearshift from its repository")
    promoted = promoted_files(read_promoted(out))
    return (
        *_copy_tree(out),
        *_write(out, site_files(options or ManifestOptions()), "gearshift manifests"),
        *_write(out, promoted, "gearshift rollout promoted"),
    )


def write_promoted(out: Path, promoted: Mapping[str, Promoted]) -> tuple[Path, ...]:
    """Write what was promoted into a folder of manifests, as the patches its overlays end with.

    Args:
        out: the folder, which `write_manifests` wrote.
        promoted: by InferenceService; those that are not in it are as in the manifests.

    Raises:
        ConfigurationError: it is no such folder.
        StorageError: it cannot be written.
    """
    if not (out / "base" / KUSTOMIZATION).is_file():
        raise ConfigurationError(f"{out} holds no manifests; name the folder that gearshift wrote")
    return _write(out, promoted_files(promoted), "gearshift rollout promoted")


def _copy_tree(out: Path) -> tuple[Path, ...]:
    """Copy the hand-written files; none where they are those of the folder itself."""
    if out.resolve() == MANIFESTS.resolve():
        return ()
    written = []
    for path in sorted(MANIFESTS.rglob("*")):
        name = path.relative_to(MANIFESTS)
        if path.is_file() and not name.as_posix().startswith(_WRITTEN):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise StorageError(f"{path} cannot be read: {error}") from error
            with atomic_path(out / name) as partial:
                partial.write_bytes(content)
            written.append(out / name)
    return tuple(written)


def _write(out: Path, files: Mapping[str, Sequence[Any]], author: str) -> tuple[Path, ...]:
    for name, documents in files.items():
        with atomic_path(out / name) as path:
            path.write_text(_HEADER.format(author) + _yaml(documents), encoding="utf-8")
    return tuple(out / name for name in files)


class _Plain(Dumper):
    """Without anchors, which few expect in a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(documents: Sequence[Any]) -> str:
    return "---\n".join(
        yaml.dump(one, Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True)
        for one in documents
    )
