"""A rollout on a cluster, through the Kubernetes API.

Two writers, chosen by the deployment mode of the model's InferenceService:

*   Standard: the canary is an InferenceService of its own, ``<service>-canary``, and the
    InferenceGraph gets a Splitter over both. KServe's own ``spec.canary`` is not used:
    docs/rollout.md states why. When it is promoted, the stable service takes the new revision while
    the canary answers everything; the canary goes when the stable one serves again.
*   Knative: the InferenceService itself takes the new revision, and ``canaryTrafficPercent`` states
    what share its newest revision gets.

A streaming gateway beside the services calls them without the graph, so it gets the same shares
(Standard mode, with ``gateway``). Every write names the ``resourceVersion`` it read; a conflict is
read and tried again. Nothing waits here: what takes time raises :class:`Pending`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from foundation.errors import (
    AccessError,
    ConfigurationError,
    InvalidInput,
    StorageError,
    Unavailable,
)
from foundation.path_roles import InputPath, KeptFile, KeptFolder
from foundation.storage import sha256_file
from inference_graph.clients.canaries import CanaryClients
from inference_graph.control.manifests.names import CANARY_SUFFIX, GRAPH, GRPC_PORT, ROUTER
from inference_graph.control.manifests.promoted import Promoted
from inference_graph.control.manifests.writer import write_promoted
from inference_graph.control.rollout.objects import Change, Document, Objects
from inference_graph.control.rollout.plan import FULL, POLICY, shadow_shares
from inference_graph.control.rollout.policy_files import PolicyFiles
from inference_graph.control.rollout.promoted import before_rollout, promoted_on
from inference_graph.control.rollout.services import (
    canary_service,
    digest,
    is_canary_of,
    is_knative,
    is_scaled_by_others,
    storage,
    with_percent,
    with_replicas,
    with_storage,
    without_percent,
    without_traffic,
)
from inference_graph.control.rollout.serving import PARTS, graph_left, revision_left, service_left
from inference_graph.control.rollout.splitter import weight_in, with_canary, without_canary
from inference_graph.control.rollout.state import RolloutState
from inference_graph.control.rollout.traffic import AlreadyPromoted, Pending, Prepared
from inference_graph.control.workloads import wanted_replicas

if TYPE_CHECKING:
    from kubernetes.client import CustomObjectsApi

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterRolloutConfig:
    """Where the services are.

    Attributes:
        namespace: of the InferenceServices and the graph.
        graph: name of the InferenceGraph.
        gateway: URL of the streaming gateway, which gets the shares as well; empty for none.
            Of plain http, each address that its name resolves to: every replica needs them.
        kubeconfig: file of the cluster's address and credentials; the usual one, or inside a
            cluster the pod's own, without it.
        context: of that file; its current one without it.
        manifests: folder of `gearshift manifests`, in which a promotion is written down.
        claim: NAME=FOLDER, where a claim's volume is mounted: a new policy at pvc://NAME/... is
            read there, and sent to the gateway.
        promoted: file that gateways start with where it is there: a policy that was promoted.
        mesh: host:port of Seldon's Envoy, as the gateway reaches it; with it the rungs are Models
            of Seldon Core 2, not InferenceServices.
    """

    namespace: str = "gearshift"
    graph: str = GRAPH
    gateway: str = ""
    kubeconfig: InputPath | None = None
    context: str = ""
    manifests: KeptFolder | None = None
    claim: str = ""
    promoted: KeptFile | None = None
    mesh: str = ""


class ClusterTraffic:
    """Moves the traffic of a cluster.

    See :class:`inference_graph.control.rollout.traffic.TrafficControl`.
    """

    def __init__(
        self, api: CustomObjectsApi, config: ClusterRolloutConfig, token: str | None = None
    ) -> None:
        """Nothing is moved yet.

        Args:
            api: of the cluster.
            config: where the services are.
            token: access token for the gateway.
        """
        self._objects, self._config = Objects(api, config.namespace), config
        self._gateway = CanaryClients(config.gateway, token) if config.gateway else None
        self._policies = PolicyFiles(config.claim, config.promoted)

    def prepare(self, rollout: RolloutState) -> Prepared:
        """See ``TrafficControl``."""
        try:
            return self._prepare(rollout)
        except (Unavailable, AccessError) as error:
            # Of the API or a gateway: it says nothing about the new revision.
            raise Pending(str(error)) from error

    def _prepare(self, rollout: RolloutState) -> Prepared:
        name = _service(rollout)
        service = self._service(name)
        before, _ = before_rollout(self._objects, service) or (storage(service), "")
        if before == rollout.source:
            raise InvalidInput(f"{name} serves {rollout.source} already; name another storageUri")
        if is_knative(service):
            self._change(name, lambda one: with_percent(one, 0, rollout))
            self._need(name)
            return Prepared("", rollout.sha256[:12], name)
        canary = name + CANARY_SUFFIX
        if (found := self._objects.read("inferenceservices", canary)) is None:
            # A Splitter that is there leads to a canary that someone has removed.
            self._join(name)
            self._objects.create("inferenceservices", canary_service(service, rollout))
        elif _is_ending(found):
            raise Pending(f"the previous InferenceService {canary} is being deleted")
        elif not is_canary_of(found, rollout):
            raise InvalidInput(
                f"InferenceService {canary} belongs to another rollout; end that one with its own "
                f"--folder, or, where its folder is lost, apply the manifests and delete {canary}"
            )
        self._need(canary)
        if weight_in(self._graph(), name) is None:
            self._split(rollout, 0)
        self._need_graph()
        reply = None
        if gateway := self._splitting(rollout):
            if rollout.model == POLICY:
                try:
                    with self._policies.opened(rollout.source) as path:
                        reply = gateway.add_policy(path, rollout.sha256)
                except StorageError as error:
                    _log.warning("streams have no share of %s: %s", rollout.source, error)
            else:
                reply = gateway.add(rollout.model, f"{canary}-predictor:{GRPC_PORT}/{canary}")
        if reply is None:
            return Prepared("", rollout.sha256[:12], canary)
        return Prepared(reply["stable"], reply["revision"], canary)

    def shift(self, rollout: RolloutState, weight: int) -> None:
        """See ``TrafficControl``."""
        name = _service(rollout)
        if is_knative(self._service(name)):
            self._change(name, lambda one: with_percent(one, weight, rollout))
            self._need(name)
            return
        if self._canary(rollout) is None:
            self._join(name)  # a Splitter that is there leads to what someone has removed
            raise InvalidInput(
                f"InferenceService {name}{CANARY_SUFFIX} of rollout {rollout.rollout} is gone; "
                "start the rollout again"
            )
        self._enlarge(rollout, weight)
        self._need(name + CANARY_SUFFIX)
        self._split(rollout, weight)
        self._need_graph()
        if gateway := self._gateway:
            looks = shadow_shares(rollout.model, weight, rollout.plan.shadow_share)
            frames = rollout.plan.segment_frames
            gateway.shift(rollout.model, weight, looks, rollout.rollout, frames)

    def promote(self, rollout: RolloutState) -> None:
        """See ``TrafficControl``."""
        name = _service(rollout)
        if is_knative(service := self._service(name)):
            self._change(name, without_percent)
            self._need(name)
        else:
            unchanged = (storage(service), digest(service)) != (rollout.source, rollout.sha256)
            serves = self._canary(rollout) is not None
            if not serves:
                self._join(name)  # done already, or someone has removed the canary
            if unchanged or (serves and service_left(self._objects, service)):
                # The canary answers everything while the stable one starts again.
                self.shift(rollout, FULL)
                self._change(name, lambda one: with_storage(one, rollout.source, rollout.sha256))
            self._need(name)
            if rollout.model == POLICY:
                self._have_gateways_use(rollout, rollout.source, rollout.sha256)
            self._take_traffic_away(rollout)
        # Before the canary goes: until then the rollout can be withdrawn.
        self._write_down({name: Promoted(rollout.source, rollout.sha256)})
        if self._canary(rollout) is not None:
            self._objects.delete("inferenceservices", name + CANARY_SUFFIX)

    def withdraw(self, rollout: RolloutState) -> None:
        """See ``TrafficControl``."""
        name = _service(rollout)
        service = self._service(name)
        canary = self._objects.read("inferenceservices", name + CANARY_SUFFIX)
        if canary is not None and not is_canary_of(canary, rollout):
            return  # so nothing of this rollout is there
        knative, before = is_knative(service), before_rollout(self._objects, service)
        promoting = rollout.step == len(rollout.plan.steps) - 1
        if before is None and promoting and storage(service) == rollout.source:
            self.promote(rollout)  # where someone has removed the canary, a part of it is left
            raise AlreadyPromoted
        if knative:
            # Without a percentage Knative sends everything to the newest revision that is ready.
            # So the canary loses its share first, and what is newest then is the old one again.
            self._change(name, without_traffic)
        if before is not None:
            self._change(name, lambda one: _restored(one, rollout, *before))
            if knative or weight_in(self._graph(), name) == FULL:
                # In Standard mode the canary answers until the revision before is back.
                self._need(name)
        if knative:
            self._change(name, without_percent)
        else:
            if before is not None and rollout.model == POLICY and self._gateways_use(rollout):
                self._have_gateways_use(rollout, *before)
            self._take_traffic_away(rollout)
        if before is not None:
            self._write_down({name: Promoted(*before)})
        if canary is not None and not knative:
            self._objects.delete("inferenceservices", name + CANARY_SUFFIX)

    def flows(self, rollout: RolloutState) -> bool:
        """See ``TrafficControl``."""
        name = _service(rollout)
        service = self._service(name)
        if is_knative(service):
            return bool(service["spec"]["predictor"].get("canaryTrafficPercent") == rollout.weight)
        if self._canary(rollout) is None or weight_in(self._graph(), name) != rollout.weight:
            return False
        splits = self._splitting(rollout) is not None
        return all(
            one["weight"] == rollout.weight
            for one in self._revisions(rollout)
            if splits or one["revision"]
        )

    def _revisions(self, rollout: RolloutState) -> list[dict[str, Any]]:
        """What each gateway that asks the model has of it; see :class:`CanaryClients`."""
        everything = [] if self._gateway is None else self._gateway.revisions()
        return [one[rollout.model] for one in everything if rollout.model in one]

    def _splitting(self, rollout: RolloutState) -> CanaryClients | None:
        """The gateways, where the new revision can be given to them."""
        readable = rollout.model != POLICY or self._policies.reads(rollout.source)
        return self._gateway if readable else None

    def _gateways_use(self, rollout: RolloutState) -> bool:
        """Whether a gateway decides by the new policy for good, or will when it is started."""
        used = any(one["stable"] == rollout.canary for one in self._revisions(rollout))
        return used or self._policies.kept() == rollout.sha256

    def _have_gateways_use(self, rollout: RolloutState, source: str, sha256: str) -> None:
        """Have gateways decide by a policy, now and when they are started again."""
        if self._gateway is None:
            return
        known = self._gateways_use(rollout) or any(
            one["revision"] == rollout.canary for one in self._revisions(rollout)
        )
        if not known and not self._policies.reads(source):
            return  # they had no share of it
        with self._policies.opened(source) as path:
            self._gateway.use_policy(path, sha256 or sha256_file(path))
            # Last: a rollout that is withdrawn in between sees by the gateways what it has to undo.
            if source == rollout.source or self._policies.kept() == rollout.sha256:
                self._policies.keep(path)

    def _service(self, name: str) -> Document:
        found = self._objects.read("inferenceservices", name)
        if found is None:
            raise InvalidInput(
                f"there is no InferenceService {name} in namespace {self._config.namespace}; "
                "install the manifests first"
            )
        return found

    def _canary(self, rollout: RolloutState) -> Document | None:
        """The rollout's canary; None where there is none, or it is being deleted."""
        found = self._objects.read("inferenceservices", _service(rollout) + CANARY_SUFFIX)
        if found is None or _is_ending(found) or not is_canary_of(found, rollout):
            return None
        return found

    def _graph(self) -> Document:
        found = self._objects.read("inferencegraphs", self._config.graph)
        if found is None:
            raise InvalidInput(
                f"there is no InferenceGraph {self._config.graph} in namespace "
                f"{self._config.namespace}; install the manifests first"
            )
        return found

    def _change(self, name: str, change: Change) -> None:
        self._objects.change("inferenceservices", name, change)

    def _split(self, rollout: RolloutState, weight: int) -> None:
        name = _service(rollout)
        target = {"serviceName": name + CANARY_SUFFIX}
        self._objects.change(
            "inferencegraphs",
            self._config.graph,
            lambda graph: with_canary(graph, name, target, weight),
        )

    def _join(self, name: str) -> None:
        """Take the Splitter of a service out of the graph."""
        self._objects.change(
            "inferencegraphs", self._config.graph, lambda graph: without_canary(graph, name)
        )

    def _take_traffic_away(self, rollout: RolloutState) -> None:
        """All traffic to the stable service, in the graph and at the gateway."""
        self._join(_service(rollout))
        self._need_graph()
        if self._gateway is not None:
            self._gateway.remove(rollout.model)

    def _write_down(self, changed: dict[str, Promoted]) -> None:
        """Keep what the cluster serves in the manifests, with a service that is just changed."""
        if self._config.manifests is not None:
            found = promoted_on(self._objects) | changed
            write_promoted(
                self._config.manifests, {name: one for name, one in found.items() if one.sha256}
            )

    def _enlarge(self, rollout: RolloutState, weight: int) -> None:
        """Give the canary as many replicas as its share of the stable one's, never fewer."""
        name = _service(rollout)
        canary = self._service(name + CANARY_SUFFIX)
        for part in (one for one in PARTS if one in canary["spec"]):
            stable = self._objects.read("deployments", f"{name}-{part}")
            beside = self._objects.read("deployments", f"{name}{CANARY_SUFFIX}-{part}")
            if stable is None or beside is None:
                continue  # the wait for either reports it
            wanted = math.ceil(wanted_replicas(stable) * weight / FULL)
            if wanted_replicas(beside) >= wanted:
                continue
            if is_scaled_by_others(canary):
                # No autoscaler does: it knows services by their names.
                self._objects.scale(f"{name}{CANARY_SUFFIX}-{part}", wanted)
            else:
                self._change(
                    name + CANARY_SUFFIX, partial(with_replicas, part=part, replicas=wanted)
                )

    def _need(self, name: str) -> None:
        service = self._service(name)
        left = (revision_left if is_knative(service) else service_left)(self._objects, service)
        if left:
            raise Pending(left)

    def _need_graph(self) -> None:
        if left := graph_left(self._objects, self._graph()):
            raise Pending(left)


