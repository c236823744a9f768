"""Weights from elsewhere than a claim: KServe's storage initializer fetches them in the pod.

It is an init container of the detectors and of the router, so it has their ServiceAccount, and may
go where their NetworkPolicies let it.
"""

from __future__ import annotations

from foundation.addresses import split_address
from inference_graph.contract import LADDER
from inference_graph.control.manifests.documents import DETECTOR
from inference_graph.control.manifests.network import METADATA, PUBLIC, outward
from inference_graph.control.manifests.parts import ROUTER, S3_SECRET, Document, ManifestOptions

LOADING = (*LADDER, ROUTER)
"""Parties that load weights."""
_LOCAL = ("pvc", "oci")
"""Schemes of what the node brings: a claim, or an image."""


def weights_policies(options: ManifestOptions) -> list[Document]:
    """Let those that load weights reach the store; no policy can name its addresses.

    Args:
        options: what differs between clusters.
    """
    parts = split_address(options.storage)
    if parts.scheme in _LOCAL:
        return []
    port = 443
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
    found = [outward(f"weights-{name}", name, (port,), PUBLIC) for name in LOADING]
    if parts.scheme == "gs":
        # Google's nodes tell a pod who it is.
        found += [outward(f"identity-{name}", name, (80, 988), METADATA) for name in LOADING]
    return found


def with_keys(accounts: list[Document], options: ManifestOptions) -> list[Document]:
    """ServiceAccounts, of which those that load weights from an S3 store name its keys.

    KServe takes keys, and by the Secret's annotations the store's address, from there.

    Args:
        accounts: of the base.
        options: what differs between clusters.
    """
    if split_address(options.storage).scheme != "s3":
        return accounts
    keys = [{"name": S3_SECRET}]
    return [
        {**one, "secrets": keys} if one["metadata"]["name"] in (DETECTOR, ROUTER) else one
        for one in accounts
    ]
