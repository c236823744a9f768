"""A rollout on a cluster, through the Kubernetes API.

Two writers, chosen by the deployment mode of the model's InferenceService:

*   Standard: the canary is an InferenceService of its own, ``<service>-canary``, and the
    InferenceGraph gets a Splitter over both, because a graph goes past KServe's own canary. When it
    is promoted, the stable service takes the new revision while the canary answers everything;
    the canary goes when the stable one is ready again.
*   Knative: the InferenceService itself takes the new revision, and ``canaryTrafficPercent`` says
    what share its newest revision gets.

A streaming gateway beside the services calls them without the graph, so it is told the same shares
(Standard mode, with ``gateway``). Every write names the ``resourceVersion`` it read; a conflict is
read and tried again.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_transformer.errors import (
    AccessError,
    ConfigurationError,
    Forbidden,
    InvalidInput,
    Unavailable,
)
from inference_graph.canary_client import CanaryClients
from inference_graph.manifests.graphs import GRAPH
from inference_graph.manifests.parts import CANARY_SUFFIX, GRPC_PORT, ROUTER
from inference_graph.rollout.plan import FULL, POLICY, shadow_shares
from inference_graph.rollout.services import (
    Document,
    canary_service,
    is_knative,
    promoted_service,
    storage,
    with_percent,
    with_storage,
    with_storage_before,
    without_traffic,
)
from inference_graph.rollout.splitter import weight_in, with_canary, without_canary
from inference_graph.rollout.state import RolloutState
from inference_graph.rollout.traffic import Prepared

if TYPE_CHECKING:
    from kubernetes.client import CustomObjectsApi

Change = Callable[[Document], Document]

_GROUP = "serving.kserve.io"
_KINDS = {"inferenceservices": "v1beta1", "inferencegraphs": "v1alpha1"}
_TRIES = 10
_PAUSE = 1.0
_SECONDS = 30.0


@dataclass(frozen=True)
class ClusterConfig:
    """Where the services are.

    Attributes:
        namespace: of the InferenceServices and the graph.
        graph: name of the InferenceGraph.
        gateway: URL of the streaming gateway, which is told the shares as well; empty for none.
            Of plain http, each address that its name resolves to is told: every replica has to be.
        kubeconfig: file of the cluster's address and credentials; the usual one, or inside a
            cluster the pod's own, without it.
        context: of that file; its current one without it.
    """

    namespace: str = "gearshift"
    graph: str = GRAPH
    gateway: str = ""
    kubeconfig: Path | None = None
    context: str = ""


class Objects:
    """KServe's objects of one namespace, written with conflicts in mind."""

    def __init__(self, api: CustomObjectsApi, namespace: str) -> None:
        """Work with an API."""
        self._api, self._namespace = api, namespace

    def read(self, plural: str, name: str) -> Document | None:
        """An object; None where there is none.

        Raises:
            Unavailable: the API does not answer; so in all methods.
            AccessError: it does not let us; likewise.
        """
        return self._call(self._api.get_namespaced_custom_object, plural, name, missing=True)

    def create(self, plural: str, document: Document) -> None:
        """Make an object."""
        self._call(self._api.create_namespaced_custom_object, plural, document)

    def change(self, plural: str, name: str, change: Change) -> Document:
        """Replace an object by a changed copy; again with what others wrote meanwhile.

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

    def delete(self, plural: str, name: str) -> None:
        """Remove an object; one that is gone is no error."""
        self._call(self._api.delete_namespaced_custom_object, plural, name, missing=True)

    def _call(
        self, method: Any, plural: str, *rest: Any, missing: bool = False, conflict: bool = False
    ) -> Document | None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            told: Document = method(
                _GROUP, _KINDS[plural], self._namespace, plural, *rest, _request_timeout=_SECONDS
            )
            return told
        except ApiException as error:
            if (error.status == 404 and missing) or (error.status == 409 and conflict):
                return None
            kinds = {401: AccessError, 403: Forbidden, 400: InvalidInput, 422: InvalidInput}
            said = " ".join(str(error.body or error.reason).split())[:300]
            raise kinds.get(error.status, Unavailable)(
                f"the Kubernetes API answers {error.status} for {plural} in namespace "
                f"{self._namespace}: {said}"
            ) from error
        except HTTPError as error:
            raise Unavailable(
                f"the Kubernetes API does not answer ({error}); check the cluster"
            ) from error


class ClusterTraffic:
    """Moves the traffic of a cluster; see :class:`inference_graph.rollout.traffic.Traffic`."""

    def __init__(
        self, api: CustomObjectsApi, config: ClusterConfig, token: str | None = None
    ) -> None:
        """Nothing is moved yet.

        Args:
            api: of the cluster.
            config: where the services are.
            token: access token for the gateway.
        """
        self._objects, self._config = Objects(api, config.namespace), config
        self._gateway = CanaryClients(config.gateway, token) if config.gateway else None

    def prepare(self, rollout: RolloutState) -> Prepared:
        """See ``Traffic``."""
        name = _service(rollout)
        service = self._service(name)
        begun = "canaryTrafficPercent" in service["spec"]["predictor"]  # Knative, and resumed
        if storage(service) == rollout.source and not begun:
            raise InvalidInput(f"{name} serves {rollout.source} already; name another storageUri")
        if is_knative(service):
            self._objects.change(
                "inferenceservices", name, lambda one: with_percent(one, 0, rollout)
            )
            self._wait(name, rollout)
            return Prepared("", rollout.sha256[:12], name)
        canary = name + CANARY_SUFFIX
        if self._objects.read("inferenceservices", canary) is None:
            self._objects.create("inferenceservices", canary_service(service, rollout))
        self._wait(canary, rollout)
        self._split(rollout, 0)
        if self._gateway is not None and rollout.model != POLICY:
            told = self._gateway.add(rollout.model, f"{canary}-predictor:{GRPC_PORT}/{canary}")
            return Prepared(told["stable"], told["revision"], canary)
        return Prepared("", rollout.sha256[:12], canary)

    def shift(self, rollout: RolloutState, weight: int) -> None:
        """See ``Traffic``."""
        name = _service(rollout)
        if is_knative(self._service(name)):
            self._objects.change(
                "inferenceservices", name, lambda one: with_percent(one, weight, rollout)
            )
            return
        self._split(rollout, weight)
        if self._gateway is not None and rollout.model != POLICY:
            looks = shadow_shares(rollout.model, weight, rollout.plan.shadow_share)
            self._gateway.shift(rollout.model, weight, looks, rollout.rollout, 1)

    def promote(self, rollout: RolloutState) -> None:
        """See ``Traffic``."""
        name = _service(rollout)
        if is_knative(self._service(name)):
            self._objects.change("inferenceservices", name, promoted_service)
            return
        if storage(self._service(name)) != rollout.source:  # else it was, before a crash
            # The canary answers everything while the stable one starts again.
            self.shift(rollout, FULL)
            self._objects.change("inferenceservices", name, lambda one: with_storage(one, rollout))
        self._wait(name, rollout)
        self._whole(rollout)
        self._objects.delete("inferenceservices", name + CANARY_SUFFIX)

    def withdraw(self, rollout: RolloutState) -> None:
        """See ``Traffic``."""
        name = _service(rollout)
        if is_knative(self._service(name)):
            # Without a percentage Knative sends everything to the newest revision that is ready.
            # So the canary loses its share first, and what is newest then is the old one again.
            for change in (without_traffic, with_storage_before):
                self._objects.change("inferenceservices", name, change)
            self._wait(name, rollout)
            self._objects.change("inferenceservices", name, promoted_service)
            return
        self._whole(rollout)
        self._objects.delete("inferenceservices", name + CANARY_SUFFIX)

    def flows(self, rollout: RolloutState) -> bool:
        """See ``Traffic``."""
        name = _service(rollout)
        service = self._service(name)
        if is_knative(service):
            return bool(service["spec"]["predictor"].get("canaryTrafficPercent") == rollout.weight)
        graph = self._objects.read("inferencegraphs", self._config.graph)
        if graph is None or weight_in(graph, name) != rollout.weight:
            return False
        if self._gateway is None or rollout.model == POLICY:
            return True
        weights = [one.get(rollout.model, {}).get("weight") for one in self._gateway.revisions()]
        return all(weight == rollout.weight for weight in weights)

    def _service(self, name: str) -> Document:
        found = self._objects.read("inferenceservices", name)
        if found is None:
            raise InvalidInput(
                f"there is no InferenceService {name} in namespace {self._config.namespace}; "
                "install the manifests first"
            )
        return found

    def _split(self, rollout: RolloutState, weight: int) -> None:
        name = _service(rollout)
        target = {"serviceName": name + CANARY_SUFFIX}
        self._objects.change(
            "inferencegraphs",
            self._config.graph,
            lambda graph: with_canary(graph, name, target, weight),
        )

    def _whole(self, rollout: RolloutState) -> None:
        """All traffic to the stable service, in the graph and at the gateway."""
        name = _service(rollout)
        if self._gateway is not None and rollout.model != POLICY:
            self._gateway.remove(rollout.model)
        self._objects.change(
            "inferencegraphs", self._config.graph, lambda graph: without_canary(graph, name)
        )

    def _wait(self, name: str, rollout: RolloutState) -> None:
        end = time.monotonic() + rollout.plan.ready_seconds
        while True:
            service = self._service(name)
            status = service.get("status", {})
            conditions = {one["type"]: one for one in status.get("conditions", ())}
            ready = conditions.get("Ready", {})
            # A generation that the controller has not seen yet would be told ready for the last.
            seen = status.get("observedGeneration", 0) >= service["metadata"].get("generation", 0)
            if seen and ready.get("status") == "True":
                return
            if time.monotonic() > end:
                said = ready.get("message") or ready.get("reason") or "its controller says nothing"
                raise Unavailable(
                    f"InferenceService {name} is not ready after {rollout.plan.ready_seconds:g} s: "
                    f"{said}"
                )
            time.sleep(_PAUSE)


def connected(config: ClusterConfig) -> CustomObjectsApi:
    """The API of the cluster that a kubeconfig, or the pod's own account, leads to.

    Raises:
        ConfigurationError: neither is there, or unusable.
    """
    from kubernetes import client
    from kubernetes import config as settings

    try:
        if config.kubeconfig is not None or config.context:
            file = None if config.kubeconfig is None else str(config.kubeconfig)
            return client.CustomObjectsApi(
                settings.new_client_from_config(file, config.context or None)
            )
        settings.load_config()
    except (settings.ConfigException, OSError) as error:
        raise ConfigurationError(
            f"no cluster is known ({str(error).splitlines()[0]}); name a --kubeconfig"
        ) from error
    return client.CustomObjectsApi()


def _service(rollout: RolloutState) -> str:
    return ROUTER if rollout.model == POLICY else rollout.model
