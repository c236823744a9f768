"""An API server that kubectl talks to: objects, discovery, watches, ``exec`` and ``logs``.

It answers as Kubernetes' own does where kubectl and the installer look: status codes and Status
bodies, resource versions that move with a change only, generations that move with a spec,
server-side dry runs, and the streams of ``exec`` in the protocol v5.channel.k8s.io. Its controllers
are :mod:`cluster_controllers`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from exec_stream import run_exec

Document = dict[str, Any]
Key = tuple[str, str, str]
"""Resource with its group (``deployments.apps``), namespace, name."""

KINDS: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("namespaces", "Namespace", False),
        ("nodes", "Node", False),
        ("pods", "Pod", True),
        ("services", "Service", True),
        ("serviceaccounts", "ServiceAccount", True),
        ("secrets", "Secret", True),
        ("configmaps", "ConfigMap", True),
        ("persistentvolumeclaims", "PersistentVolumeClaim", True),
    ],
    "apps/v1": [("deployments", "Deployment", True), ("statefulsets", "StatefulSet", True)],
    "batch/v1": [("cronjobs", "CronJob", True)],
    "autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler", True)],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True)],
    "networking.k8s.io/v1": [
        ("networkpolicies", "NetworkPolicy", True),
        ("ingresses", "Ingress", True),
        ("ingressclasses", "IngressClass", False),
    ],
    "storage.k8s.io/v1": [("storageclasses", "StorageClass", False)],
    "discovery.k8s.io/v1": [("endpointslices", "EndpointSlice", True)],
    "rbac.authorization.k8s.io/v1": [
        ("roles", "Role", True),
        ("rolebindings", "RoleBinding", True),
    ],
    "authorization.k8s.io/v1": [("selfsubjectaccessreviews", "SelfSubjectAccessReview", False)],
    "cert-manager.io/v1": [
        ("certificates", "Certificate", True),
        ("clusterissuers", "ClusterIssuer", False),
    ],
    "gateway.networking.k8s.io/v1": [
        ("gateways", "Gateway", True),
        ("httproutes", "HTTPRoute", True),
    ],
    "serving.kserve.io/v1alpha1": [
        ("inferencegraphs", "InferenceGraph", True),
        ("servingruntimes", "ServingRuntime", True),
    ],
    "serving.kserve.io/v1beta1": [("inferenceservices", "InferenceService", True)],
}
_SHORT = {"persistentvolumeclaims": ["pvc"], "networkpolicies": ["netpol"]}
_SERVER_OWNED = ("uid", "creationTimestamp", "resourceVersion", "generation", "managedFields")


class Refusal(Exception):
    """A Status that is a failure."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.content = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


