"""The service level objectives, and how far the platform may fall short before an alert."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError


@configuration
class Objectives:
    """The objectives, and when an alert fires.

    Attributes:
        routing_floor: share of the frames that every rung shall get within an hour, 0 to 0.33;
            0 for a policy that is meant to leave a rung out: no alert is made then.
        latency_target: share of the answers that shall be within the gateway's latency objective,
            over 30 days.
        error_ceiling: share of the frames, and of a service's requests, that may fail within five
            minutes through no fault of the client.
        accuracy_floor: accuracy retained within an hour, as the shadow measures it, 0 to 1.
        fallback_ceiling: share of the frames that another rung than the chosen one may answer.
        drop_ceiling: share of the frames of streams that may be dropped.
        frame_age_seconds: age at which a frame from Kafka shall be answered at the latest.
        least_frames: below so many frames, or shadow looks, a share proves nothing.
        patience_seconds: how long a rung, a service or the log may be away.
        scrape_seconds: pause between two looks at every service.
        runbooks: where the runbooks are; an address in front of /NAME.md.
    """

    routing_floor: Annotated[float, Field(ge=0, le=0.33)] = 0.2
    latency_target: Annotated[float, Field(ge=0.5, le=0.99999)] = 0.99
    error_ceiling: Annotated[float, Field(ge=0.00001, le=1)] = 0.01
    accuracy_floor: Share = 0.8
    fallback_ceiling: Share = 0.05
    drop_ceiling: Share = 0.2
    frame_age_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = 30.0
    least_frames: Annotated[int, Field(ge=1, le=10**9)] = 100
    patience_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    scrape_seconds: Annotated[int, Field(ge=1, le=300)] = 15
    runbooks: str = "manifests/monitoring/runbooks"

    def __post_init__(self) -> None:
        """Refuse an address that a rules file cannot hold.

        Raises:
            ConfigurationError: names it.
        """
        if not self.runbooks or any(mark in self.runbooks for mark in "\"'\\ \n{}"):
            raise ConfigurationError(
                f"runbooks is {self.runbooks!r}; give a folder or the address of one"
            )
