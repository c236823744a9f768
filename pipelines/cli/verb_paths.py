"""The paths of a verb are checked before it does anything.

What each is for stands in its annotation, see ``foundation.path_roles``.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

from foundation.path_roles import GivenPath, PathRole, claimed

LADDER_ROLE = PathRole("read")
"""A role of its own: the ladder that is named may have to be fetched first."""


def role_of(annotation: Any) -> PathRole | None:
    """What a parameter's path is for; None where it is no path."""
    parts = (*getattr(annotation, "__metadata__", ()), *typing.get_args(annotation))
    for part in parts:
        role = part if isinstance(part, PathRole) else role_of(part)
        if role is not None:
            return role
    return None


def checking_paths(
    name: str,
    parameters: Callable[[], Mapping[str, tuple[Any, Any]]],
    callback: Callable[..., Any],
    fetched_ladder: Callable[[str], str],
) -> Callable[..., Any]:
    """A verb that begins with a check of its paths.

    Args:
        name: what the verb is called, for messages and marks.
        parameters: finds annotation and default of each of its parameters, when the verb runs.
        callback: the verb.
        fetched_ladder: fetches the ladder that a text names; called when all paths are checked.
    """

    def checked(**values: Any) -> Any:
        given = []
        for parameter, (annotation, default) in parameters().items():
            value = values.get(parameter)
            if value is None:
                value = default
            role, several = role_of(annotation), isinstance(value, list | tuple)
            if role is not None and value is not None:
                option = f"--{parameter.replace('_', '-')}"
                given += [GivenPath(option, role, str(x)) for x in (value if several else [value])]
        with claimed(name, given):
            for one in given:
                if one.role is LADDER_ROLE:
                    values["ladder"] = fetched_ladder(one.text)
            return callback(**values)

    return checked
