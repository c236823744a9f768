"""How the gateway runs: every limit, deadline and share in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from feature_transformer.image import DecodeLimits
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.detections import CONFIDENCE, read_classes
from inference_graph.gateway.oidc_config import OidcConfig
from inference_graph.gateway.origins import read_origins
from inference_graph.tracking import ReuseConfig
from serving_kit.foreign_pages import is_loopback

EVENT_KEY = "GEARSHIFT_EVENT_KEY"
"""Environment variable with ``event_key``; a secret has no place on a command line."""
LOGGER_TOKEN = "GEARSHIFT_LOGGER_TOKEN"
"""Environment variable with ``logger_token``."""
_FORMATS = DecodeLimits().formats

Count = Annotated[int, Field(ge=1, le=2**40)]
Rate = Annotated[float, Field(ge=0.1, le=1e6)]
Seconds = Annotated[float, Field(ge=0.05, le=86_400)]
Milliseconds = Annotated[float, Field(ge=1, le=600_000)]


@configuration
class GatewaySettings:
    """How the gateway runs.

    Attributes:
        rungs: where each rung is: `nano=HOST:PORT` asks a detector service over gRPC,
            `nano=dns:///HOST:PORT` every address of that name in turn, `nano=FILE.onnx` runs those
            weights inside the gateway.
        policy: the policy's ONNX file; may be left out when `always` fixes the rung.
        promoted: a policy that a rollout has put in its place; the one to start with where the file
            is there.
        log_url: folder or bucket (s3://, gs://) of the prediction log; nothing is logged without.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        tokens: file of access tokens, one JSON object per line: name, roles, sha256.
        open_access: let everybody in without a token; only on a loopback address.
        origins: web pages that may use the gateway from a browser (CORS), as
            `https://app.example`, separated by commas; `*` for all, where tokens are asked for.
        event_key: secret that marks event ids as this gateway's, so that feedback is accepted
            for answers given before a restart; a new one at each start without it.
        logger_token: a token of the role operate beside those of the file, for the events of
            detectors that are started together with this gateway.
        oidc: issuer whose signed tokens count, beside those of the tokens file or without one.
        trust: trust file; a policy, or weights in process, that none of its keys signed are
            refused. $GEARSHIFT_TRUST without it, and not checked where that is not set.
        audit: audit log that swapped policies and launches are recorded in; $GEARSHIFT_AUDIT
            without it, and none where that is not set.
        triggers: file of triggers (YAML), which lets requests and alerts launch a retraining.
        always: use this rung for every frame and ask no policy.
        confidence: detections below this score are left out of answers to clients that name no
            confidence of their own, 0 to 1; policy and log see all of them.
        track: fuse the answers of a stream over its frames, and give objects track ids, for
            clients that do not choose; `/v1/detect` has no memory.
        reuse_frames: frames in a row of a fused stream that its tracks may answer while no rung
            looks, at most; 0 has a rung look at every frame; as the policy says without it.
        reuse_doubt: with reuse_frames, a rung looks where the last look was in more doubt than
            this.
        protect: classes that must not be missed, separated by commas: while one of them is in
            sight, a rung looks at every frame.
        latency_weight: operating point of clients that name none; the policy's own without it.
        deadline_ms: time from a frame's arrival to its answer, for clients that name none.
        min_deadline_ms: shortest deadline a client may ask for.
        max_deadline_ms: longest deadline a client may ask for.
        objective_ms: an answer within this time meets the latency objective, which is only
            counted; `/metrics` shows what share does.
        hedge_share: share of the time left after which a neighbouring rung is asked as well.
        shadow_share: share of the answers for which the reference is run too, 0 to 1.
        shadow_concurrency: shadows at the same time; more are not started.
        shadow_timeout_ms: a shadow is given up after this time.
        statistics_share: share of the answers whose blur and noise are measured, 0 to 1.
        image_share: share of the answers whose frame itself is kept in the log, 0 to 1; frames may
            show people, so give 0 where none may be kept.
        max_body: bytes of an image or a request at most.
        max_pixels: pixels an image may declare.
        formats: formats accepted, of jpeg, png, webp, bmp and wav (for a ladder that listens).
        max_fps: frames per second and token; a stream is slowed to it, /v1/detect refuses.
        max_streams: streams open at the same time; when all places are taken, a stream that sends
            nothing gives its place to the next one.
        max_requests: requests with a body that are received or in work at the same time.
        client_share: share of both that one token may have.
        refusals_per_minute: unknown tokens per minute and address; further ones are answered 429.
        proxies: addresses or networks of proxies, separated by commas, that are believed when
            X-Forwarded-For names where a request came from.
        feedback_per_minute: feedback per minute and token.
        feedback_per_day: feedback per day (UTC) and token, so that no single user can flood a
            training set.
        held_frames: newest frames of each token that are held in memory, so that feedback finds
            the frame it is about; with an image_share of 0 none are.
        held_bytes: bytes of all held frames at most.
        breaker_failures: failures in a row after which a rung is not used.
        probe_seconds: pause between probes of a rung that is not used.
        idle_seconds: a stream without a frame for so long is closed.
        ping_seconds: pause between pings, and how long a peer may take to answer one.
        body_seconds: a request whose headers or body take longer is refused.
        send_seconds: a client that takes no answer for so long is cut off.
        drain_seconds: time in which a gateway that is told to stop goes on answering, and ends
            each connection with the next answer.
        threads: frames that are decoded, observed and decided on at once; one that takes long to
            decode comes beside them, one at a time.
    """

    rungs: Mapping[str, str] = field(default_factory=dict)
    policy: Path | None = None
    promoted: Path | None = None
    log_url: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8600
    tokens: Path | None = None
    open_access: bool = False
    origins: str = ""
    event_key: str | None = field(default=None, repr=False)
    logger_token: str | None = field(default=None, repr=False)
    oidc: OidcConfig | None = None
    trust: Path | None = None
    audit: Path | None = None
    triggers: Path | None = None
    always: str | None = None
    confidence: Share = CONFIDENCE
    track: bool = True
    reuse_frames: Annotated[int, Field(ge=0, le=100)] | None = None
    reuse_doubt: Annotated[float, Field(ge=0, le=100)] = 0.0
    protect: str = ""
    latency_weight: Annotated[float, Field(ge=0)] | None = None
    deadline_ms: Milliseconds = 1000.0
    min_deadline_ms: Milliseconds = 20.0
    max_deadline_ms: Milliseconds = 10_000.0
    objective_ms: Milliseconds = 250.0
    hedge_share: Annotated[float, Field(ge=0.05, le=0.95)] = 0.5
    shadow_share: Share = 0.05
    shadow_concurrency: Annotated[int, Field(ge=1, le=1000)] = 1
    shadow_timeout_ms: Milliseconds = 5000.0
    statistics_share: Share = 0.1
    image_share: Share = 0.02
    max_body: Count = 10 * 1024 * 1024
    max_pixels: Count = 20_000_000
    formats: tuple[str, ...] = _FORMATS
    max_fps: Rate = 240.0
    max_streams: Count = 64
    max_requests: Count = 32
    client_share: Annotated[float, Field(ge=0.001, le=1)] = 0.5
    refusals_per_minute: Rate = 30.0
    proxies: str = "127.0.0.1"
    feedback_per_minute: Rate = 60.0
    feedback_per_day: Annotated[int, Field(ge=0, le=10**6)] = 1000
    held_frames: Annotated[int, Field(ge=0, le=10**6)] = 256
    held_bytes: Annotated[int, Field(ge=0, le=2**40)] = 64 * 1024 * 1024
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    probe_seconds: Seconds = 1.0
    idle_seconds: Seconds = 60.0
    ping_seconds: Seconds = 20.0
    body_seconds: Seconds = 15.0
    send_seconds: Seconds = 10.0
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    threads: Count = 2

    def __post_init__(self) -> None:
        """Refuse values that contradict each other.

        Raises:
            ConfigurationError: names them.
        """
        strangers = [name for name in self.rungs if name not in LADDER]
        if strangers or not self.rungs:
            raise ConfigurationError(
                f"rungs names {', '.join(strangers) or 'nothing'}; give targets for some of "
                f"{', '.join(LADDER)}"
            )
        if self.always is not None and self.always not in self.rungs:
            raise ConfigurationError(
                f"always {self.always!r} is none of the rungs given: {', '.join(self.rungs)}"
            )
        if self.policy is None and self.always is None:
            raise ConfigurationError("no policy given; name one, or fix the rung with always")
        if self.open_access == (self.tokens is not None or self.oidc is not None):
            raise ConfigurationError(
                "who may ask is not settled; give either a tokens file or open_access, or name an "
                "issuer (oidc_issuer)"
            )
        if self.open_access and not is_loopback(self.host):
            raise ConfigurationError(
                f"open_access on {self.host} would let the network in; listen on 127.0.0.1 or "
                "give a tokens file"
            )
        read_origins(self.origins, self.open_access)
        unknown = [name for name in self.formats if name not in _FORMATS]
        if unknown or not self.formats:
            raise ConfigurationError(
                f"formats names {', '.join(unknown) or 'nothing'}; choose of {', '.join(_FORMATS)}"
            )
        if not self.min_deadline_ms <= self.deadline_ms <= self.max_deadline_ms:
            raise ConfigurationError(
                f"deadline_ms is {self.deadline_ms}; give min_deadline_ms {self.min_deadline_ms} "
                f"to max_deadline_ms {self.max_deadline_ms}"
            )

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """``origins``, one by one."""
        return read_origins(self.origins, self.open_access)

    @property
    def protected(self) -> frozenset[str]:
        """``protect``, one by one; the names are compared with what each rung knows."""
        return read_classes(self.protect, ())

    @property
    def reuse(self) -> ReuseConfig | None:
        """When a stream's tracks answer a frame; None leaves it to the policy."""
        return ReuseConfig.of_settings(self.reuse_frames, self.reuse_doubt)

    @property
    def decode_limits(self) -> DecodeLimits:
        """The same limits, as the decoder takes them."""
        return DecodeLimits(self.max_body, self.max_pixels, self.formats)
