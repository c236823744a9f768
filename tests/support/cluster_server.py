"""A small server that keeps custom objects as the Kubernetes API server does."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from json_server import JsonHandler, json_server
from kserve_cluster import KServe

Document = dict[str, Any]
PLURALS = {"InferenceService": "inferenceservices", "InferenceGraph": "inferencegraphs"}


class Cluster:
    """Objects by plural and name; what is written is checked, versioned, and remembered.

    ``meddle`` is called before each write, and may be another writer. ``kserve`` works on what was
    written, one step at a time.
    """

    def __init__(self, check: Callable[[Document], list[str]] = lambda document: []) -> None:
        self.objects: dict[tuple[str, str], Document] = {}
        self.writes: list[tuple[str, str, Document | None]] = []
        self.kserve = KServe(self.objects)
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
        if before is not None and "status" in before:
            stored["status"] = before["status"]  # a resource of its own
        self.objects[plural, stored["metadata"]["name"]] = stored
        return stored

    def apply(self, document: Document) -> None:
        """Do as `kubectl apply` does with a manifest that it applied before.

        What the manifest states counts, lists as a whole; what it never stated stays.
        """
        plural = PLURALS[document["kind"]]
        live = self.objects[plural, document["metadata"]["name"]]
        self.put(plural, _merged(live, document))

    def answer(self, method: str, path: str, body: Document | None) -> tuple[int, Document]:
        place, _, query = path.partition("?")
        parts = place.strip("/").split("/")
        group, _, _, namespace, plural = parts[1:6]
        name = parts[6] if len(parts) > 6 else (body or {}).get("metadata", {}).get("name", "")
        if namespace != "gearshift":
            return 404, {"message": f"no {path}"}
        if group in ("apps", "discovery.k8s.io"):
            return self._of_kubernetes(method, plural, parts[6:], parse_qs(query), body)
        if group == "serving.knative.dev" and method == "GET":
            found = self.kserve.knative(name)
            return (404, {"message": "NotFound"}) if found is None else (200, found)
        if group not in ("serving.kserve.io", "mlops.seldon.io"):
            return 404, {"message": f"no {path}"}
        there = (plural, name) in self.objects
        if method == "POST" and there:
            return 409, {"message": "AlreadyExists"}
        if method != "POST" and not there:
            return 404, {"message": "NotFound"}
        if method == "GET":
            return 200, copy.deepcopy(self.objects[plural, name])
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

    def _of_kubernetes(
        self,
        method: str,
        plural: str,
        rest: list[str],
        query: dict[str, list[str]],
        body: Document | None,
    ) -> tuple[int, Document]:
        """What its own controllers made: Deployments, their scale, and EndpointSlices."""
        if plural == "endpointslices":
            assert method == "GET"
            name = query["labelSelector"][0].removeprefix("kubernetes.io/service-name=")
        else:
            name = rest[0]
        found = self.kserve.deployments.get(name)
        if plural == "endpointslices":
            return 200, {"items": [found.endpoints()] if found else []}
        if found is None:
            return 404, {"message": "NotFound"}
        if rest[1:] == ["scale"]:
            assert method == "PATCH" and body is not None
            found.scale(body["spec"]["replicas"])
        else:
            assert method == "GET"
        return 200, found.document()


def _merged(live: Any, output: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(output, dict):
        return copy.deepcopy(output)
    return {**live, **{key: _merged(live.get(key), value) for key, value in output.items()}}


@contextmanager
def served_cluster(cluster: Cluster) -> Iterator[str]:
    """The URL of a server over a cluster."""

    class Handler(JsonHandler):
        def _do(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with cluster.lock:
                status, reported = cluster.answer(self.command, self.path, body)
            self.answer(reported, status)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

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


def kubeconfig(folder: Path, url: str) -> Path:
    """A kubeconfig in a folder, for a server that asks for no credentials."""
    file = folder / "kubeconfig"
    file.write_text(
        "{apiVersion: v1, kind: Config, current-context: test, users: [{name: u, user: {}}], "
        f"clusters: [{{name: c, cluster: {{server: '{url}'}}}}], "
        "contexts: [{name: test, context: {cluster: c, user: u}}]}"
    )
    return file
