"""The service level objectives, and how far the platform may fall short before an alert."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import ConfigurationError
from foundation.ranges import check_range


@dataclass(frozen=True)
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
        least_frames: below so many frames, or shadow looks, a share says nothing.
        patience_seconds: how long a rung, a service or the log may be away.
        scrape_seconds: pause between two looks at every service.
        runbooks: where the runbooks are; an address in front of /NAME.md.
    """

    routing_floor: float = 0.2
    latency_target: float = 0.99
    error_ceiling: float = 0.01
    accuracy_floor: float = 0.8
    fallback_ceiling: float = 0.05
    drop_ceiling: float = 0.2
    frame_age_seconds: float = 30.0
    least_frames: int = 100
    patience_seconds: int = 60
    scrape_seconds: int = 15
    runbooks: str = "manifests/monitoring/runbooks"

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigurationError: names the value and its range.
        """
        check_range(self, 0, 0.33, "routing_floor")
        check_range(self, 0.5, 0.99999, "latency_target")
        check_range(self, 0.00001, 1, "error_ceiling")
        check_range(self, 0, 1, "accuracy_floor", "fallback_ceiling", "drop_ceiling")
        check_range(self, 0.1, 86_400, "frame_age_seconds")
        check_range(self, 1, 10**9, "least_frames")
        check_range(self, 1, 86_400, "patience_seconds")
        check_range(self, 1, 300, "scrape_seconds")
        if not self.runbooks or any(mark in self.runbooks for mark in "\"'\\ \n{}"):
            raise ConfigurationError(
                f"runbooks is {self.runbooks!r}; give a folder or the address of one"
            )
