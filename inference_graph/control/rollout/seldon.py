"""The traffic of Seldon Core 2: a Model beside the stable one, and an Experiment's weights.

Each rung has an Experiment of its name without a default: who calls ``small.experiment`` gets the
candidates by their weights, who calls ``small`` or ``small-canary`` gets that Model. The gateway
calls the two by name and draws for each frame itself, with the same weights, because the log must
tell whose a frame without an answer was. So its frames judge a rollout; what comes by
the Experiment follows.

A changed Model is loaded beside the version before, which answers until the new one is available.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from foundation.errors import AccessError, ConfigurationError, InvalidInput, Unavailable
from inference_graph.clients.canaries import CanaryClients
from inference_graph.control.manifests.names import CANARY_SUFFIX, ROLLOUT_LABEL
from inference_graph.control.rollout.cluster import ClusterRolloutConfig
from inference_graph.control.rollout.objects import Document, Objects
from inference_graph.control.rollout.plan import FULL, POLICY, shadow_shares
from inference_graph.control.rollout.services import is_canary_of
from inference_graph.control.rollout.state import RolloutState
from inference_graph.control.rollout.traffic import AlreadyPromoted, Pending, Prepared

if TYPE_CHECKING:
    from kubernetes.client import CustomObjectsApi

_BEFORE = "gearshift/storage-before"
"""Annotation of a canary's Model: the stable one's ``storageUri`` from before the rollout."""


class SeldonTraffic:
    """Moves the traffic of Seldon Core 2 on a cluster.

    See :class:`inference_graph.control.rollout.traffic.TrafficControl`.
    """

    def __init__(
        self, api: CustomObjectsApi, config: ClusterRolloutConfig, token: str | None = None
    ) -> None:
        """Nothing is moved yet.

        Args:
            api: of the cluster.
            config: where the Models are; ``gateway`` and ``mesh`` are needed.
            token: access token for the gateway.

        Raises:
            ConfigurationError: no gateway is named.
        """
        if not config.gateway:
            raise ConfigurationError(
                "on Seldon the gateway's frames judge a rollout; name it with --gateway"
            )
        self._objects, self._config = Objects(api, config.namespace), config
        self._gateway = CanaryClients(config.gateway, token)

    def prepare(self, rollout: RolloutState) -> Prepared:
        """See ``TrafficControl``."""
        if rollout.model == POLICY:
            raise InvalidInput(
                "a policy is rolled out where the gateway runs it; use gearshift policy swap"
            )
        try:
            return self._prepare(rollout)
        except (Unavailable, AccessError) as error:
            # Of the API or a gateway: it says nothing about the new revision.
            raise Pending(str(error)) from error

    def _prepare(self, rollout: RolloutState) -> Prepared:
        stable, canary = self._model(rollout.model), rollout.model + CANARY_SUFFIX
        if (found := self._objects.read("models", canary)) is None:
            if stable["spec"]["storageUri"] == rollout.source:
                raise InvalidInput(
                    f"{rollout.model} serves {rollout.source} already; name another storageUri"
                )
            self._objects.create("models", canary_model(stable, rollout))
        elif "deletionTimestamp" in found["metadata"]:
            raise Pending(f"the previous Model {canary} is being deleted")
        elif not is_canary_of(found, rollout):
            raise InvalidInput(
                f"Model {canary} belongs to another rollout; end that one with its own --folder, "
                f"or, where its folder is lost, apply the manifests and delete {canary}"
            )
        self._need_model(canary)
        reply = self._gateway.add(rollout.model, f"{self._config.mesh}/{canary}")
        return Prepared(reply["stable"], reply["revision"], canary)

    def shift(self, rollout: RolloutState, weight: int) -> None:
        """See ``TrafficControl``."""
        if not self._serves(rollout):
            self._weigh(rollout.model, 0)  # else it leads to what someone has removed
            raise InvalidInput(f"the Model of rollout {rollout.rollout} is gone; start it again")
        self._need_model(rollout.model + CANARY_SUFFIX)
        self._weigh(rollout.model, weight)
        looks = shadow_shares(rollout.model, weight, rollout.plan.shadow_share)
        self._gateway.shift(rollout.model, weight, looks, rollout.rollout, 1)

    def promote(self, rollout: RolloutState) -> None:
        """See ``TrafficControl``."""
        stable, serves = self._model(rollout.model), self._serves(rollout)
        unchanged = stable["spec"]["storageUri"] != rollout.source
        if not serves:
            self._weigh(rollout.model, 0)  # done already, or someone has removed the canary
        if unchanged or (serves and _left("Model", stable)):
            # The canary answers everything while the stable one is loaded again.
            self.shift(rollout, FULL)
            self._store(rollout.model, rollout.source)
        self._need_model(rollout.model)
        self._take_away(rollout)

    def withdraw(self, rollout: RolloutState) -> None:
        """See ``TrafficControl``."""
        canary = self._objects.read("models", rollout.model + CANARY_SUFFIX)
        if canary is None:
            source = self._model(rollout.model)["spec"]["storageUri"]
            if rollout.step == len(rollout.plan.steps) - 1 and source == rollout.source:
                self.promote(rollout)  # where someone has removed the canary, a part of it is left
                raise AlreadyPromoted
        elif not is_canary_of(canary, rollout):
            return  # so nothing of this rollout is there
        else:
            if self._model(rollout.model)["spec"]["storageUri"] == rollout.source:
                # Unless others have given it another one meanwhile.
                self._store(rollout.model, canary["metadata"]["annotations"][_BEFORE])
            if self._weight(rollout.model) == FULL:
                self._need_model(rollout.model)
        self._take_away(rollout)

    def flows(self, rollout: RolloutState) -> bool:
        """See ``TrafficControl``."""
        weights = [one.get(rollout.model, {}).get("weight") for one in self._gateway.revisions()]
        there = [self._weight(rollout.model), *weights]
        return all(weight == rollout.weight for weight in there)

    def _model(self, name: str) -> Document:
        found = self._objects.read("models", name)
        if found is None:
            raise InvalidInput(
                f"there is no Model {name} in namespace {self._config.namespace}; apply the "
                "manifests of overlays/seldon first"
            )
        return found

    def _serves(self, rollout: RolloutState) -> bool:
        """Whether the rollout's canary is there."""
        found = self._objects.read("models", rollout.model + CANARY_SUFFIX)
        return found is not None and is_canary_of(found, rollout)

    def _store(self, name: str, source: str) -> None:
        def change(model: Document) -> Document:
            model["spec"]["storageUri"] = source
            return model

        self._objects.change("models", name, change)

    def _weigh(self, name: str, weight: int) -> None:
        """Give the canary its share of what comes by the Experiment, and wait for it."""
        shares = {name: FULL - weight, name + CANARY_SUFFIX: weight}

        def change(experiment: Document) -> Document:
            experiment["spec"]["candidates"] = [
                {"name": model, "weight": share} for model, share in shares.items() if share
            ]
            return experiment

        _need("Experiment", self._objects.change("experiments", name, change))

    def _weight(self, name: str) -> int:
        experiment = self._objects.read("experiments", name) or {"spec": {"candidates": []}}
        shares = {one["name"]: one["weight"] for one in experiment["spec"]["candidates"]}
        return int(shares.get(name + CANARY_SUFFIX, 0))

    def _need_model(self, name: str) -> None:
        _need("Model", self._model(name))

    def _take_away(self, rollout: RolloutState) -> None:
        """All traffic to the stable Model; then the canary's is removed."""
        self._weigh(rollout.model, 0)
        self._gateway.remove(rollout.model)
        self._objects.delete("models", rollout.model + CANARY_SUFFIX)


