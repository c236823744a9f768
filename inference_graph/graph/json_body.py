"""A JSON body on its way through the graph: parsed at most once, and only when routing needs it."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, NoReturn


class Body:
    """The bytes of a request or of an answer.

    A Switch below a Switch reads the same bytes, and these hold a whole image: so the parsed
    document is kept.

    Attributes:
        data: as received; passed on unchanged.
    """

    def __init__(self, data: bytes) -> None:
        """Hold the bytes; nothing is parsed yet."""
        self.data = data

    @cached_property
    def document(self) -> Any:
        """The parsed JSON value.

        Raises:
            ValueError: no JSON as RFC 8259 has it; ``NaN`` and a nesting that is too deep to
                read are none.
        """
        try:
            return json.loads(self._text, parse_constant=_refuse)
        except RecursionError:
            raise ValueError("the JSON is nested too deep") from None

    @cached_property
    def is_json(self) -> bool:
        """Whether :attr:`document` can be read."""
        try:
            self.document  # noqa: B018 - reading it is the test, and the value is kept
        except ValueError:
            return False
        return True

    @cached_property
    def _text(self) -> str:
        # Go's decoder reads broken UTF-8 as U+FFFD and refuses a byte order mark, as this does.
        return self.data.decode("utf-8", "replace")

    def spliced(self) -> str:
        """The JSON text without white space around it, to stand inside another document."""
        return self._text.strip(" \t\r\n")


def merged(answers: dict[str, Body]) -> bytes:
    """One JSON object of the steps' answers, keys in alphabetical order as Go writes a map.

    Args:
        answers: valid JSON by step name; it is copied, not written anew, so no number loses digits.
    """
    parts = (f"{json.dumps(key)}:{answers[key].spliced()}" for key in sorted(answers))
    return ("{" + ",".join(parts) + "}").encode()


def predictions_as_instances(body: Body) -> Body:
    """A body of ``instances`` only, which are the body's ``predictions``.

    So one V1 model's answer is the next one's request. A body without predictions, or one that
    KServe's router cannot read as such, is passed on as it is.
    """
    if not body.is_json or not isinstance(body.document, dict):
        return body
    predictions, instances = (body.document.get(key) for key in ("predictions", "instances"))
    if not predictions or not isinstance(predictions, list):
        return body
    if not isinstance(instances, list | None):
        return body
    renamed = {"instances": predictions}
    return Body(json.dumps(renamed, ensure_ascii=False, separators=(",", ":")).encode())


def go_kind(value: Any) -> str:
    """What Go's decoder calls a JSON value that is no object, for its error text."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "number"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
