from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from log_samples import NOON, row
from processes import environment
from tiny_models import seen

from foundation.errors import InvalidInput
from inference_graph.prediction_log.columns import FEEDBACK, PREDICTIONS, to_batch
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.row import (
    SCHEMA,
    SessionSummary,
    agreement,
    answer_columns,
    shadow_columns,
)


def feedback(**fields: Any) -> Feedback:
    given = {"event_id": "e1", "time": NOON, "client": "cam", "kind": "correct"} | fields
    return Feedback(**given)


class TestAgreement:
    def test_worked_out(self) -> None:
        answer = seen(
            (0, 0, 10, 10, 0.9, 0),  # the shadow's first box: overlap 90 / 110
            (50, 50, 60, 60, 0.8, 1),  # the right place, another class
            (100, 0, 110, 10, 0.7, 0),  # overlap 40 / 160, too little
            (0, 0, 10, 10, 0.2, 0),  # too unsure to count
        )
        shadow = seen((1, 0, 11, 10, 0.9, 0), (50, 50, 60, 60, 0.9, 0), (106, 0, 116, 10, 0.5, 0))
        assert agreement(answer, shadow) == pytest.approx(2 * 1 / (3 + 3))

    def test_a_shadow_box_is_taken_once(self) -> None:
        twice = seen((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0))
        assert agreement(twice, seen((0, 0, 10, 10, 0.9, 0))) == pytest.approx(2 / 3)
        assert agreement(twice, twice) == 1.0

    def test_nothing_seen(self) -> None:
        one = seen((0, 0, 10, 10, 0.9, 0))
        assert agreement(seen(), seen()) == 1.0
        assert agreement(one, seen()) == agreement(seen(), one) == 0.0
        assert agreement(seen((0, 0, 5, 5, 0.24, 0)), seen()) == 1.0
        flat = seen((5, 5, 5, 5, 0.9, 0))
        assert agreement(flat, flat) == 0.0  # a box without area overlaps nothing

    def test_half_an_overlap_suffices(self) -> None:
        assert agreement(seen((0, 0, 10, 10, 0.9, 0)), seen((0, 0, 10, 5, 0.9, 0))) == 1.0
        assert agreement(seen((0, 0, 10, 10, 0.9, 0)), seen((0, 0, 10, 4.9, 0.9, 0))) == 0.0


