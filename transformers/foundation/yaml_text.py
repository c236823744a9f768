"""YAML from somebody else: a short text must not become much, nor be without end."""

from __future__ import annotations

from typing import Any

import yaml

_DEPTH = 50
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_yaml(text: str | bytes) -> None:
    """Refuse what a few bytes can blow up: references to other parts of the text, deep nesting.

    A list of nine references to a list of nine references, and so on, is billions of entries for
    whatever writes, copies or merges it.

    Raises:
        yaml.YAMLError: states which; or the text is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"*{event.anchor} refers to another part of it; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {_DEPTH}")
