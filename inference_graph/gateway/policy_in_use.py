"""The policy that decides now; another one can take its place while streams go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from foundation.audit_log import AuditLog
from foundation.errors import ConfigurationError, Conflict
from foundation.metrics import POLICY
from inference_graph.gateway.policy_canary import PolicyCanary
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.router import FrameRouter, Policy
from inference_graph.router.trial import SENT, Trials
from inference_graph.sessions import check_source

_log = logging.getLogger(__name__)


class PolicyInUse:
    """What every stream of a gateway asks before each of its frames.

    Attributes:
        always: the rung of every frame; there is no policy then.
        policy: the one in use; None only where ``always`` fixes the rung.
        canary: a new one that decides for a share of the frames; None without a rollout.
    """

    def __init__(self, settings: GatewaySettings, audit: AuditLog | None = None) -> None:
        """Load the policy of the settings.

        Args:
            settings: name it, or fix the rung.
            audit: where a policy that takes over is recorded; nowhere without it.

        Raises:
            ConfigurationError: neither policy nor rung, or a bad operating point.
            ModelError: an unusable policy.
        """
        self.always = settings.always
        self.policy: Policy | None = None
        self.canary: PolicyCanary | None = None
        self._latency_weight = settings.latency_weight
        self._taking = asyncio.Lock()
        self._audit = audit
        self._trust = settings.trust
        self._trials = Trials()
        if self.always is not None:
            return
        promoted = settings.promoted
        path = promoted if promoted is not None and promoted.is_file() else settings.policy
        if path is None:
            raise ConfigurationError("no policy and no fixed rung to route by; name one")
        self.policy = Policy(path, trust=settings.trust)
        self.router(None)  # refuses a bad operating point here, not at the first frame

    def router(self, latency_weight: float | None) -> FrameRouter | None:
        """What decides for one stream; None where the rung is fixed.

        Args:
            latency_weight: the stream's operating point; the settings' or the policy's without it.

        Raises:
            ConfigurationError: a negative or not finite weight.
        """
        policy = self.policy
        return None if policy is None else FrameRouter(policy, self._weight(latency_weight))

    def renew(
        self,
        router: FrameRouter,
        latency_weight: float | None,
        session: str = "",
        frame_id: int | None = None,
    ) -> None:
        """Have a stream's router decide by the policy in use now, if it is another one.

        Args:
            router: the stream's, between two frames; it keeps what it remembers.
            latency_weight: as for :meth:`router`.
            session: the stream's name.
            frame_id: number of the frame that comes; None for a single image.
        """
        policy, canary = self.policy, self.canary
        if canary is not None and canary.decides(session, frame_id):
            policy = canary.policy
        if policy is not None and policy is not router.policy:
            router.use(policy, self._weight(latency_weight))

    async def take(
        self,
        data: bytes,
        sender: str,
        sha256: str | None = None,
        replaces: str | None = None,
        signature: bytes | None = None,
    ) -> tuple[Policy, Policy]:
        """Put a policy in place of the one in use, after the checks it would meet at a start.

        Args:
            data: the ONNX file.
            sender: who sent it, for the log.
            sha256: digest it must have; not checked without it.
            replaces: revision that must be in use; not checked without it.
            signature: content of its signature file, needed where there is a trust file.

        Returns:
            The new policy and the one before.

        Raises:
            ConfigurationError: this gateway has a fixed rung and asks no policy.
            Conflict: another revision is in use than ``replaces``.
            SchemaMismatch: made for another observation schema or another ladder.
            ModelError: no policy, another digest, or not signed as it must be.
            StorageError: the audit log cannot be written. In all cases the old one stays.
        """
        async with self._taking:
            before = self.policy
            if before is None:
                raise ConfigurationError(
                    f"this gateway uses {self.always} for every frame; start it without always"
                )
            if replaces is not None and replaces != before.revision:
                raise Conflict(
                    f"policy {before.revision} is in use, not {replaces[:12]}; look at what was "
                    "released meanwhile, then send it again"
                )
            if self.canary is not None:
                raise Conflict(
                    f"policy {self.canary.policy.revision} is being rolled out; wait for the end, "
                    "or end it with gearshift rollout abort"
                )
            policy = await asyncio.to_thread(self._load, data, sha256, signature)
            if self._audit is not None:
                figures = {
                    "sha256": policy.sha256,
                    "replaces": before.revision,
                    "latency_weight": policy.latency_weight,
                }
                await asyncio.to_thread(
                    self._audit.record, sender, "policy.swap", policy.revision, figures
                )
            self.policy = policy
        if self._trust is None:
            _log.warning(
                "policy %s was loaded unsigned: without a trust file, whoever has the role operate "
                "decides what this gateway loads",
                policy.revision,
            )
        _log.info(
            "policy %s takes over from %s, sent by %s", policy.revision, before.revision, sender
        )
        return policy, before

    async def add(
        self, data: bytes, sha256: str | None = None, signature: bytes | None = None
    ) -> PolicyCanary:
        """Take a new policy beside the one in use, without frames; the same again is no change.

        Args:
            data: the ONNX file.
            sha256: digest it must have; not checked without it.
            signature: content of its signature file; needed where a trust file is configured.

        Raises:
            ConfigurationError: this gateway has a fixed rung and asks no policy.
            Conflict: another canary is there, or it is the policy in use.
            SchemaMismatch: made for another observation schema or another ladder.
            ModelError: no policy, or another digest.
        """
        async with self._taking:
            if self.policy is None:
                raise ConfigurationError(
                    f"this gateway uses {self.always} for every frame; start it without always"
                )
            policy = await asyncio.to_thread(self._load, data, sha256, signature)
            if policy.revision == self.policy.revision:
                raise Conflict(f"policy {policy.revision} is in use already")
            if self.canary is None:
                self.canary = PolicyCanary(policy)
            elif self.canary.policy.revision != policy.revision:
                raise Conflict(
                    f"policy {self.canary.policy.revision} is the canary; remove it first"
                )
            return self.canary

    def stop(self) -> None:
        """End a trial that is at work; nothing else waits."""
        self._trials.stop()

    def promote(self) -> PolicyCanary:
        """Have the canary decide for every frame.

        Raises:
            Conflict: there is none.
        """
        canary = self.canary
        if canary is None:
            raise Conflict("no policy is being rolled out; add one first")
        self.policy, self.canary = canary.policy, None
        return canary

    def readings(self) -> Iterator[Metric]:
        """Which policy decides, and at which operating point."""
        policy = self.policy
        if policy is not None:
            weight = self._weight(None)
            shown = policy.latency_weight if weight is None else weight
            yield POLICY.read({(policy.revision, f"{shown:g}"): 1.0})

    def _load(self, data: bytes, sha256: str | None, signature: bytes | None) -> Policy:
        check_source(SENT, data, sha256, self._trust, signature or b"")
        self._trials.try_out(data)
        policy = Policy(SENT, data=data)
        FrameRouter(policy, self._latency_weight)  # refuses a bad operating point
        return policy

    def _weight(self, wanted: float | None) -> float | None:
        return self._latency_weight if wanted is None else wanted