class ApiServer:
    """Objects, and who looks at every write.

    Attributes:
        objects: all of them.
        writes: method and path of every write that was asked for and was no dry run.
        commands: of every exec.
        logs: text by pod.
        denied: (verb, resource) pairs that are forbidden.
        controllers: called after every write with the server and the object, None if it is gone.
        before: called before every request; may raise :class:`Refusal`, or wait.
        folder: stands for ``/models`` in every pod.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, Any] | None = None) -> None:
        self.objects: dict[Key, Document] = {}
        self.writes: list[tuple[str, str]] = []
        self.commands: list[list[str]] = []
        self.logs: dict[str, str] = {}
        self.denied: set[tuple[str, str]] = set()
        self.controllers: list[Callable[[ApiServer, str, Document, bool], None]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.proxied: dict[str, tuple[int, str]] = {}
        self.folder = folder
        self.kinds = dict(kinds or KINDS)
        self.git_version = "v1.36.3"
        self.closing = False
        self._version = 100
        self._lock = threading.RLock()

    # Objects

    def put(self, resource: str, document: Document) -> Document:
        """Store an object as a controller does, by whole content."""
        with self._lock:
            stored = copy.deepcopy(document)
            metadata = stored["metadata"]
            key = (resource, metadata.get("namespace", ""), metadata["name"])
            before = self.objects.get(key)
            if before is not None and _content(before) == _content(stored):
                return before
            self._version += 1
            generation = before["metadata"]["generation"] if before else 1
            if before is not None and before.get("spec") != stored.get("spec"):
                generation += 1
            metadata |= {
                "resourceVersion": str(self._version),
                "generation": generation,
                "uid": f"00000000-0000-4000-8000-{self._version:012d}",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            }
            if before is not None:
                metadata["uid"] = before["metadata"]["uid"]
            self.objects[key] = stored
            return stored

    def get(self, resource: str, name: str, namespace: str = "gearshift") -> Document:
        return self.objects[resource, namespace, name]

    def named(self, resource: str, namespace: str = "gearshift") -> dict[str, Document]:
        return {
            name: one
            for (kind, place, name), one in self.objects.items()
            if kind == resource and place == namespace
        }

    # Requests

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        with self._lock:
            if (found := self._discovery(path)) is not None:
                return found
            if path in self.proxied:
                code, text = self.proxied[path]
                if code >= 400:
                    reason = "ServiceUnavailable" if code == 503 else "InternalError"
                    raise Refusal(code, reason, text)
                return text
            return self._object(method, path, query, body)

    def _discovery(self, path: str) -> Any:
        if path == "/version":
            major, minor = self.git_version.removeprefix("v").split(".")[:2]
            return {"major": major, "minor": minor, "gitVersion": self.git_version}
        groups: dict[str, list[str]] = {}
        for one in self.kinds:
            if "/" in one:
                groups.setdefault(one.partition("/")[0], []).append(one)
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            listed = [
                {
                    "name": name,
                    "versions": [_version(one) for one in versions],
                    "preferredVersion": _version(versions[0]),
                }
                for name, versions in groups.items()
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        api = path.removeprefix("/apis/").removeprefix("/api/")
        if api in self.kinds:
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": api,
                "resources": [
                    {
                        "name": plural,
                        "singularName": kind.lower(),
                        "namespaced": namespaced,
                        "kind": kind,
                        "shortNames": _SHORT.get(plural, []),
                        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
                    }
                    for plural, kind, namespaced in self.kinds[api]
                ],
            }
        if path == "/openapi/v3":
            paths = {
                _root(one): {"serverRelativeURL": f"/openapi/v3/{_root(one)}?hash=1"}
                for one in self.kinds
            }
            return {"paths": paths}
        if path.startswith("/openapi/v3/"):
            return self._openapi(path.removeprefix("/openapi/v3/"))
        return None

    def _openapi(self, root: str) -> Document:
        """That a patch may ask for strict validation, which is all that kubectl wants to know."""
        (api,) = (one for one in self.kinds if _root(one) == root)
        group, _, version = api.rpartition("/")
        names = [{"name": name, "in": "query"} for name in ("dryRun", "fieldValidation")]
        paths = {
            f"/{root}/{plural}/{{name}}": {
                "patch": {
                    "parameters": names,
                    "responses": {},
                    "x-kubernetes-group-version-kind": {
                        "group": group,
                        "version": version,
                        "kind": kind,
                    },
                }
            }
            for plural, kind, _ in self.kinds[api]
        }
        return {"openapi": "3.0.0", "info": {"title": "k", "version": "1"}, "paths": paths}

    def _object(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        resource, api, kind, namespace, name, part = self._place(path)
        dry = "dryRun" in query
        document = json.loads(body) if body else {}
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(
            method, "get" if name else "list"
        )
        full = f"{resource.partition('.')[0]}{'/' + part if part else ''}"
        if (verb, full) in self.denied:
            raise Refusal(
                403,
                "Forbidden",
                f'{full} is forbidden: User "anna" cannot {verb} resource "{full}" in API group '
                f'"{resource.partition(".")[2]}" in the namespace "{namespace}"',
            )
        if resource.startswith("selfsubjectaccessreviews"):
            return self._review(document)
        if method != "GET" and not dry:
            self.writes.append((method, path))
        if part == "log":
            return self.logs.get(name, "")
        key = (resource, namespace, name or document.get("metadata", {}).get("name", ""))
        if method == "GET" and not name:
            found = [
                one
                for (other, place, _), one in sorted(self.objects.items())
                if other == resource and namespace in ("", place) and _chosen(one, query)
            ]
            items = [copy.deepcopy(one) for one in found]
            return {
                "kind": f"{kind}List",
                "apiVersion": api,
                "metadata": {"resourceVersion": str(self._version)},
                "items": items,
            }
        there = self.objects.get(key)
        if method == "POST":
            return self._create(key, kind, document, dry)
        if there is None:
            raise Refusal(404, "NotFound", f'{resource} "{key[2]}" not found')
        if method == "GET":
            return there
        if method == "DELETE":
            return self._delete(key, dry)
        if method == "PUT":
            wanted = document["metadata"].get("resourceVersion")
            if wanted not in (None, there["metadata"]["resourceVersion"]):
                raise Refusal(
                    409, "Conflict", f'{resource} "{key[2]}": the object has been modified'
                )
            after = document
        else:
            after = _patched(there, document)
        return self._write(key, there, after, dry)

    def _place(self, path: str) -> tuple[str, str, str, str, str, str]:
        words = path.strip("/").split("/")
        api, rest = ("v1", words[2:]) if words[0] == "api" else ("/".join(words[1:3]), words[3:])
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        known = {plural: (kind, spaced) for plural, kind, spaced in self.kinds.get(api, ())}
        if not rest or rest[0] not in known:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        group = api.partition("/")[0] if "/" in api else ""
        resource = f"{rest[0]}.{group}" if group else rest[0]
        kind, _ = known[rest[0]]
        name, part = (*rest[1:3], "", "")[:2]
        return resource, api, kind, namespace, name, part

    def _create(self, key: Key, kind: str, document: Document, dry: bool) -> Document:
        resource, namespace, name = key
        if key in self.objects:
            raise Refusal(409, "AlreadyExists", f'{resource} "{name}" already exists')
        if namespace and ("namespaces", "", namespace) not in self.objects:
            raise Refusal(404, "NotFound", f'namespaces "{namespace}" not found')
        if namespace:
            document["metadata"]["namespace"] = namespace
        if dry:
            return document
        self.put(resource, document)
        self._notify(key, gone=False)
        return self.objects.get(key, document)

    def _write(self, key: Key, there: Document, after: Document, dry: bool) -> Document:
        after["metadata"] |= {
            name: there["metadata"][name] for name in _SERVER_OWNED if name in there["metadata"]
        }
        if "status" in there:
            after["status"] = there["status"]
        if dry:
            return after
        if _content(after) != _content(there):
            self.put(key[0], after)
            self._notify(key, gone=False)
        return self.objects[key]

    def _delete(self, key: Key, dry: bool) -> Document:
        if not dry:
            gone = self.objects.pop(key)
            self._notify(key, gone=True, document=gone)
            if key[0] == "namespaces":
                for other in [one for one in self.objects if one[1] == key[2]]:
                    del self.objects[other]
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _notify(self, key: Key, gone: bool, document: Document | None = None) -> None:
        for controller in self.controllers:
            controller(self, key[0], document or self.objects[key], gone)

    def _review(self, document: Document) -> Document:
        asked = document["spec"]["resourceAttributes"]
        part = asked.get("subresource", "")
        resource = f"{asked['resource']}{'/' + part if part else ''}"
        allowed = (asked["verb"], resource) not in self.denied
        return {**document, "status": {"allowed": allowed}}

    # ASGI

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await run_exec(self, scope, receive, send)
            return
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        method, path = scope["method"], scope["path"]
        try:
            await asyncio.to_thread(self.before, method, path)
            if query.get("watch") in ("true", "1"):
                await self._watch(path, query, receive, send)
                return
            code = 201 if method == "POST" else 200
            content = await asyncio.to_thread(self.answer, method, path, query, body)
        except Refusal as refusal:
            code, content = refusal.code, refusal.content
        text = isinstance(content, str)
        data = content.encode() if text else json.dumps(self._typed(path, content)).encode()
        kind = b"text/plain" if text else b"application/json"
        await _send(send, code, kind, data)

    def _typed(self, path: str, content: Any) -> Any:
        return content

    async def _watch(self, path: str, query: dict[str, str], receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        seen: dict[str, str] = {}
        since = int(query.get("resourceVersion") or 0)
        gone = asyncio.create_task(receive())
        while not (gone.done() or self.closing):
            listed = self.answer("GET", path, query, b"")["items"]
            for one in listed:
                name, version = one["metadata"]["name"], one["metadata"]["resourceVersion"]
                if int(version) > since and seen.get(name) != version:
                    event = {"type": "MODIFIED" if name in seen else "ADDED", "object": one}
                    seen[name] = version
                    line = json.dumps(event).encode() + b"\n"
                    await send({"type": "http.response.body", "body": line, "more_body": True})
            await asyncio.sleep(0.05)


def _version(api: str) -> Document:
    return {"groupVersion": api, "version": api.partition("/")[2]}


def _root(api: str) -> str:
    return f"apis/{api}" if "/" in api else f"api/{api}"


def _content(document: Document) -> Document:
    metadata = {
        name: value for name, value in document["metadata"].items() if name not in _SERVER_OWNED
    }
    return {**document, "metadata": metadata}


def _chosen(one: Document, query: Mapping[str, str]) -> bool:
    metadata = one["metadata"]
    field = query.get("fieldSelector", "")
    if field and metadata["name"] != field.removeprefix("metadata.name="):
        return False
    labels = metadata.get("labels", {})
    for part in filter(None, query.get("labelSelector", "").split(",")):
        name, given, value = part.partition("=")
        if name not in labels or (given and labels[name] != value):
            return False
    return True


def _patched(there: Document, patch: Document) -> Document:
    """What a patch of ``kubectl apply`` or ``annotate`` comes to.

    One of apply has in an annotation what the whole object shall be, or did before; so lists need
    no merging by their keys here.
    """
    merged = _merge(there, {"metadata": patch.get("metadata", {})})
    annotations = merged["metadata"].get("annotations") or {}
    last = annotations.get("kubectl.kubernetes.io/last-applied-configuration")
    if set(patch) - {"metadata"} and last:
        whole = json.loads(last)
        whole["metadata"] = merged["metadata"]
        return {**whole, **({"status": there["status"]} if "status" in there else {})}
    return _merge(merged, patch)


def _merge(one: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(one, dict):
        return copy.deepcopy(patch)
    merged = copy.deepcopy(one)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name, {}), value)
    return merged


async def _send(send: Any, code: int, kind: bytes, data: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": data})


@contextmanager
def served(server: ApiServer, kubeconfig: Path) -> Iterator[Path]:
    """Serve on a free port; yields the kubeconfig, whose context is called "test"."""
    config = uvicorn.Config(
        server,
        host="127.0.0.1",
        port=0,
        log_level="error",
        lifespan="off",
        ws_max_size=1 << 26,
        timeout_graceful_shutdown=1,
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            thread.join(0.01)
        port = running.servers[0].sockets[0].getsockname()[1]
        write_kubeconfig(kubeconfig, f"http://127.0.0.1:{port}")
        yield kubeconfig
    finally:
        server.closing = running.should_exit = True
        thread.join()


def write_kubeconfig(path: Path, url: str) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "anna", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "anna"}}],
    }
    path.write_text(json.dumps(content))
