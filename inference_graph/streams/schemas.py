"""The published schemas of the topics: an AsyncAPI document with a JSON Schema of each message.

``python -m inference_graph.streams.schemas docs/streams.asyncapi.json`` writes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from inference_graph.gateway.feedback import FeedbackBody
from inference_graph.streams.events import DetectionsEvent, ReferenceValue, SkippedEvent
from inference_graph.streams.messages import (
    CAMERA_LENGTH,
    DETECTIONS,
    FEEDBACK,
    FRAME,
    JSON_TYPE,
    REFERENCE_TYPE,
    SKIPPED,
    VERSION,
)
from inference_graph.streams.minutes import MINUTE, MinuteEvent

_CAMERA = {
    "type": "string",
    "pattern": f"^[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{CAMERA_LENGTH - 1}}}$",
    "description": "The camera: its frames are answered in order.",
}
_DEAD_HEADERS = {
    "gearshift-error": "Why the message cannot be used.",
    "gearshift-status": "The same as an HTTP status.",
    "gearshift-topic": "Topic of the message.",
    "gearshift-partition": "Its partition.",
    "gearshift-offset": "Its offset.",
    "gearshift-value": "There if the value is too long for this topic and left out.",
    "gearshift-headers": "There if the headers are too long for this topic and left out.",
}
_WHERE_LEFT_OUT = ("gearshift-value", "gearshift-headers")


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document."""
    messages = {
        "frame": _message(FRAME, "image/jpeg", {"type": "string", "format": "binary"}),
        "reference": _message(FRAME, REFERENCE_TYPE, _schema(ReferenceValue)),
        "detections": _message(DETECTIONS, JSON_TYPE, _schema(DetectionsEvent)),
        "skipped": _message(SKIPPED, JSON_TYPE, _schema(SkippedEvent)),
        "feedback": _message(FEEDBACK, JSON_TYPE, _schema(FeedbackBody)),
        "minute": _message(MINUTE, JSON_TYPE, _schema(MinuteEvent)),
        "deadLetter": {
            "summary": "A message as it came, with the reason in its headers.",
            "headers": {
                "type": "object",
                "properties": {
                    name: {"type": "string", "description": text}
                    for name, text in _DEAD_HEADERS.items()
                },
                "required": [name for name in _DEAD_HEADERS if name not in _WHERE_LEFT_OUT],
            },
        },
    }
    topics = {
        "frames": ("receive", ["frame", "reference"]),
        "detections": ("send", ["detections", "skipped"]),
        "dead-letters": ("send", ["deadLetter"]),
        "feedback": ("receive", ["feedback"]),
        "prepared": ("send", ["frame", "reference"]),
        "minutes": ("send", ["minute"]),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Gearshift over Kafka",
            "version": f"{VERSION}.0.0",
            "description": "CloudEvents 1.0 in binary mode. Read with "
            "isolation.level=read_committed: answers and offsets are one transaction.",
        },
        "channels": {
            topic: {
                "address": topic,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            }
            for topic, (_, names) in topics.items()
        },
        "operations": {
            f"{action}-{topic}": {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}
            for topic, (action, _) in topics.items()
        },
        "components": {"messages": messages},
    }


def _message(kind: str, content_type: str, payload: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": 200}
    headers = {
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"const": kind},
        "ce_id": text,
        "ce_source": text,
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string"},
    }
    required = [name for name in headers if name != "ce_specversion"]
    key = {"type": "string"} if kind == FEEDBACK else _CAMERA
    return {
        "contentType": content_type,
        "headers": {"type": "object", "properties": headers, "required": required},
        "payload": payload,
        "bindings": {"kafka": {"key": key}},
    }


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def text() -> str:
    """The document as JSON."""
    return json.dumps(asyncapi(), indent=1) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
