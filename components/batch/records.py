"""The published format of results: one JSON object per frame, with the gateway's detections.

``python -m components.batch.records docs/batch.schema.json`` writes its JSON Schema.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from inference_graph.detections import Detection


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: str = Field(description="Path of the image or video below the source.")
    frame: int = Field(ge=0, description="Number of the frame in its video; 0 for an image.")


class FrameRecord(_Record):
    """What was found on one frame, by falling score."""

    type: Literal["detections"]
    seconds: float = Field(description="Time stamp in the video, from its first frame; 0 for one.")
    width: int = Field(description="Of the frame, pixels.")
    height: int = Field(description="Of the frame, pixels.")
    rung: str = Field(description="The rung that answered.")
    probabilities: list[float] = Field(description="Of the rungs, cheapest first.")
    detections: list[Detection]
    policy_revision: str = Field(description="Start of the policy's SHA-256; empty without one.")
    weights_revision: str = Field(description="Start of the SHA-256 of the rung's weights.")


class ProblemRecord(_Record):
    """A frame, or the rest of a video, without an answer."""

    type: Literal["error"]
    status: int = Field(description="The reason as an HTTP status.")
    detail: str = Field(description="One sentence: what is wrong.")


Record = Annotated[FrameRecord | ProblemRecord, Field(discriminator="type")]


def text() -> str:
    """The JSON Schema of a line."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of the results of gearshift batch",
        **TypeAdapter(Record).json_schema(),
    }
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
