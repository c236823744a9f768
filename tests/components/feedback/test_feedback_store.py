from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feedback_samples import NOON, answer, correction, key, picture

from components.feedback.decisions import DECISIONS_FILE, decide, latest, read_decisions
from components.feedback.listing import feedback_table
from components.feedback.store import FeedbackConfig, FeedbackStore
from foundation.audit_log import AuditLog, read_entries
from foundation.errors import ConfigurationError, Forbidden, InvalidInput

OpenStore = Callable[..., FeedbackStore]
Logged = Callable[..., None]


class TestItems:
    def test_a_correction_with_its_frame(self, open_store: OpenStore, logged: Logged) -> None:
        given = correction(note="a car", width=1280, height=960, boxes=[80, 80, 400, 400])
        logged([answer(tags={"condition": "night"})], [given])
        store = open_store()
        (item,) = store.items
        assert (item.item_id, item.user, item.kind) == (given.feedback_id, "anna", "correct")
        assert (item.origin, item.about, item.note) == ("stream", key(0), "a car")
        assert item.boxes.tolist() == [[80, 80, 400, 400]]
        assert item.category_ids.tolist() == [3]
        assert (item.condition, item.blockers) == ("night", ())
        assert item.scaled_boxes(160, 120).tolist() == [[10, 10, 50, 50]]
        assert store.pictures([item]) == {item.item_id: picture(0)}
        assert store.state(item) == "quarantined"

    def test_a_confirmation_takes_the_boxes_of_its_answer(
        self, open_store: OpenStore, logged: Logged
    ) -> None:
        logged([answer()], [correction(kind="confirm", boxes=[], labels=[])])
        (item,) = open_store().items
        # The second box of the answer scored 0.2, which is below what counts as seen.
        assert item.boxes.tolist() == [[10, 10, 50, 50]]
        assert item.category_ids.tolist() == [3]

    def test_the_frame_may_lie_with_the_answer(self, open_store: OpenStore, logged: Logged) -> None:
        logged([answer(image=picture(5))], [correction(image=None, width=None, height=None)])
        store = open_store()
        (item,) = store.items
        assert (item.width, item.height, item.pictured) == (160, 120, True)
        assert store.pictures([item]) == {item.item_id: picture(5)}

    @pytest.mark.parametrize(
        ("rows", "given", "words"),
        [
            ([answer()], correction(image=None), "its frame is not kept"),
            ([], correction(kind="confirm", boxes=[], labels=[]), "not in the log any more"),
            ([answer()], correction(labels=[3]), "label 3 is no class of the ladder, which has 3"),
        ],
    )
    def test_what_can_never_be_used_states_why(
        self, open_store: OpenStore, logged: Logged, rows: Any, given: Any, words: str
    ) -> None:
        logged(rows, [given])
        store = open_store()
        (item,) = store.items
        assert words in item.blockers[0]
        assert store.signs[item.item_id][0] == f"unusable: {item.blockers[0]}"
        with pytest.raises(InvalidInput, match="cannot be used"):
            decide(store.config.store, [item], "approved", "bert", "")

    def test_answers_are_found_in_their_hours(self, open_store: OpenStore, logged: Logged) -> None:
        early = NOON - timedelta(days=40, minutes=1)
        foreign = "2f1c-kserve"  # no gateway's id: logged within the hour before
        rows = [
            answer(1, event_id=key(1, early), time=early, tags={"condition": "fog"}),
            # The row of a shadowed answer is written later, here in the next hour.
            answer(
                2,
                event_id=key(2, NOON - timedelta(seconds=1)),
                time=NOON,
                tags={"condition": "rain"},
            ),
            answer(
                3, event_id=foreign, time=NOON - timedelta(minutes=50), tags={"condition": "blur"}
            ),
        ]
        logged(rows, [correction(0, event_id=row.event_id) for row in rows])
        found = {item.about: item.condition for item in open_store().items}
        assert found == {rows[0].event_id: "fog", rows[1].event_id: "rain", foreign: "blur"}

    def test_an_empty_place_is_an_empty_store(self, open_store: OpenStore) -> None:
        store = open_store()
        assert store.items == () and store.statistics()["items"] == 0
        assert "no feedback here" in feedback_table([])
        assert open_store(log="").items == ()

    def test_items_are_found_by_how_their_ids_begin(
        self, open_store: OpenStore, logged: Logged
    ) -> None:
        logged([], [correction(number) for number in range(30)])
        store = open_store()
        one = store.items[7]
        assert store.find([one.item_id[:12], one.item_id]) == [one]
        with pytest.raises(InvalidInput, match="no item begins with 'nothing'"):
            store.find(["nothing"])
        firsts = [item.item_id[0] for item in store.items]
        shared = max(firsts, key=firsts.count)  # thirty ids, sixteen digits
        with pytest.raises(InvalidInput, match=f"{firsts.count(shared)} items begin with"):
            store.find([shared])
        with pytest.raises(InvalidInput, match="no state 'new'"):
            store.select("new")


