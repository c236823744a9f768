"""A small server that keeps custom objects as the Kubernetes API server does."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from json_server import JsonHandler, json_server

Document = dict[str, Any]


class Cluster:
    """Objects by plural and name; what is written is checked, versioned, and remembered.

    ``ready`` says of an InferenceService whether KServe's controller finds it ready; ``meddle`` is
    called before each write, and may be another writer.
    """

    def __init__(self, check: Callable[[Document], list[str]] = lambda document: []) -> None:
        self.objects: dict[tuple[str, str], Document] = {}
        self.writes: list[tuple[str, str, Document | None]] = []
        self.ready: Callable[[Document], bool] = lambda service: True
        self.meddle: Callable[[], None] = lambda: None
        self.lock = threading.RLock()
        self._check = check
        self._version = 0

    def put(self, plural: str, document: Document) -> Document:
        self._version += 1
        stored = copy.deepcopy(document)
        before = self.objects.get((plural, document["metadata"]["name"]))
        generation = before["metadata"]["generation"] if before else 0
        if before is None or before["spec"] != stored["spec"]:
            generation += 1
        stored["metadata"] |= {"resourceVersion": str(self._version), "generation": generation}
        self.objects[plural, stored["metadata"]["name"]] = stored
        return stored

    def seen(self, plural: str, name: str) -> Document:
        """As it is read: with the status that KServe's controller gives it."""
        document = copy.deepcopy(self.objects[plural, name])
        if plural == "inferenceservices":
            well = self.ready(document)
            condition = {"type": "Ready", "status": str(well), "message": "" if well else "no pod"}
            document["status"] = {
                "observedGeneration": document["metadata"]["generation"], "conditions": [condition],
            }  # fmt: skip
        return document

    def answer(self, method: str, path: str, body: Document | None) -> tuple[int, Document]:
        parts = path.strip("/").split("/")
        group, _, _, namespace, plural = parts[1:6]
        name = parts[6] if len(parts) > 6 else (body or {}).get("metadata", {}).get("name", "")
        if group != "serving.kserve.io" or namespace != "gearshift":
            return 404, {"message": f"no {path}"}
        there = (plural, name) in self.objects
        if method == "POST" and there:
            return 409, {"message": "AlreadyExists"}
        if method != "POST" and not there:
            return 404, {"message": "NotFound"}
        if method == "GET":
            return 200, self.seen(plural, name)
        if method == "DELETE":
            del self.objects[plural, name]
            self.writes.append((method, name, None))
            return 200, {"status": "Success"}
        assert body is not None
        meddle, self.meddle = self.meddle, lambda: None
        meddle()
        version = body["metadata"].get("resourceVersion")
        if there and version != self.objects[plural, name]["metadata"]["resourceVersion"]:
            return 409, {"message": "the object has been modified"}
        plain = {key: value for key, value in body.items() if key != "status"}
        if found := self._check(plain):
            return 422, {"message": "; ".join(found)}
        self.writes.append((method, name, plain))
        return 200, self.put(plural, plain)


@contextmanager
def served_cluster(cluster: Cluster) -> Iterator[str]:
    """The URL of a server over a cluster."""

    class Handler(JsonHandler):
        def _do(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with cluster.lock:
                status, told = cluster.answer(self.command, self.path.partition("?")[0], body)
            self.answer(told, status)

        do_GET = do_POST = do_PUT = do_DELETE = _do

    with json_server(Handler) as url:
        yield url


def bare(document: Mapping[str, Any]) -> Document:
    """Without what the API server adds to metadata, for the strict schemas."""
    metadata = {
        key: value
        for key, value in document["metadata"].items()
        if key in ("name", "namespace", "labels", "annotations")
    }
    return {**document, "metadata": metadata}
