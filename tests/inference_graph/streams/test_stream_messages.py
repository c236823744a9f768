"""The published schemas state what the code does."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from kafka_values import ANSWERED, FRAME, held

from foundation.errors import InvalidInput
from inference_graph.gateway.event_ids import EventIds
from inference_graph.streams.dead_letters import dead_letter
from inference_graph.streams.events import detections_event, skipped_event
from inference_graph.streams.messages import OutgoingMessage
from inference_graph.streams.schemas import asyncapi, text

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "streams.asyncapi.json"


def test_the_document_is_the_one_in_docs() -> None:
    assert DOCUMENT.read_text("utf-8") == text(), (
        "run python -m inference_graph.streams.schemas docs/streams.asyncapi.json"
    )


@pytest.mark.parametrize("name", ["detections", "skipped"])
def test_what_is_published_has_its_schema(name: str) -> None:
    made: OutgoingMessage = (
        detections_event("out", "/worker", FRAME, ANSWERED, 0.25)
        if name == "detections"
        else skipped_event(
            "out", "/worker", FRAME, event_id="e", reason="age", age_seconds=9.0, detail="old"
        )
    )
    described = asyncapi()["components"]["messages"][name]
    value = json.loads(made.value or b"")
    jsonschema.validate(value, described["payload"])
    headers = {key: content.decode() for key, content in made.headers}
    jsonschema.validate(headers, described["headers"])
    jsonschema.validate((made.key or b"").decode(), described["bindings"]["kafka"]["key"])
    assert value["age_ms"] in (250.0, 9000.0)


def test_a_dead_letter_leaves_a_long_value_behind() -> None:
    message = held(b"x" * 600_000)
    letter = dead_letter("dead", message, InvalidInput("no image"))
    headers = {key: content.decode() for key, content in letter.headers}
    assert letter.value is None and "at the offset named" in headers["gearshift-value"]
    assert headers["ce_id"] == "7"
    described = asyncapi()["components"]["messages"]["deadLetter"]
    jsonschema.validate(headers, described["headers"])
    assert dead_letter("dead", held(b"x"), InvalidInput("no image")).value == b"x"


def test_a_message_has_the_same_event_id_at_each_delivery() -> None:
    ids, others = EventIds("a key"), EventIds("another")
    assert ids.of("a") == EventIds("a key").of("a") != ids.of("b")
    assert ids.knows(ids.of("a")) and not others.knows(ids.of("a"))
