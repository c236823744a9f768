"""The tasks that a ladder may be for: a table, and a folder for each.

A data set names its task (``Dataset.task``); the stages look it up here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from components.tasks import detection, ocr, speech
from components.tasks.contract import Task
from foundation.errors import InvalidInput

__all__ = ["TASKS", "Task", "task_named"]

TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for task in (detection.TASK, ocr.TASK, speech.TASK)}
)


def task_named(name: str) -> Task:
    """A task by its name; raises InvalidInput for an unknown one."""
    try:
        return TASKS[name]
    except KeyError:
        raise InvalidInput(
            f"task {name[:40]!r} is none of {', '.join(TASKS)}; give data of one of them"
        ) from None