def _is_ending(service: Document) -> bool:
    return "deletionTimestamp" in service["metadata"]


def _restored(service: Document, rollout: RolloutState, source: str, sha256: str) -> Document:
    """With the storage of before a rollout, unless others have given it another one meanwhile."""
    if storage(service) != rollout.source and digest(service) != rollout.sha256:
        return service
    return with_storage(service, source, sha256)


def connected(config: ClusterRolloutConfig) -> CustomObjectsApi:
    """The API of the cluster that a kubeconfig, or the pod's own account, leads to.

    Raises:
        ConfigurationError: neither is there, or unusable.
    """
    import yaml
    from kubernetes import client
    from kubernetes import config as settings

    # The client looks at a file's fields as it comes to them, whatever they are.
    malformed = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError)
    try:
        if config.kubeconfig is not None or config.context:
            file = None if config.kubeconfig is None else str(config.kubeconfig)
            return client.CustomObjectsApi(
                settings.new_client_from_config(file, config.context or None)
            )
        settings.load_config()
    except (settings.ConfigException, OSError, *malformed) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigurationError(f"no cluster is known ({reason}); name a --kubeconfig") from error
    return client.CustomObjectsApi()


def _service(rollout: RolloutState) -> str:
    return ROUTER if rollout.model == POLICY else rollout.model
