"""Names of the metrics in a PromQL expression: what is left when everything else is taken out."""

from __future__ import annotations

import re

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACES = re.compile(r"\{[^{}]*\}")
_RANGES = re.compile(r"\[[^\[\]]*\]")
_LABELS = re.compile(
    r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)", re.IGNORECASE
)
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\()?")
_OPERATORS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "without", "on"}


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    text = _STRINGS.sub('""', expression)
    for pattern in (_BRACES, _RANGES, _LABELS):
        text = pattern.sub(" ", text)
    return {
        name
        for name, bracket in _NAME.findall(text)
        if not bracket and name.lower() not in _OPERATORS
    }