def canary_model(stable: Document, rollout: RolloutState) -> Document:
    """A Model like the stable one, with another name and the new revision."""
    metadata = stable["metadata"]
    spec = copy.deepcopy(stable["spec"])
    return {
        "apiVersion": stable["apiVersion"],
        "kind": "Model",
        "metadata": {
            "name": rollout.model + CANARY_SUFFIX,
            "namespace": metadata["namespace"],
            "labels": {ROLLOUT_LABEL: rollout.rollout},
            "annotations": {_BEFORE: spec["storageUri"]},
        },
        "spec": {**spec, "storageUri": rollout.source},
    }


def _need(kind: str, found: Document) -> None:
    if left := _left(kind, found):
        raise Pending(left)


def _left(kind: str, found: Document) -> str:
    """What is missing until an object is ready as it is written now."""
    status, name = found.get("status", {}), found["metadata"]["name"]
    generation = found["metadata"].get("generation", 0)
    if status.get("observedGeneration", generation) < generation:
        return f"Seldon has not seen the {kind} {name} as it is now"
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    ready = conditions.get("Ready", conditions.get(f"{kind}Ready", {}))
    if ready.get("status") != "True":
        reason = ready.get("message") or ready.get("reason") or "no reason is given"
        return f"the {kind} {name} is not ready: {reason}"
    return ""
