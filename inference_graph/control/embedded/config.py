"""The configuration of `gearshift up`, whose fields are its options."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from foundation.configuration import configuration
from foundation.path_roles import InputPath, InputText, KeptFile, KeptFolder, KeptPlace
from inference_graph.contract import LADDER
from inference_graph.control.embedded.monitoring import EMBEDDED_OBJECTIVES
from inference_graph.gateway.oidc_config import OidcConfig
from inference_graph.gateway.settings import EVENT_KEY, GatewaySettings
from inference_graph.streams.config import KafkaConfig, Security
from inference_graph.streams.serve import with_kafka


@configuration
class ServicesConfig:
    """What is started, and how the gateway treats its clients.

    Attributes:
        policy: the policy's ONNX file.
        ladder: folder with nano.onnx, small.onnx, large.onnx; coco, ocr or speech by name; the
            sample ladder without it.
        overlay: which of the manifests' overlays is started; a name, or a folder.
        state: folder for logs, the graph's manifest and the policy's copy.
        log: folder or bucket (s3://, gs://) of the prediction log; inside ``state`` without it.
        port: the gateway's; 0 takes a free one.
        graph_port: the InferenceGraph's; 0 takes a free one.
        tokens: file of access tokens, one JSON object per line: name, roles, sha256.
        open_access: let every client on this machine in without a token.
        origins: web pages that may use the gateway from a browser (CORS), as
            `http://localhost:3000`, separated by commas.
        trust: trust file; models that none of its keys signed are refused, see `gearshift key`.
        audit: audit log of policies, launches and rollouts; $GEARSHIFT_AUDIT, or runs/audit.jsonl,
            without it. Commands that are given in another terminal write to that one as well.
        triggers: file of triggers (YAML): its rules are weighed while the platform runs, and the
            gateway takes requests and alerts; see `gearshift triggers`.
        triggers_seconds: pause between two looks at the rules.
        always: use this rung for every frame and ask no policy.
        latency_weight: operating point; the policy's own without it.
        confidence: detections below this score are left out of answers, 0..1; policy and log see
            all of them.
        track: fuse the answers of a stream over its frames, and give objects track ids.
        reuse_frames: frames in a row that the tracks of a stream may answer while no rung looks, at
            most; 0 has a rung look at every frame; as the policy says without it.
        reuse_doubt: with reuse_frames, a rung looks where the last look was in more doubt than
            this.
        protect: classes that must not be missed, separated by commas: while one of them is in
            sight, a rung looks at every frame.
        deadline_ms: time from a frame's arrival to its answer.
        shadow_share: share of the streams' answers for which the reference looks too, 0..1.
        image_share: share of the answers whose frame itself is kept in the log, 0..1.
        ready_seconds: how long all services may take until they answer.
        monitoring: start a Prometheus too, with the alerts; needs the program `prometheus`.
        prometheus_port: where it listens; 0 takes a free one.
        scrape_seconds: how often it looks at every service.
        rules: its rules file; the project's own without it, see `gearshift rules`.
        kafka: brokers that frames come from as well, as `HOST:PORT`, separated by commas; see
            `gearshift kafka route`, whose other options a worker of its own takes.
        kafka_frames: topic of the frames.
        kafka_detections: topic of the answers.
        kafka_dead_letters: topic of the messages that cannot be used, with the reason.
        kafka_feedback: topic of feedback on answers; none is read without it.
        kafka_security: how brokers are reached: plaintext, ssl, sasl_plaintext or sasl_ssl; user
            name and password come from $GEARSHIFT_KAFKA_USERNAME and $GEARSHIFT_KAFKA_PASSWORD.
        kafka_ca: file of the authorities (PEM) whose brokers are trusted; the system's without it.
    """

    policy: InputPath = Path("runs/demo/policy.onnx")
    ladder: InputPath | None = None
    overlay: InputText = "cpu-shadow"
    state: KeptFolder = Path("runs/up")
    log: KeptPlace | None = None
    port: int = 8600
    graph_port: int = 8601
    tokens: InputPath | None = None
    open_access: bool = False
    origins: str = ""
    trust: InputPath | None = None
    audit: KeptFile | None = None
    triggers: InputPath | None = None
    triggers_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    always: str | None = None
    confidence: float = GatewaySettings.confidence
    latency_weight: float | None = None
    track: bool = GatewaySettings.track
    reuse_frames: int | None = None
    reuse_doubt: float = GatewaySettings.reuse_doubt
    protect: str = ""
    deadline_ms: float = GatewaySettings.deadline_ms
    shadow_share: float = GatewaySettings.shadow_share
    image_share: float = GatewaySettings.image_share
    ready_seconds: float = 180.0
    monitoring: bool = False
    prometheus_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    scrape_seconds: int = EMBEDDED_OBJECTIVES.scrape_seconds
    rules: InputPath | None = None
    kafka: str = KafkaConfig.bootstrap
    kafka_frames: str = KafkaConfig.frames
    kafka_detections: str = KafkaConfig.detections
    kafka_dead_letters: str = KafkaConfig.dead_letters
    kafka_feedback: str = KafkaConfig.feedback
    kafka_security: Security = KafkaConfig.security
    kafka_ca: InputPath | None = None

    @property
    def kafka_options(self) -> dict[str, Any]:
        """The gateway's options for frames from Kafka; none where no broker is named."""
        if not self.kafka:
            return {}
        names = ("frames", "detections", "dead_letters", "feedback", "security", "ca")
        given = {name: getattr(self, f"kafka_{name}") for name in names}
        return {"bootstrap": self.kafka, **{k: v for k, v in given.items() if v}}


@configuration
class UpConfig(OidcConfig, ServicesConfig):
    """What is started, how the gateway treats its clients, and whose tokens count."""

    def __post_init__(self) -> None:
        """Refuse what the gateway would refuse, before anything is started.

        Raises:
            ConfigurationError: names the value and its range.
        """
        OidcConfig.__post_init__(self)
        replace(EMBEDDED_OBJECTIVES, scrape_seconds=self.scrape_seconds)  # checks its range
        settings = GatewaySettings(
            rungs={rung: "later" for rung in LADDER},
            policy=self.policy,
            port=self.port,
            tokens=self.tokens,
            oidc=self.issuer,
            open_access=self.open_access,
            origins=self.origins,
            confidence=self.confidence,
            always=self.always,
            latency_weight=self.latency_weight,
            track=self.track,
            reuse_frames=self.reuse_frames,
            reuse_doubt=self.reuse_doubt,
            protect=self.protect,
            deadline_ms=self.deadline_ms,
            max_deadline_ms=max(self.deadline_ms, GatewaySettings.max_deadline_ms),
            shadow_share=self.shadow_share,
            image_share=self.image_share,
            event_key=os.environ.get(EVENT_KEY),
        )
        with_kafka(settings, KafkaConfig(**self.kafka_options))
