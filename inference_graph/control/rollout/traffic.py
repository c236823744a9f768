"""What moves the traffic: processes of one machine, or the objects of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from inference_graph.control.rollout.state import RolloutState


class Pending(Exception):  # noqa: N818  # no failure: what was asked for is under way
    """What was asked for has begun and takes its time; ask again later.

    The message states what is missing.
    """


class AlreadyPromoted(Exception):  # noqa: N818  # a state that is found, no failure
    """A rollout cannot be withdrawn: the new revision has replaced the stable one entirely."""


@dataclass(frozen=True)
class Prepared:
    """A new revision that is ready.

    Attributes:
        stable: revision in use, first 12 digits of its digest; empty where only the log knows it.
        canary: the new one's.
        service: name of its InferenceService.
    """

    stable: str
    canary: str
    service: str


class TrafficControl(Protocol):
    """Brings a new revision up, gives it a share, and takes the loser away.

    Each method may be called again, also by another process after a crash, and then does what is
    left to do. None touches the canary of another rollout. Each but the last may raise
    :class:`Pending`, and is called again then, unless the rollout is ended meanwhile.
    """

    def prepare(self, rollout: RolloutState) -> Prepared:
        """Have the new revision run beside the stable one, without traffic.

        Raises:
            Unavailable: it does not become ready.
            InvalidInput: it cannot take the stable one's place: other classes, the same file.
            ModelError: it is no such model.
        """
        ...

    def shift(self, rollout: RolloutState, weight: int) -> None:
        """Give the canary this share of the traffic, whole per cent; done when it is in force.

        Raises:
            Unavailable: what moves the traffic does not answer; nothing or a part was moved.
        """
        ...

    def promote(self, rollout: RolloutState) -> None:
        """Put the canary in the stable one's place; that one ends when it has answered.

        Raises:
            Unavailable: as :meth:`shift`.
        """
        ...

    def withdraw(self, rollout: RolloutState) -> None:
        """Take all traffic from the canary, then let it answer what it has, and end it.

        Raises:
            Unavailable: as :meth:`shift`.
            AlreadyPromoted: the promotion was complete, and nothing is left to go back to.
        """
        ...

    def flows(self, rollout: RolloutState) -> bool:
        """Whether the traffic of the rollout's step flows now, as it was left.

        Raises:
            Unavailable: as :meth:`shift`.
        """
        ...