class TestSigns:
    @staticmethod
    def signs(store: FeedbackStore, about: str) -> list[str]:
        return [
            sign.partition(":")[0]
            for item in store.items
            if item.about == about
            for sign in store.signs[item.item_id]
        ]

    def test_against_the_reference(self, open_store: OpenStore, logged: Logged) -> None:
        shadow = {"shadow": True, "shadow_scores": [0.8], "shadow_labels": [1]}
        logged(
            [
                answer(0, **shadow, shadow_boxes=[11, 11, 51, 51]),
                answer(1, **shadow, shadow_boxes=[100, 10, 150, 60]),
                answer(2),
                answer(3, answered_by="large", boxes=[12, 10, 50, 50], scores=[0.9], labels=[1]),
                answer(4, answered_by="large", boxes=[10, 10, 50, 50], scores=[0.9], labels=[0]),
            ],
            [correction(number) for number in range(5)],
        )
        store = open_store()
        assert [self.signs(store, key(number)) for number in range(5)] == [
            [],
            ["far"],  # elsewhere
            ["unchecked"],
            [],  # large answered itself
            ["far"],  # the right place, another class
        ]
        agreed = {item.about: store.describe(item)["agreement"] for item in store.items}
        assert agreed == {key(0): 1.0, key(1): 0.0, key(2): None, key(3): 1.0, key(4): 0.0}
        assert self.signs(open_store(least_agreement=0.0), key(1)) == []

    def test_users_who_contradict_each_other(self, open_store: OpenStore, logged: Logged) -> None:
        seen = {"answered_by": "large", "boxes": [10, 10, 50, 50], "scores": [0.9], "labels": [1]}
        logged(
            [answer(0, **seen), answer(1, **seen)],
            [
                correction(0),
                correction(0, client="bert"),
                correction(1),
                correction(1, client="bert", boxes=[90, 60, 150, 110]),
            ],
        )
        store = open_store()
        assert self.signs(store, key(0)) == []
        assert sorted(self.signs(store, key(1))) == ["contradicted", "contradicted", "far"]

    def test_boxes_that_cannot_be_right(self, open_store: OpenStore, logged: Logged) -> None:
        boxes = [[0, 0, 200, 50], [5, 5, 7, 40]]
        logged([], [correction(0, boxes=boxes, labels=[0, 0])])
        (item,) = (store := open_store()).items
        assert [sign.partition(":")[0] for sign in store.signs[item.item_id]] == [
            "unchecked",
            "outside",
            "tiny",
        ]

    def test_a_crowd_where_the_reference_saw_nothing(
        self, open_store: OpenStore, logged: Logged
    ) -> None:
        many = [[x, 10, x + 8, 40] for x in range(0, 110, 10)]
        logged(
            [answer(0, answered_by="large", boxes=[0, 10, 8, 40], scores=[0.9], labels=[0])],
            [correction(0, boxes=many, labels=[0] * 11)],
        )
        assert self.signs(open_store(), key(0)) == ["far", "crowded"]

    def test_a_user_whose_feedback_was_often_rejected(
        self, open_store: OpenStore, logged: Logged
    ) -> None:
        logged([], [correction(number) for number in range(5)])
        store = open_store()
        decide(store.config.store, store.items[:2], "rejected", "bert", "wrong")
        decide(store.config.store, store.items[2:3], "approved", "bert", "")
        assert "doubtful user" not in self.signs(open_store(), key(4))  # three are too few
        decide(store.config.store, store.items[3:4], "approved", "bert", "")
        assert self.signs(open_store(), key(4)) == ["unchecked", "doubtful user"]


