"""Objects of one namespace on a cluster, written with conflicts in mind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from foundation.errors import AccessError, Forbidden, InvalidInput, Unavailable

if TYPE_CHECKING:
    from kubernetes.client import CustomObjectsApi

Document = dict[str, Any]
Change = Callable[[Document], Document]

_KINDS = {
    "inferenceservices": ("serving.kserve.io", "v1beta1"),
    "inferencegraphs": ("serving.kserve.io", "v1alpha1"),
    "deployments": ("apps", "v1"),
    "endpointslices": ("discovery.k8s.io", "v1"),
    "services": ("serving.knative.dev", "v1"),
    "models": ("mlops.seldon.io", "v1alpha1"),
    "experiments": ("mlops.seldon.io", "v1alpha1"),
}
"""API group and version by plural; the services are Knative's."""
_TRIES = 10
_SECONDS = 30.0


class Reader(Protocol):
    """Reads the objects of one namespace."""

    def read(self, plural: str, name: str) -> Document | None:
        """An object; None where there is none."""
        ...

    def labelled(self, plural: str, selector: str) -> list[Document]:
        """All objects that a label selector matches."""
        ...


class Objects:
    """The objects of one namespace."""

    def __init__(self, api: CustomObjectsApi, namespace: str) -> None:
        """Work with an API."""
        self._api, self._namespace = api, namespace

    def read(self, plural: str, name: str) -> Document | None:
        """An object; None where there is none.

        Raises:
            Unavailable: the API does not answer; so in all methods.
            AccessError: it refuses the account; likewise.
        """
        return self._call(self._api.get_namespaced_custom_object, plural, name, missing=True)

    def labelled(self, plural: str, selector: str) -> list[Document]:
        """All objects that a label selector matches."""
        found = self._call(self._api.list_namespaced_custom_object, plural, label_selector=selector)
        return list((found or {}).get("items", ()))

    def create(self, plural: str, document: Document) -> None:
        """Make an object."""
        self._call(self._api.create_namespaced_custom_object, plural, document)

    def change(self, plural: str, name: str, change: Change) -> Document:
        """Replace an object by a changed copy; tried again where others have written it meanwhile.

        Raises:
            InvalidInput: there is no such object.
        """
        for _ in range(_TRIES):
            before = self.read(plural, name)
            if before is None:
                raise InvalidInput(
                    f"there is no {plural} {name} in namespace {self._namespace}; name the right "
                    "one, or install the manifests"
                )
            after = change(copy.deepcopy(before))
            if after == before:
                return before
            written = self._call(
                self._api.replace_namespaced_custom_object, plural, name, after, conflict=True
            )
            if written is not None:
                return written
        raise Unavailable(f"{plural} {name} is changed by others all the time; try again")

    def scale(self, name: str, replicas: int) -> None:
        """Set the replicas of a Deployment without an autoscaler."""
        body = {"spec": {"replicas": replicas}}
        self._call(self._api.patch_namespaced_custom_object_scale, "deployments", name, body)

    def delete(self, plural: str, name: str) -> None:
        """Remove an object; one that is gone is no error."""
        self._call(self._api.delete_namespaced_custom_object, plural, name, missing=True)

    def _call(
        self,
        method: Any,
        plural: str,
        *rest: Any,
        missing: bool = False,
        conflict: bool = False,
        **more: Any,
    ) -> Document | None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        group, version = _KINDS[plural]
        try:
            reply: Document = method(
                group, version, self._namespace, plural, *rest, _request_timeout=_SECONDS, **more
            )
            if not isinstance(reply, dict):
                raise Unavailable(
                    f"the Kubernetes API answers for {plural} in namespace {self._namespace} with "
                    "no JSON object; check the address in the kubeconfig"
                )
            return reply
        except ApiException as error:
            if (error.status == 404 and missing) or (error.status == 409 and conflict):
                return None
            kinds = {401: AccessError, 403: Forbidden, 400: InvalidInput, 422: InvalidInput}
            message = " ".join(str(error.body or error.reason).split())[:300]
            raise kinds.get(error.status, Unavailable)(
                f"the Kubernetes API answers {error.status} for {plural} in namespace "
                f"{self._namespace}: {message}"
            ) from error
        except (HTTPError, OSError) as error:
            raise Unavailable(
                f"the Kubernetes API does not answer ({error}); check the cluster"
            ) from error