def test_a_row_becomes_a_record() -> None:
    answer, shadow = seen((1, 2, 3, 4, 0.5, 7)), seen((1, 2, 3, 4, 0.75, 7), (5, 6, 7, 8, 0.5, 2))
    full = row(
        "e1",
        time=datetime(2026, 11, 21, 14, 30, 0, 123456, timezone(timedelta(hours=2))),
        session="cam-1",
        frame_id=2**40,
        rung="nano",
        answered_by="small",
        fallback="late",
        probabilities=(0.5, 0.25, 0.25),
        decode_ms=1.5,
        width=640,
        tags={"condition": "night", "site": "Zürich"},
        observation=np.arange(3, dtype=np.float32),
        **answer_columns(answer),
        **shadow_columns(answer, shadow, 120.0),
    )
    batch = to_batch(PREDICTIONS, [row("e0", error="no rung answered"), full])
    batch.validate(full=True)
    assert batch.schema == SCHEMA
    bare, record = batch.to_pylist()
    assert record["time"] == datetime(2026, 11, 21, 12, 30, 0, 123456, UTC)
    assert record["frame_id"] == 2**40
    assert record["boxes"] == [1, 2, 3, 4]
    assert record["labels"] == [7] and record["detections"] == 1
    assert record["shadow_boxes"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert record["agreement"] == pytest.approx(2 / 3)
    assert record["shadow_ms"] == 120.0 and record["shadow"] is True
    assert record["tags"] == [("condition", "night"), ("site", "Zürich")]
    assert record["observation"] == [0, 1, 2]
    assert record["probabilities"] == [0.5, 0.25, 0.25]
    unknown = {name for name, value in bare.items() if value is None}
    assert unknown == {
        "frame_id",
        "latency_weight",
        "decode_ms",
        "observe_ms",
        "decide_ms",
        "queue_ms",
        "detect_ms",
        "total_ms",
        "deadline_ms",
        "width",
        "height",
        "image_bytes",
        "brightness",
        "edge_density",
        "blur",
        "noise",
        "texts",
        "shadow_ms",
        "shadow_texts",
        "agreement",
        "observation",
        "image",
    }
    assert bare["error"] == "no rung answered" and bare["boxes"] == [] and bare["tags"] == []


def test_columns_are_those_pyarrow_makes_of_the_same_values() -> None:
    generator = np.random.default_rng(0)
    rows = []
    for index in range(300):
        count = int(generator.integers(0, 6))
        boxes = generator.uniform(0, 100, (count, 4)).astype(np.float32)
        rows.append(
            row(
                f"e{index}",
                total_ms=float(generator.choice([1.5, math.nan])),
                height=int(generator.integers(1, 9)) if index % 3 else None,
                boxes=boxes,
                scores=generator.uniform(0, 1, count).astype(np.float32),
                labels=np.arange(count),
                texts=[f"Zeile {n}" for n in range(count)] if index % 3 else None,
                shadow=bool(generator.integers(0, 2)),
                observation=generator.uniform(0, 1, 4) if index % 7 == 0 else None,
                tags={str(key): "ä" * key for key in range(count)},
            )
        )
    batch = to_batch(PREDICTIONS, rows)
    batch.validate(full=True)
    for name, kind in (("total_ms", pa.float64()), ("height", pa.int32()), ("shadow", pa.bool_())):
        plain = [getattr(one, name) for one in rows]
        assert batch[name].equals(pa.array(plain, kind, from_pandas=True))
    read = [one.texts for one in rows]
    assert batch["texts"].equals(pa.array(read, SCHEMA.field("texts").type))
    for name in ("boxes", "labels", "observation"):
        values = [getattr(one, name) for one in rows]
        flat = [None if value is None else np.ravel(value).tolist() for value in values]
        assert batch[name].equals(pa.array(flat, SCHEMA.field(name).type))
    tags = pa.array([list(one.tags.items()) for one in rows], SCHEMA.field("tags").type)
    assert batch["tags"].equals(tags)


def test_what_many_rows_are_searched_by_is_a_column_of_its_own() -> None:
    picture = b"\xff\xd8\x00 no UTF-8 \xff"
    rows = [row("e0"), row("e1", image=picture, tags={"condition": "rain"}), row("e2", image=b"")]
    batch = to_batch(PREDICTIONS, rows)
    batch.validate(full=True)
    assert batch["image"].equals(pa.array([None, picture, b""], pa.binary()))
    assert batch["image_kept"].to_pylist() == [False, True, True]
    assert batch["condition"].to_pylist() == ["", "rain", ""]


def test_only_sampled_observations_are_kept() -> None:
    rows = [row(f"e{index}", observation=[1.0]) for index in range(3)]
    batch = to_batch(PREDICTIONS, rows, lambda one: one.event_id == "e1")
    assert batch["observation"].to_pylist() == [None, [1.0], None]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event_id": ""}, "event id ''"),
        ({"event_id": "a b"}, "event id"),
        ({"event_id": "x" * 201}, "event id"),
        ({"time": datetime(2026, 1, 1)}, "no time zone"),
        ({"source": "mail"}, "source 'mail'"),
        ({"rung": "medium"}, "rung 'medium'"),
        ({"answered_by": "medium"}, "answered_by 'medium'"),
        ({"fallback": "tired"}, "fallback 'tired'"),
        ({"boxes": [1, 2, 3], "scores": [0.5], "labels": [1]}, "3 numbers of boxes"),
        ({"texts": ["milk"]}, "1 texts of 0 regions"),
        ({"shadow_texts": ["milk"]}, "1 texts of 0 regions"),
        ({"shadow_boxes": [1, 2, 3, 4]}, "4 numbers of boxes"),
    ],
)
def test_rows_that_could_not_be_read_back_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        row(**{"event_id": "e1"} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "praise"}, "kind 'praise'"),
        ({"note": "x" * 501}, "501 characters; 500 fit"),
        ({"kind": "confirm", "boxes": [[0, 0, 1, 1]], "labels": [1]}, "carries no boxes"),
        ({"boxes": [[0, 0, 1, 1]], "labels": []}, "do not belong together"),
        ({"boxes": [[0, 0, 0, 1]], "labels": [1]}, "x1 < x2"),
        ({"boxes": [[0, 0, math.nan, 1]], "labels": [1]}, "x1 < x2"),
        ({"boxes": [[0, 0, 1, 1]], "labels": [-1]}, "negative"),
        ({"boxes": [[0, 0, 1, 1]] * 301, "labels": [1] * 301}, "301 boxes"),
    ],
)
def test_feedback_that_cannot_be_used_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        feedback(**fields)


def test_the_same_feedback_has_the_same_key() -> None:
    one = feedback(boxes=[[0, 0, 1, 1]], labels=[2], note="a dog")
    again = feedback(
        boxes=np.array([[0, 0, 1, 1]], np.float32),
        labels=[2],
        note="a dog",
        time=NOON + timedelta(hours=1),
    )
    assert one.feedback_id == again.feedback_id and len(one.feedback_id) == 32
    others = (feedback(note="a dog"), feedback(kind="confirm"), feedback(client="other"))
    assert len({one.feedback_id, *(other.feedback_id for other in others)}) == 4
    record = to_batch(FEEDBACK, [one]).to_pylist()[0]
    assert record["feedback_id"] == one.feedback_id
    assert (record["boxes"], record["labels"], record["note"]) == ([0, 0, 1, 1], [2], "a dog")
    assert (record["image_kept"], record["image"], record["width"]) == (False, None, None)


def test_the_frame_lies_beside_the_feedback_and_does_not_change_its_key() -> None:
    bare, framed = feedback(), feedback(image=b"jpeg", width=1280, height=720)
    assert bare.feedback_id == framed.feedback_id
    record = to_batch(FEEDBACK, [framed]).to_pylist()[0]
    assert (record["image"], record["image_kept"]) == (b"jpeg", True)
    assert (record["width"], record["height"]) == (1280, 720)


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "x" * 101, "a\n"])
def test_a_session_is_no_path(name: str) -> None:
    with pytest.raises(InvalidInput, match="session"):
        SessionSummary(
            session=name, client="c", started=NOON, ended=NOON, frames=0, dropped=0, shares={}
        )


def test_logging_imports_no_pandas() -> None:
    """``pyarrow.array`` would, and stop a gateway for a second at its first answer."""
    program = (
        "import sys; from log_samples import row;"
        "from inference_graph.prediction_log.columns import PREDICTIONS, to_batch;"
        "import inference_graph.prediction_log.writer;"
        "to_batch(PREDICTIONS, [row('e', boxes=[1,2,3,4], scores=[1], labels=[1])]);"
        "sys.exit('pandas' in sys.modules)"
    )
    paths = environment()
    subprocess.run([sys.executable, "-c", program], env=paths, check=True, timeout=120)
