"""All feedback there is, from the log and from imports, with where each piece stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.data.classes import Classes
from components.feedback.decisions import ReviewDecision, latest, read_decisions, state_of
from components.feedback.imports import imported_items, imported_pictures
from components.feedback.item import STATES, FeedbackItem, State
from components.feedback.reference import with_looks
from components.feedback.stream_items import stream_items, stream_pictures
from components.feedback.suspicion import agreement_of, signs_of
from components.profiling.rungs import InferenceConfig, open_rung
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.path_roles import InputText, KeptFolder
from inference_graph.contract import LADDER, Detections
from inference_graph.prediction_log.agreement import AGREEMENT_SCORE


@configuration
class FeedbackConfig:
    """Where feedback lies, and what is looked at twice.

    Attributes:
        store: folder of decisions and imports.
        log: folder or bucket (s3://, gs://) of the prediction log; empty reads imports only.
        least_agreement: feedback that agrees with the reference's detections by less is marked for
            the reviewer (F1, 0 to 1).
        per_day: pictures one user may import in a day; the gateway has the same limit for what
            comes by POST.
    """

    store: KeptFolder = Path("runs/feedback")
    log: InputText = "runs/up/log"
    least_agreement: Share = 0.5
    per_day: Annotated[int, Field(ge=1, le=10**6)] = 1000

    def __post_init__(self) -> None:
        """Raise ConfigurationError where the store would be the current folder."""
        if str(self.store) in ("", "."):
            raise ConfigurationError("store is the folder we are in; give one of its own")


def open_store(config: FeedbackConfig, weights: Path) -> FeedbackStore:
    """Open a store for a ladder.

    Args:
        config: where it lies.
        weights: any rung's ONNX file; all of a ladder know the same classes.

    Raises:
        ModelError: the weights cannot be used.
    """
    rung = open_rung(LADDER[0], weights, InferenceConfig())
    return FeedbackStore(config, Classes.of(rung))


class FeedbackStore:
    """Feedback as it was when it was opened; deciding is done by ``components.feedback.decisions``.

    Attributes:
        config: where it lies.
        classes: the classes of the detectors.
    """

    def __init__(self, config: FeedbackConfig, classes: Classes) -> None:
        """Open a store; nothing is read yet, and an empty one is fine.

        Args:
            config: where it lies.
            classes: the classes of the detectors.
        """
        self.config = config
        self.classes = classes

    @cached_property
    def items(self) -> tuple[FeedbackItem, ...]:
        """Everything, by rising time; the same feedback once.

        Raises:
            AnnotationError: an import was damaged.
            StorageError: the log cannot be read.
        """
        found = stream_items(self.config.log, self.classes) if self.config.log else []
        found += imported_items(self.config.store, self.classes)
        unique = {item.item_id: item for item in reversed(found)}  # the first of equal ones stays
        ordered = sorted(unique.values(), key=lambda item: (item.time, item.item_id))
        return tuple(with_looks(self.config.store, ordered))

    @cached_property
    def decisions(self) -> dict[str, ReviewDecision]:
        """The decision that counts, by item; nothing for those in quarantine."""
        return latest(read_decisions(self.config.store))

    @cached_property
    def signs(self) -> dict[str, tuple[str, ...]]:
        """What a reviewer should look at twice, by item; see ``components.feedback.suspicion``."""
        return signs_of(
            self.items, self.decisions, self.classes.category_ids, self.config.least_agreement
        )

    def state(self, item: FeedbackItem) -> State:
        """Where an item stands."""
        return state_of(item, self.decisions)

    def select(
        self, state: str = "", user: str = "", suspicious: bool = False
    ) -> list[FeedbackItem]:
        """Items of a state and a user, the newest last.

        Args:
            state: one of STATES; every one without it.
            user: whose; everybody's without it.
            suspicious: only those with a sign.

        Raises:
            InvalidInput: no such state.
        """
        if state and state not in STATES:
            raise InvalidInput(f"there is no state {state!r}; choose of {', '.join(STATES)}")
        return [
            item
            for item in self.items
            if (not state or self.state(item) == state)
            and (not user or item.user == user)
            and (not suspicious or self.signs[item.item_id])
        ]

    def find(self, names: Sequence[str]) -> list[FeedbackItem]:
        """Items by the beginning of their ids, as version control has it.

        Raises:
            InvalidInput: no item begins so, or several do.
        """
        found = []
        for name in names:
            fits = [item for item in self.items if name and item.item_id.startswith(name)]
            if len(fits) != 1:
                what = f"{len(fits)} items begin with" if fits else "no item begins with"
                raise InvalidInput(f"{what} {name[:40]!r}; see gearshift feedback list")
            found.append(fits[0])
        return list({item.item_id: item for item in found}.values())

    def pictures(self, items: Sequence[FeedbackItem]) -> dict[str, bytes]:
        """Encoded pictures by item id; items whose picture is gone are left out.

        Raises:
            AnnotationError: an import was damaged.
            StorageError: the log cannot be read.
        """
        streamed = [item for item in items if item.origin == "stream"]
        found = stream_pictures(self.config.log, streamed) if streamed else {}
        imported = [item for item in items if item.origin == "import"]
        return found | imported_pictures(self.config.store, imported)

    def describe(self, item: FeedbackItem) -> dict[str, Any]:
        """All facts of an item, in types that JSON knows."""
        decision = self.decisions.get(item.item_id)
        agreed = (
            None
            if item.reference is None
            else round(agreement_of(item, item.reference, self.classes.category_ids), 3)
        )
        names = [self.classes.name_of(one) for one in item.category_ids.tolist()]
        return {
            "item": item.item_id,
            "state": self.state(item),
            "user": item.user,
            "time": item.time.astimezone(UTC).isoformat(timespec="seconds"),
            "origin": item.origin,
            "kind": item.kind,
            "about": item.about,
            "note": item.note,
            "frame": f"{item.width}x{item.height}",
            "condition": item.condition,
            "picture": item.pictured,
            "objects": [
                {
                    "name": name,
                    "box": [round(side, 1) for side in box],
                    **({"crowd": True} if crowd else {}),
                }
                for name, box, crowd in zip(
                    names, item.boxes.tolist(), item.is_crowd.tolist(), strict=True
                )
            ],
            "answered_by": item.answered_by,
            "answer": None if item.answer is None else self._seen(item.answer),
            "agreement": agreed,
            "signs": list(self.signs[item.item_id]),
            "reviewer": decision.reviewer if decision else "",
            "reason": decision.reason if decision else "",
            "reviewed": decision.time.isoformat(timespec="seconds") if decision else "",
        }

    def _seen(self, found: Detections) -> list[str]:
        labels = found.at_least(AGREEMENT_SCORE).labels.tolist()
        ids = [*self.classes.category_ids, 0]
        return [self.classes.name_of(ids[min(label, len(ids) - 1)]) for label in labels]

    def statistics(self, now: datetime | None = None) -> dict[str, Any]:
        """Counts of everything: by state, by user, by sign, and today's by user.

        Args:
            now: the time, aware; this machine's without it.
        """
        today = (now or datetime.now(UTC)).astimezone(UTC).date()
        users: dict[str, Counter[str]] = {}
        for item in self.items:
            count = users.setdefault(item.user, Counter({state: 0 for state in STATES}))
            count[self.state(item)] += 1
            count["today"] += item.time.astimezone(UTC).date() == today
        signs = Counter(
            sign.partition(":")[0]
            for item in self.select("quarantined")
            for sign in self.signs[item.item_id]
        )
        return {
            "items": len(self.items),
            **{state: len(self.select(state)) for state in STATES},
            "per_day": self.config.per_day,
            "users": {user: dict(count) for user, count in sorted(users.items())},
            "signs_in_quarantine": dict(signs.most_common()),
        }
