"""The objects of a namespace as ``kubectl get`` showed them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inference_graph.control.manifests.names import Document

_KINDS = {
    "inferenceservices": "InferenceService",
    "inferencegraphs": "InferenceGraph",
    "deployments": "Deployment",
    "endpointslices": "EndpointSlice",
}


class Snapshot:
    """What a rollout reads through the API, from a list; see ``rollout.objects.Reader``."""

    def __init__(self, documents: Sequence[Document]) -> None:
        """Keep the documents, of any kinds."""
        self._documents = documents

    def read(self, plural: str, name: str) -> Document | None:
        """An object; None where there is none."""
        found = (one for one in self.of(_KINDS[plural]) if one["metadata"]["name"] == name)
        return next(found, None)

    def labelled(self, plural: str, selector: str) -> list[Document]:
        """All objects that a selector of the form ``name=value`` matches."""
        name, _, value = selector.partition("=")
        return [one for one in self.of(_KINDS[plural]) if labels_of(one).get(name) == value]

    def of(self, kind: str) -> Iterator[Document]:
        """All objects of a kind."""
        return (one for one in self._documents if one["kind"] == kind)

    def having(self, kind: str, labels: dict[str, str]) -> list[Document]:
        """All objects of a kind that have these labels."""
        return [one for one in self.of(kind) if labels.items() <= labels_of(one).items()]


def labels_of(document: Document) -> dict[str, str]:
    """Its labels."""
    labels: dict[str, str] = document["metadata"].get("labels") or {}
    return labels
