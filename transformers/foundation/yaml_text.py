"""YAML from somebody else, and YAML for programs that know another version of it.

A short text must not become much nor be without end, whatever is wrong with a text is one kind of
error, and what is written is read as the same by YAML 1.1 (PyYAML) and 1.2 (kubectl, DVC).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_DEPTH = 50
_LONGEST_NUMBER = 1024
"""Bits of a whole number; Python does not even write one of 15,000."""
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
"""YAML 1.2's floats with an exponent; for YAML 1.1, 5e-4 is a text."""
FLOAT_BEGINS = list("-+0123456789.")


class Loader(_SafeLoader):
    """A safe loader without endless numbers."""


class Dumper(yaml.SafeDumper):
    """A safe dumper that quotes each text which is a number in YAML 1.2."""


def _number(loader: Any, node: yaml.ScalarNode) -> int:
    value = int(loader.construct_yaml_int(node))
    if value.bit_length() > _LONGEST_NUMBER:
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {value.bit_length()} bits", node.start_mark
        )
    return value


Loader.add_constructor(_INT, _number)
Dumper.add_implicit_resolver(_FLOAT, FLOAT, FLOAT_BEGINS)
Dumper.add_implicit_resolver(_INT, re.compile(r"0o[0-7]+$"), ["0"])


def read_yaml(text: str | bytes, loader: Any = Loader, references: bool = False) -> Any:
    """What a text of YAML holds; one document.

    Args:
        text: the text.
        loader: a safe one.
        references: whether it may refer to parts of itself.

    Raises:
        yaml.YAMLError: it is none, may grow to any size, or has a value that does not exist.
    """
    if not references:
        check_yaml(text)
    found = read_documents(text, loader)
    if len(found) > 1:
        raise yaml.YAMLError(f"it has {len(found)} documents, and one is asked for")
    return found[0] if found else None


def read_documents(text: str | bytes, loader: Any = Loader) -> list[Any]:
    """All documents of a text of YAML, which may refer to parts of it.

    Raises:
        yaml.YAMLError: it is none, or has a value that does not exist.
    """
    try:
        return list(yaml.load_all(text, loader))  # noqa: S506  # a safe one
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML's constructors fail by whatever their conversion raises
        raise yaml.YAMLError(f"a value of it cannot be: {error or type(error).__name__}") from error


def write_yaml(document: Any, width: int = 96) -> str:
    """A document as YAML, keys in their own order."""
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=width))


def check_yaml(text: str | bytes) -> None:
    """Refuse what a few bytes can blow up: references to other parts of the text, deep nesting.

    A list of nine references to a list of nine references, and so on, is billions of entries for
    whatever writes, copies or merges it.

    Raises:
        yaml.YAMLError: states which; or the text is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"*{event.anchor} refers to another part of it; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {_DEPTH}")
