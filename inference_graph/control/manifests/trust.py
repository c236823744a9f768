"""The trust file on a cluster: a ConfigMap that every pod mounts which loads a model.

Its keys are public, so it is no Secret. It is mounted as a folder, so that a changed ConfigMap
reaches running pods: a key that is revoked counts no longer at their next load.
"""

from __future__ import annotations

from foundation.signing.trust import read_trust
from inference_graph.control.manifests.parts import Document, ManifestOptions
from inference_graph.sessions import TRUST

_NAME, _FOLDER, _FILE = "gearshift-trust", "/etc/gearshift-trust", "trust.json"


def trust_documents(options: ManifestOptions) -> list[Document]:
    """The ConfigMap; nothing where no trust file is given.

    Args:
        options: what differs between clusters.

    Raises:
        ConfigurationError: the file is no trust file.
    """
    if options.trust is None:
        return []
    known = read_trust(options.trust)
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _NAME},
            "data": {_FILE: known.text()},
        }
    ]


def trust_variables(options: ManifestOptions) -> list[Document]:
    """What has a program load signed models only."""
    if options.trust is None:
        return []
    return [{"name": TRUST, "value": f"{_FOLDER}/{_FILE}"}]


def trust_mounts(options: ManifestOptions) -> list[Document]:
    """Where a container finds the file."""
    if options.trust is None:
        return []
    return [{"name": "trust", "mountPath": _FOLDER, "readOnly": True}]


def trust_volumes(options: ManifestOptions) -> list[Document]:
    """The same for its pod."""
    return [] if options.trust is None else [{"name": "trust", "configMap": {"name": _NAME}}]