class TestDecisions:
    @pytest.fixture
    def store(self, open_store: OpenStore, logged: Logged) -> FeedbackStore:
        logged([], [correction(0), correction(1, client="bert")])
        return open_store()

    def test_who_when_and_why_are_kept(self, store: FeedbackStore, open_store: OpenStore) -> None:
        place = store.config.store
        new = decide(place, store.items[:1], "approved", " carl ", "looks\nright", NOON)
        assert read_decisions(place) == new
        (one,) = new
        assert (one.item, one.decision) == (store.items[0].item_id, "approved")
        assert (one.reviewer, one.reason, one.time) == ("carl", "looks right", NOON)
        facts = open_store().describe(store.items[0])
        assert (facts["state"], facts["reviewer"], facts["reason"]) == (
            "approved",
            "carl",
            "looks right",
        )

    def test_decisions_are_in_the_audit_log_too(self, store: FeedbackStore, tmp_path: Path) -> None:
        place, log = store.config.store, AuditLog(tmp_path / "audit.jsonl")
        decide(place, store.items, "approved", "carl", "", NOON, log)
        decide(place, store.items, "approved", "carl", "", NOON, log)
        decide(place, store.items[:1], "rejected", "dora", "no car", NOON, log)
        names = [item.item_id for item in store.items]
        assert [(one.who, one.what, one.about) for one in read_entries(log.path)] == [
            *(("carl", "feedback.approved", name) for name in names),
            ("dora", "feedback.rejected", names[0]),
        ]
        assert read_entries(log.path)[-1].figures == {"user": "anna", "reason": "no car"}

    def test_deciding_the_same_again_writes_nothing(self, store: FeedbackStore) -> None:
        place = store.config.store
        assert len(decide(place, store.items, "approved", "carl", "")) == 2
        assert decide(place, store.items, "approved", "dora", "") == []
        assert len((place / DECISIONS_FILE).read_text().splitlines()) == 2

    def test_another_verdict_overrules_and_the_first_stays(
        self, store: FeedbackStore, open_store: OpenStore
    ) -> None:
        place, items = store.config.store, store.items[:1]
        decide(place, items, "rejected", "carl", "blurred")
        with pytest.raises(InvalidInput, match="was rejected by carl; say why"):
            decide(place, [*store.items[1:], *items], "approved", "dora", "")
        assert len(read_decisions(place)) == 1  # all or none
        decide(place, items, "approved", "dora", "the car is plain to see")
        decisions = read_decisions(place)
        assert [(one.decision, one.reviewer) for one in decisions] == [
            ("rejected", "carl"),
            ("approved", "dora"),
        ]
        assert latest(decisions)[items[0].item_id].reviewer == "dora"
        assert [item.item_id for item in open_store().select("approved")] == [items[0].item_id]

    def test_users_cannot_review_their_own(self, store: FeedbackStore) -> None:
        with pytest.raises(Forbidden, match="somebody else has to review it"):
            decide(store.config.store, store.items, "approved", "Anna", "")
        assert read_decisions(store.config.store) == []

    @pytest.mark.parametrize(
        ("reviewer", "verdict", "reason", "words"),
        [
            ("", "approved", "", "--reviewer"),
            ("a\nb", "approved", "", "--reviewer"),
            ("x" * 65, "approved", "", "--reviewer"),
            ("carl", "rejected", " ", "--reason"),
            ("carl", "approved", "x" * 501, "501 characters"),
        ],
    )
    def test_what_is_missing_is_named(
        self, store: FeedbackStore, reviewer: str, verdict: Any, reason: str, words: str
    ) -> None:
        with pytest.raises(InvalidInput, match=words):
            decide(store.config.store, store.items, verdict, reviewer, reason)

    def test_a_line_cut_short_by_a_crash_is_passed_over(self, store: FeedbackStore) -> None:
        place = store.config.store
        decide(place, store.items[:1], "approved", "carl", "")
        with (place / DECISIONS_FILE).open("a") as file:
            file.write('{"item": "half')
        assert len(read_decisions(place)) == 1
        decide(place, store.items[1:], "approved", "carl", "")
        assert len(read_decisions(place)) == 2

    def test_a_damaged_line_is_named(self, store: FeedbackStore) -> None:
        place = store.config.store
        place.mkdir()
        (place / DECISIONS_FILE).write_text('{"item": "x", "decision": "maybe"}\n')
        with pytest.raises(InvalidInput, match="decisions.jsonl line 1 is no decision"):
            read_decisions(place)
        (place / DECISIONS_FILE).write_text("nonsense\n")
        with pytest.raises(InvalidInput, match="decisions.jsonl line 1 is no JSON object"):
            read_decisions(place)


def test_statistics_count_users_and_signs(open_store: OpenStore, logged: Logged) -> None:
    before = NOON - timedelta(days=1)
    logged([], [correction(0), correction(1, time=before), correction(2, client="bert")])
    store = open_store()
    decide(store.config.store, store.items[:1], "approved", "carl", "")
    figures = open_store().statistics(NOON)
    assert (figures["items"], figures["quarantined"], figures["approved"]) == (3, 2, 1)
    assert figures["users"] == {
        "anna": {"quarantined": 1, "approved": 1, "rejected": 0, "today": 1},
        "bert": {"quarantined": 1, "approved": 0, "rejected": 0, "today": 1},
    }
    assert figures["signs_in_quarantine"] == {"unchecked": 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"least_agreement": 1.5}, "least_agreement"),
        ({"per_day": 0}, "per_day"),
        ({"store": Path()}, "store"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        FeedbackConfig(**options)


def test_the_table_has_a_line_for_each(open_store: OpenStore, logged: Logged) -> None:
    logged([], [correction(0)])
    store = open_store()
    text = feedback_table([store.describe(item) for item in store.items])
    lines = text.splitlines()
    assert lines[1].split()[:3] == [store.items[0].item_id[:8], "quarantined", "anna"]
    assert lines[2].strip().startswith("! unchecked")
    assert np.all([len(line) < 110 for line in lines])
